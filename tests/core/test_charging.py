"""Corrections and shared costs as `execute` meets them: several in one batch, and identities that were something else's (J2, J3)."""

import pytest

from ledger.core import commands as c
from ledger.core import entries as e
from ledger.core.batch import Found
from ledger.core.execute import execute
from ledger.core.money import USD, Nanos

from .harness import OrgLedger
from .histories import START, usage_of

CALL = {"key": "k1", "workspace": "w1", "byok": False, "tokens": 1, "ago": 0, "cost": 5 * USD, "upstream": None}


def correction(number: int, entry: int, cost: int | None = None, difference: int | None = None) -> c.CorrectUsage:
    price = None if cost is None else Nanos(cost)
    return c.CorrectUsage(org="acme", by="will", digest=bytes([number]) * 16, entry=entry, cost=price, difference=difference, why="so")


def share(number: int) -> c.ShareCost:
    over = (("w1", 1),)
    return c.ShareCost(org="acme", by="will", digest=bytes([number]) * 16, amount=Nanos(USD), how=c.How.EVENLY, over=over, why="so")


def opened() -> tuple[OrgLedger, e.UsageRecorded]:
    ledger = OrgLedger("acme")
    ledger.send([usage_of("acme", "e1", CALL, START)], START)
    return ledger, next(entry for entry in ledger.journal if isinstance(entry, e.UsageRecorded))


def test_orders_of_one_batch_know_of_one_another() -> None:
    """J2, J3: each starts at the price that the one before it set, and what is in it twice is booked once."""
    ledger, call = opened()
    orders = [
        correction(1, call.seq, cost=4 * USD), correction(1, call.seq, cost=4 * USD), correction(2, call.seq, difference=-USD),
        correction(1, call.seq, cost=3 * USD), share(3), share(3),
    ]  # fmt: skip
    batch = execute(ledger.books, orders, START, Found(originals={call.seq: call}))
    booked, again, another = c.Status.RECORDED, c.Status.DUPLICATE, c.Status.EXISTS_WITH_DIFFERENT_CONTENT
    assert [result.status for result in batch.results] == [booked, again, booked, another, booked, again]
    assert [entry.price for entry in batch.entries if isinstance(entry, e.UsageCorrected)] == [4 * USD, 3 * USD]
    assert batch.results[5].seq == batch.results[4].seq


@pytest.mark.parametrize("first", [correction(1, 4, cost=USD), share(1)])
def test_an_identity_that_was_another_kind_of_order_s_is_refused_as_other_content(first: c.CorrectUsage | c.ShareCost) -> None:
    """J2."""
    ledger, call = opened()
    assert call.seq == 4
    assert ledger.send([first], START)[0].status is c.Status.RECORDED
    journal = list(ledger.journal)
    for order in (correction(1, 4, cost=USD), share(1)):
        same = type(order) is type(first)
        status = c.Status.DUPLICATE if same else c.Status.EXISTS_WITH_DIFFERENT_CONTENT
        assert ledger.send([order], START)[0].status is status
    assert ledger.journal == journal
