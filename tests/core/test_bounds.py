"""What an org may come to, so that no sum of it leaves 64 bits (M1, T4)."""

import pytest
from msgspec.structs import replace

from ledger.core.batch import MOST_A_DAY, MOST_EVER, Found
from ledger.core.books import ORG, SumKey
from ledger.core.caps import Sum
from ledger.core.commands import CorrectUsage, Reason, Result, SetWorkspace, Status
from ledger.core.entries import UsageRecorded
from ledger.core.execute import execute
from ledger.core.fold import fold
from ledger.core.money import MAX_EVENT_NANOS, USD, Nanos
from ledger.core.window import Period
from tests.core.harness import OrgLedger
from tests.core.histories import DAY, START, usage_of
from tests.store.events import NOW_US, usage

MILLION = 1_000_000


def price(ledger: OrgLedger, request: int, cost: int) -> Result:
    entry = next(entry.seq for entry in ledger.journal if isinstance(entry, UsageRecorded))
    order = CorrectUsage(org="acme", by="will", digest=request.to_bytes(16, "big"), entry=entry, cost=Nanos(cost), why="so")
    return ledger.send([order], NOW_US)[0]


def test_what_corrections_take_back_makes_no_room_without_end() -> None:
    """M1: reports add up what was booked apart from what was taken off it again, and neither sum may leave 64 bits."""
    ledger = OrgLedger("acme")
    ledger.send([usage("e", MILLION)], NOW_US)
    assert [price(ledger, request, cost).status for request, cost in enumerate((0, MAX_EVENT_NANOS))] == [Status.RECORDED] * 2
    fold(ledger.books, ledger.journal[-2:] * 7_498)  # the same, again and again
    assert (ledger.books.used(ORG, Period.LIFETIME, 0).spent, ledger.books.taken_back) == (MAX_EVENT_NANOS, 7_499 * MAX_EVENT_NANOS)
    assert {answer.status for answer in ledger.send([usage(f"f{n}", MILLION) for n in range(500)], NOW_US)} == {Status.RECORDED}
    assert price(ledger, 2, 0).status is Status.RECORDED
    for refused in (ledger.send([usage("more", 1)], NOW_US)[0], price(ledger, 3, 1)):
        assert (refused.status, refused.reason) == (Status.REJECTED, Reason.TOO_MUCH)
    assert ledger.send([usage("free", 0)], NOW_US)[0].status is Status.RECORDED


def test_a_day_that_is_full_takes_a_correction_for_less_and_none_for_more() -> None:
    """T4, J3: what counts is the difference, not the price that an entry had or gets."""
    ledger = OrgLedger("acme")
    full = MOST_A_DAY // MAX_EVENT_NANOS
    assert {answer.status for answer in ledger.send([usage(f"f{n}", MILLION) for n in range(full)], NOW_US)} == {Status.RECORDED}
    assert price(ledger, 1, MAX_EVENT_NANOS - 1).status is Status.RECORDED
    assert price(ledger, 2, MAX_EVENT_NANOS).status is Status.RECORDED
    assert ledger.send([usage("more", 1)], NOW_US)[0].reason is Reason.TOO_MUCH


@pytest.mark.parametrize("part", ["spent", "byok", "input_tokens", "output_tokens"])
def test_a_sum_holds_another_up_to_the_last_nano_and_token_of_each_part(part: str) -> None:
    """T4: no part makes up for another."""
    assert Sum(**{part: 7}).holds(Sum(**{part: 3}), 10)
    assert not Sum(**{part: 7}).holds(Sum(**{part: 4}), 10)
    whole = Sum(1, 2, 3, 4, 5, 6)
    whole.add(Sum(10, 20, 30, 40, 50, 60))
    assert whole == Sum(11, 22, 33, 44, 55, 66)


CALL = {"key": "k1", "workspace": "w1", "byok": False, "tokens": 1, "ago": 0, "cost": USD, "upstream": None}


def test_a_whole_life_has_a_bound_of_its_own() -> None:
    """M1, T4: money that no day refuses, and tokens that cost nothing."""
    for part, room, cost in (("spent", USD, USD), ("spent", USD - 1, USD), ("input_tokens", 1, 0), ("input_tokens", 0, 0)):
        ledger = OrgLedger("acme")
        ledger.send([usage_of("acme", "e1", CALL | {"tokens": 0, "cost": 0}, START)], START)
        ledger.books.put_sum(SumKey(ORG, Period.LIFETIME, 0), Sum(**{part: MOST_EVER - room}))
        (answer,) = ledger.send([usage_of("acme", "e2", CALL | {"cost": cost}, START)], START)
        assert answer.reason is (None if room in (USD, 1) else Reason.TOO_MUCH), (part, room)


def test_a_day_that_bursts_refuses_its_own_events_and_no_other_day_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """T4: its neighbours are recorded; and what was refused is refused again, not taken for a repeat of what was booked (J2)."""
    monkeypatch.setattr("ledger.core.batch.MOST_A_DAY", 10 * USD)
    over, other = usage_of("acme", "e1", CALL | {"cost": 11 * USD}, START), usage_of("acme", "e2", CALL | {"ago": DAY}, START)
    orders = [over, other, SetWorkspace(org="acme", by="will", workspace="w2"), over, other]
    ledger = OrgLedger("acme")
    batch = execute(ledger.books, orders, START, Found())
    said = [Status.REJECTED, Status.RECORDED, Status.RECORDED, Status.REJECTED, Status.DUPLICATE]
    assert [result.status for result in batch.results] == said
    assert (batch.mismatches, batch.late, batch.usage.requests, ledger.books.used(ORG, Period.LIFETIME, 0).spent) == (0, 1, 1, USD)


def test_tokens_are_added_up_each_kind_by_itself() -> None:
    """M7: in the sums of every scope, run by run."""
    ledger = OrgLedger("acme")
    for event, said in enumerate(((3, 5), (7, 11))):
        call = usage_of("acme", f"e{event}", CALL, START)
        call.usage = replace(call.usage, input_tokens=said[0], output_tokens=said[1])
        ledger.send([call], START)
    for scope in ("key:k1", "workspace:w1", ORG):
        assert ledger.books.used(scope, Period.LIFETIME, 0) == Sum(spent=2 * USD, requests=2, input_tokens=10, output_tokens=16)
