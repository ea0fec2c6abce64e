"""Keys matched and figures compared: nothing is guessed."""

from ledger.core.connections import Connection, Gateway
from ledger.core.matching import DayVerdict, Link, Matched, VendorKey, compare, match
from ledger.core.money import USD

A, B, C = "a" * 64, "b" * 64, "c" * 64


def account(**said: object) -> Connection:
    return Connection(connection_id="or", gateway=Gateway.OPENROUTER, **said)  # type: ignore[arg-type]


def look(theirs: list[VendorKey], ours: dict[str, list[str]], *, only: bool = False, **said: object) -> Matched:
    return match(theirs, ours, account(**said), only=only)


def test_a_key_known_by_its_hash_gains_its_name_and_one_known_by_its_name_gains_its_hash() -> None:
    found = look([VendorKey(credential=A, name="Agentic Coding"), VendorKey(credential=B, name="docs")], {"coder": [A], "docs": []})
    assert found.links == [Link("coder", (A, "Agentic Coding")), Link("docs", (B,))]
    assert look([VendorKey(credential=A, name="x")], {"coder": [A, "x"]}).links == []


def test_the_connections_map_says_whose_a_name_is() -> None:
    keys = {"Agentic Coding": "coder"}
    assert look([VendorKey(credential=A, name="Agentic Coding")], {"coder": []}, keys=keys).links == [Link("coder", (A, "Agentic Coding"))]
    found = look([VendorKey(credential=A, name="Agentic Coding")], {"other": [A], "coder": []}, keys=keys)
    assert found.links == [], "a hash is certain, and the name stays the map's"


def test_a_name_that_two_keys_share_is_nobodys_and_is_taken_away_where_it_was_given() -> None:
    theirs = [VendorKey(credential=A, name="bot"), VendorKey(credential=B, name="bot")]
    found = look(theirs, {"one": [A, "bot"], "bot": []})
    assert found.links == [Link("one", (A,))]
    assert found.ambiguous == {"bot": [A, B]} and [key.credential for key in found.unknown] == [B]


def test_unknown_keys_are_adopted_only_where_the_connection_says_so_under_ids_of_their_own() -> None:
    theirs = [VendorKey(credential=A, name="bot", workspace="w9"), VendorKey(credential=B, name="bot"), VendorKey(credential=C, name="new")]
    assert look(theirs, {}).links == [] and len(look(theirs, {}).unknown) == 3
    found = look(theirs, {}, adopt_keys=True, workspaces={"w9": "research"})
    assert found.links == [
        Link(f"bot-{A[:8]}", (A,), "research", True), Link(f"bot-{B[:8]}", (B,), None, True), Link("new", (C,), None, True),
    ]  # fmt: skip
    assert found.unknown == []


def test_what_is_not_there_any_more_is_said_hashes_only_where_no_other_connection_could_have_them() -> None:
    ours = {"coder": [A, B]}
    assert look([VendorKey(credential=A, name="x")], ours, only=True, keys={"gone": "coder"}).vanished == ["gone", B]
    assert look([VendorKey(credential=A, name="x")], ours, keys={"gone": "coder"}).vanished == ["gone"]


def test_figures_are_the_same_within_a_doubles_precision_and_a_nano_a_call_and_no_more() -> None:
    owners = {A: "coder", "coder": "coder"}
    theirs = {(A, 1): 10 * USD + 3, (A, 2): 10 * USD, (A, 3): 5, (B, 1): 7}
    ours = {("coder", 1): (10 * USD, 2), ("coder", 2): (9 * USD, 2), ("coder", 4): (4 * USD, 1)}
    assert [(line.day, line.key, line.verdict) for line in compare(theirs, ours, owners)] == [
        (1, B, DayVerdict.UNATTRIBUTED), (1, "coder", DayVerdict.MATCHED), (2, "coder", DayVerdict.MISSING),
        (3, "coder", DayVerdict.MISSING), (4, "coder", DayVerdict.EXTRA),
    ]  # fmt: skip


def test_two_credentials_of_one_key_add_up() -> None:
    (line,) = compare({(A, 1): 3 * USD, (B, 1): 4 * USD}, {("coder", 1): (7 * USD, 5)}, {A: "coder", B: "coder"})
    assert (line.theirs, line.verdict) == (7 * USD, DayVerdict.MATCHED)
