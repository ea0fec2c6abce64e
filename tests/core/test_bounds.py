"""What an org may come to, so that no sum of it leaves 64 bits (M1, T4)."""

import pytest

from ledger.core.batch import MOST_A_DAY
from ledger.core.books import ORG
from ledger.core.caps import Sum
from ledger.core.commands import CorrectUsage, Reason, Result, Status
from ledger.core.entries import UsageRecorded
from ledger.core.fold import fold
from ledger.core.money import MAX_EVENT_NANOS, Nanos
from ledger.core.window import Period
from tests.core.harness import OrgLedger
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
