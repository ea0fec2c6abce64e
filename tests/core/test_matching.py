"""Keys matched and figures compared: nothing is guessed."""

from ledger.core.connections import Connection, Gateway
from ledger.core.matching import DayVerdict, Line, Link, Matched, VendorKey, compare, match
from ledger.core.money import USD, Nanos

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


def test_a_name_that_is_another_keys_here_stays_there_and_a_key_is_not_its_own_credential() -> None:
    """S1: a hash says whose the key is, and its name there changes nothing that stands here."""
    theirs = [VendorKey(credential=A, name="docs"), VendorKey(credential=B, name="coder"), VendorKey(credential=C, name="")]
    assert look(theirs, {"coder": [A], "docs": ["B"], "pilot": [C]}).links == [Link("coder", (A, B))]


def test_a_map_may_name_a_key_that_is_not_here_yet_and_puts_it_in_its_workspace() -> None:
    """S8."""
    (theirs, said) = [VendorKey(credential=A, name="bot", workspace="w9")], {"keys": {"bot": "robot"}, "workspaces": {"w9": "research"}}
    assert look(theirs, {"bot": []}, **said).links == [Link("robot", (A,), "research", True)]
    assert look(theirs, {"bot": [], "robot": ["old"]}, **said).links == [Link("robot", ("old", A))]


def test_an_id_is_at_most_128_characters_and_a_longer_name_is_no_credential() -> None:
    """S1."""
    fit, long = "n" * 128, "m" * 129
    assert look([VendorKey(credential=A, name=fit), VendorKey(credential=B, name=long)], {"a": [A], "b": [B]}).links == [
        Link("a", (A, fit))
    ]
    theirs = [VendorKey(credential=A, name=fit), VendorKey(credential=B, name=long), VendorKey(credential=C, name="")]
    assert [link.key for link in look(theirs, {}, adopt_keys=True).links] == [fit, f"{'m' * 119}-{B[:8]}", f"key-{C[:8]}"]
    taken = look([VendorKey(credential=A, name="bot")], {"other": ["bot"]}, adopt_keys=True, keys={"bot": "other"})
    assert taken.links == [Link("other", ("bot", A))]


def test_a_name_that_two_keys_share_is_nobodys_and_is_taken_away_where_it_was_given() -> None:
    theirs = [VendorKey(credential=A, name="bot"), VendorKey(credential=B, name="bot")]
    found = look(theirs, {"one": [A, "bot"], "bot": []})
    assert found.links == [Link("one", (A,))]
    assert found.ambiguous == {"bot": [A, B]} and [key.credential for key in found.unknown] == [B]


def test_what_is_ambiguous_is_told_by_name_each_with_the_hashes_that_share_it() -> None:
    """S8."""
    theirs = [VendorKey(credential=name * 64, name=twice) for twice in "hgfe" for name in (twice, twice.upper())]
    found = look([*theirs, VendorKey(credential=A, name="own")], {}).ambiguous
    assert list(found.items()) == [(name, [name * 64, name.upper() * 64]) for name in "efgh"]


def test_an_id_that_was_just_given_to_one_key_is_not_given_to_another_of_that_name() -> None:
    """S1: two keys that became one would be stopped together (K5)."""
    theirs = [VendorKey(credential=A, name="bot"), VendorKey(credential=B, name="bot"), VendorKey(credential=C, name=f"bot-{A[:8]}")]
    ids = [link.key for link in look(theirs, {}, adopt_keys=True).links]
    assert ids == [f"bot-{A[:8]}", f"bot-{B[:8]}", f"bot-{A[:8]}-{C[:8]}"]


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
    assert look([VendorKey(credential=A, name="x")], ours, keys={"gone": "coder", "x": "coder"}).vanished == ["gone"]


def test_figures_are_the_same_within_a_doubles_precision_and_a_nano_a_call_and_no_more() -> None:
    owners = {A: "coder", "coder": "coder"}
    theirs = {(A, 1): 10 * USD + 3, (A, 2): 10 * USD, (A, 3): 5, (B, 1): 7}
    ours = {("coder", 1): (10 * USD, 2), ("coder", 2): (9 * USD, 2), ("coder", 4): (4 * USD, 1)}
    assert [(line.day, line.key, line.verdict) for line in compare(theirs, ours, owners)] == [
        (1, B, DayVerdict.UNATTRIBUTED), (1, "coder", DayVerdict.MATCHED), (2, "coder", DayVerdict.MISSING),
        (3, "coder", DayVerdict.MISSING), (4, "coder", DayVerdict.EXTRA),
    ]  # fmt: skip


def test_a_doubles_precision_is_a_millionth_of_a_millionth_and_a_nano_a_call_and_one_more() -> None:
    """Whichever of the two is more; what nobody here knows has no figures of ours, and lines come by day and key."""
    for counted, requests, most in ((5 * USD, 0, 1), (5 * USD, 3, 4), (3000 * USD, 2, 6)):
        for apart, verdict in (
            (most, DayVerdict.MATCHED),
            (-most, DayVerdict.MATCHED),
            (most + 1, DayVerdict.MISSING),
            (-most - 1, DayVerdict.EXTRA),
        ):
            (line,) = compare({(A, 1): counted}, {("coder", 1): (counted - apart, requests)}, {A: "coder"})
            assert (line.verdict, line.ours, line.requests) == (verdict, counted - apart, requests)
    (alone,) = compare({(A, 1): 2}, {}, {A: "coder"})
    assert alone == Line("coder", 1, Nanos(2), Nanos(0), 0, DayVerdict.MISSING)
    strange = compare({(B, 2): 9, (A, 2): 1, (B, 1): 7}, {}, {})
    assert [(line.day, line.key, line.theirs, line.ours, line.requests) for line in strange] == [
        (1, B, 7, 0, 0),
        (2, A, 1, 0, 0),
        (2, B, 9, 0, 0),
    ]


def test_two_credentials_of_one_key_add_up() -> None:
    (line,) = compare({(A, 1): 3 * USD, (B, 1): 4 * USD}, {("coder", 1): (7 * USD, 5)}, {A: "coder", B: "coder"})
    assert (line.theirs, line.verdict) == (7 * USD, DayVerdict.MATCHED)
