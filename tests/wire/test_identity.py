"""J2: the identity of (org, source, id)."""

from datetime import UTC, datetime
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from ledger.wire.identity import identity

MILLIS = st.integers(0, 2**48 - 1)
BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def uuid7(millis: int, rest: int) -> str:
    digits = f"{millis:012x}7{rest % 2**76:019x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def ulid(millis: int, rest: int) -> str:
    number = millis << 80 | rest % 2**80
    return "".join(BASE32[number >> 5 * place & 31] for place in range(25, -1, -1))


@given(MILLIS, st.integers(0, 2**80 - 1))
def test_an_id_that_carries_its_time_begins_with_it(millis: int, rest: int) -> None:
    """So that new identities lie together in an index."""
    for event_id in (uuid7(millis, rest), ulid(millis, rest)):
        found = identity("acme", "gateway", event_id)
        assert len(found) == 16
        assert found[:6] == millis.to_bytes(6, "big")


def test_a_real_uuid7_and_ulid_begin_with_their_time() -> None:
    """The examples of RFC 9562 and of the ULID specification."""
    millis = int(datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC).timestamp() * 1000)
    assert identity("o", "s", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F")[:6] == millis.to_bytes(6, "big")
    assert identity("o", "s", "01ARZ3NDEKTSV4RRFFQ69G5FAV")[:6] == (1469922850259).to_bytes(6, "big")


@given(st.text(max_size=40))
def test_any_id_has_an_identity(event_id: str) -> None:
    assert len(identity("acme", "gateway", event_id.encode(errors="replace").decode())) == 16


@given(st.text("0123456789abcdef- 7xG", min_size=36, max_size=36), st.text(BASE32 + "ILOUa", min_size=26, max_size=26))
def test_an_id_that_only_looks_as_if_it_had_a_time_has_an_identity(like_uuid: str, like_ulid: str) -> None:
    assert len(identity("o", "s", like_uuid[:14] + "7" + like_uuid[15:])) == len(identity("o", "s", like_ulid)) == 16


def test_distinct_triples_never_share_an_identity() -> None:
    """A large sample: plain ids, ids of the same millisecond, and triples that only their borders tell apart."""
    ids = [f"e{n}" for n in range(20_000)] + [uuid7(5, n) for n in range(20_000)] + [ulid(5, n) for n in range(20_000)]
    triples = {(org, source, event_id) for org, source, event_id in product(("a", "ab"), ("s", "bs"), ids)}
    triples |= {
        ("a", "b", "cd"),
        ("a", "bc", "d"),
        ("ab", "c", "d"),
        ("", "abc", "d"),
        ("a", "", "bcd"),
        ("abcd", "", ""),
    }
    assert len({identity(*triple) for triple in triples}) == len(triples)


def test_orgs_and_sources_do_not_share_an_id() -> None:
    assert len({identity(org, source, uuid7(1, 1)) for org, source in product("ab", "st")}) == 4
