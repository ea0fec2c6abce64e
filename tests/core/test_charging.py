"""Corrections and shared costs as `execute` meets them: several in one batch, and identities that were something else's (J2, J3)."""

from typing import Any

import pytest
from msgspec.structs import replace

from ledger.core import commands as c
from ledger.core import entries as e
from ledger.core.batch import Found
from ledger.core.caps import Enforce
from ledger.core.execute import execute
from ledger.core.money import MAX_EVENT_NANOS, USD, Nanos
from ledger.core.window import Period, day_at

from .harness import OrgLedger
from .histories import HOUR, MINUTE, START, command_of, usage_of
from .test_needs import cap

CALL = {"key": "k1", "workspace": "w1", "byok": False, "tokens": 1, "ago": 0, "cost": 5 * USD, "upstream": None}


def correction(number: int, entry: int, cost: int | None = None, difference: int | None = None) -> c.CorrectUsage:
    price = None if cost is None else Nanos(cost)
    return c.CorrectUsage(org="acme", by="will", digest=bytes([number]) * 16, entry=entry, cost=price, difference=difference, why="so")


def share(number: int, over: tuple[tuple[str, int], ...] = (("w1", 1),), **said: Any) -> c.ShareCost:
    order = c.ShareCost(org="acme", by="will", digest=bytes([number]) * 16, amount=Nanos(USD), how=c.How.EVENLY, over=over, why="so")
    return replace(order, **said)


def opened() -> tuple[OrgLedger, e.UsageRecorded]:
    ledger = OrgLedger("acme")
    ledger.send([usage_of("acme", "e1", CALL, START)], START)
    return ledger, next(entry for entry in ledger.journal if isinstance(entry, e.UsageRecorded))


def test_orders_of_one_batch_know_of_one_another() -> None:
    """J2, J3: each starts at the price that the one before it set, and what is in it twice is booked once."""
    ledger, call = opened()
    orders = [
        correction(1, call.seq, cost=4 * USD), correction(1, call.seq, cost=4 * USD), correction(2, call.seq, difference=-USD),
        correction(1, call.seq, cost=3 * USD), share(3), share(3), correction(2, call.seq, difference=-USD),
    ]  # fmt: skip
    batch = execute(ledger.books, orders, START, Found(originals={call.seq: call}))
    booked, again, another = c.Status.RECORDED, c.Status.DUPLICATE, c.Status.EXISTS_WITH_DIFFERENT_CONTENT
    assert [result.status for result in batch.results] == [booked, again, booked, another, booked, again, again]
    assert [entry.price for entry in batch.entries if isinstance(entry, e.UsageCorrected)] == [4 * USD, 3 * USD]
    assert batch.results[5].seq == batch.results[4].seq
    shared = next(entry for entry in batch.entries if isinstance(entry, e.CostShared))
    assert shared.parts == (e.Share("w1", 1, Nanos(USD)),)


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


@pytest.mark.parametrize(
    ("order", "why"),
    [
        (correction(1, 4), "say what it should have cost"),
        (correction(1, 4, cost=5 * USD), "costs $5.00 already"),
        (correction(1, 4, difference=0), "costs $5.00 already"),
        (correction(1, 4, difference=-5 * USD - 1), "takes back more than the entry costs, which is $5.00"),
        (correction(1, 4, cost=MAX_EVENT_NANOS + 1), "cost_usd: is more than 1000000 dollars"),
        (correction(1, 4, difference=MAX_EVENT_NANOS - 5 * USD + 1), "amount_usd: takes the entry to more than"),
        (correction(1, 5, cost=USD), "is itself a correction, of entry 4"),
        (share(1, over=()), "at least one workspace"),
        (share(1, over=(("w1", 1), ("w2", 1), ("w3", 1))), "more than 2 workspaces"),
        (share(1, how=c.How.WEIGHT, over=(("w1", 2**31),)), "weight of 'w1'"),
        (share(1, amount=Nanos(MAX_EVENT_NANOS + 1)), "amount_usd: is not above zero"),
        (share(1, day=day_at(START, "UTC") + 1), "has not begun yet"),
        (share(1, day=10_956), "1999-12-31 is before the year 2000"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_and_nothing_is_booked(
    order: c.CorrectUsage | c.ShareCost, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J3, T4."""
    monkeypatch.setattr("ledger.core.charging.MOST_SHARES", 2)
    ledger, _ = opened()
    ledger.send([correction(8, 4, cost=USD), correction(9, 4, cost=5 * USD)], START)
    journal = list(ledger.journal)
    (answer,) = ledger.send([order], START)
    assert (answer.status, answer.reason) == (c.Status.REJECTED, c.Reason.MALFORMED) and why in (answer.detail or "")
    assert ledger.journal == journal


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (correction(1, 4, cost=6 * USD), "cost_usd: takes"),
        (correction(1, 4, difference=1), "amount_usd: takes"),
        (share(1), "amount_usd: takes"),
    ],
)
def test_what_would_take_a_day_too_far_is_refused_by_its_field(
    order: c.CorrectUsage | c.ShareCost, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T4."""
    ledger, _ = opened()
    monkeypatch.setattr("ledger.core.batch.MOST_A_DAY", 5 * USD)
    (answer,) = ledger.send([order], START)
    assert answer.reason is c.Reason.TOO_MUCH and (answer.detail or "").startswith(field)


def test_no_cost_is_shared_over_a_workspace_that_is_closed() -> None:
    """S4: what it spent stays in every report, and nothing is added."""
    ledger, _ = opened()
    for order in (c.SetWorkspace(org="acme", by="will", workspace="w2"), c.RemoveWorkspace(org="acme", by="will", workspace="w2")):
        ledger.send([order], START)
    (answer,) = ledger.send([share(1, over=(("w1", 1), ("w2", 1)))], START)
    assert answer.reason is c.Reason.NOT_FOUND and "w2" in (answer.detail or "")


def test_an_amount_changes_no_price_that_is_not_there() -> None:
    """M4."""
    ledger, _ = opened()
    unpriced = usage_of("acme", "e2", CALL | {"cost": None}, START)
    (booked,) = ledger.send([unpriced], START)
    seq = booked.seq or len(ledger.journal)
    (answer,) = ledger.send([correction(1, seq, difference=1)], START)
    assert answer.status is c.Status.REJECTED and "no price yet" in (answer.detail or "")


@pytest.mark.parametrize(
    "order",
    [
        correction(1, 4, difference=-5 * USD),
        correction(1, 4, cost=MAX_EVENT_NANOS),
        correction(1, 4, difference=MAX_EVENT_NANOS - 5 * USD),
        share(1, how=c.How.WEIGHT, over=(("w1", 2**31 - 1),)),
        share(1, amount=Nanos(MAX_EVENT_NANOS)),
        share(1, amount=Nanos(1)),
        share(1, day=day_at(START, "UTC")),
        share(1, day=10_957),
    ],
)
def test_the_most_and_the_least_that_an_order_may_say_is_booked_and_once(order: c.CorrectUsage | c.ShareCost) -> None:
    """J2, J3, T4."""
    ledger, _ = opened()
    assert [ledger.send([order], START)[0].status for _ in "ab"] == [c.Status.RECORDED, c.Status.DUPLICATE]


@pytest.mark.parametrize(("passed", "same"), [(MINUTE, False), (30 * MINUTE - 1, False), (30 * MINUTE, True), (2 * HOUR, True)])
def test_a_correction_is_booked_on_the_hour_that_counted_its_call_and_while_that_lasts_on_the_one_that_counts_now(
    passed: int, same: bool
) -> None:
    """J3, W4: after a change of zone the present hour is counted anew by the new zone's clock, an hour that has ended is not."""
    ledger = OrgLedger("acme")
    for n, order in enumerate([cap("key:k1", Period.HOUR), ("use", CALL), ("org", ("Asia/Kolkata", Enforce.ON, 20))]):
        ledger.send(command_of(*order, n, START, ledger), START)
    call = next(entry for entry in ledger.journal if isinstance(entry, e.UsageRecorded))
    assert ledger.send([correction(1, call.seq, cost=USD)], START + passed)[0].status is c.Status.RECORDED
    booked = next(entry for entry in ledger.journal if isinstance(entry, e.UsageCorrected))
    assert call.hour_us is not None and (booked.hour_us == call.hour_us) is same
