"""A glance answers as `balances.standing` does, whatever was changed since it was asked last, and for the seq that it says."""

import asyncio
from decimal import Decimal

import pytest

from ledger.core import commands as c
from ledger.core.caps import Action, Enforce, Guardrail, Rule
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.record import Shelf, record
from ledger.store import balances, reports
from ledger.store.dialect import Database
from ledger.store.glance import Asked, Glances
from tests.store.test_report import DAY, HOUR, NOON_US, ORG, ZONE, call, tell

SHAPES = [
    Asked(ORG, scopes, periods)
    for scopes in (
        *((one,) for one in ("org", "workspace:research", "workspace:new", "key:a", "key:b", "key:new")),
        ("key:a", "workspace:press", "org"),
    )
    for periods in ((Period.DAY,), (Period.MONTH, Period.LIFETIME))
]


def rule(period: Period, dollars: int, **more: object) -> Rule:
    return Rule(period=period, limit=Nanos(dollars * USD), **({"action": Action.ALERT} | more))  # type: ignore[arg-type]


def cap(name: str, scope: str, period: Period, dollars: int) -> c.SetCap:
    return c.SetCap(org=ORG, by="will", cap=name, scope=scope, rule=rule(period, dollars))


def rail(name: str, each: str, within: str, period: Period) -> c.SetGuardrail:
    guardrail = Guardrail(guardrail_id=name, each=each, within=(within,), rule=rule(period, 7, enforce=Enforce.OBSERVE))
    return c.SetGuardrail(org=ORG, by="will", guardrail=guardrail)


CHANGES: list[list[c.Command]] = [
    [cap("month", "org", Period.MONTH, 8), cap("hour", "key:a", Period.HOUR, 8)],
    [call("e2", "a", 200, HOUR), call("e3", "b", None, workspace="press"), call("e4", "a", 25, 20 * DAY)],
    [cap("week", "workspace:press", Period.WEEK, 9), rail("each", "key", "org", Period.DAY)],
    [c.SetKey(org=ORG, by="will", key="a", workspace="press")],
    [call("e5", "old", 10)],
    [c.SetKey(org=ORG, by="will", key="a", credentials=("old",))],
    [call("e6", "new", 40), call("e7", "old", 60)],
    [rail("homes", "workspace", "press", Period.YEAR), cap("new", "key:new", Period.LIFETIME, 1)],
    [rail("homes", "workspace", "org", Period.YEAR), cap("later", "workspace:new", Period.DAY, 1)],
    [call("e8", "c", 10, workspace="new")],
    [c.RemoveCap(org=ORG, by="will", cap="week"), c.RemoveGuardrail(org=ORG, by="will", guardrail="each")],
    [c.SetOrg(org=ORG, by="will", time_zone="Asia/Tokyo", enforce=Enforce.OBSERVE)],
    [cap("hour", "key:a", Period.DAY, 0)],
]


async def test_a_glance_says_what_the_books_say_after_every_change(database: Database) -> None:
    glances = Glances()
    assert await glances.standing(database, SHAPES[0], None, NOON_US) is None
    await tell(database, c.SetOrg(org=ORG, by="will", time_zone=ZONE), call("e1", "a", 100))
    for n, orders in enumerate([[], *CHANGES]):
        await tell(database, *orders, later_us=n * HOUR)
        for asked in SHAPES * 2:  # the second time from what the first one took
            for at_us, clock_us in ((None, NOON_US), (None, NOON_US + n * HOUR), (NOON_US - 3 * DAY, NOON_US)):
                found = await glances.standing(database, asked, at_us, clock_us)
                async with database.snapshot() as connection:
                    head = await reports.head(connection, ORG)
                    assert head is not None
                    now_us = max(clock_us, head.recorded_us)
                    moment = now_us if at_us is None else at_us
                    due = await balances.standing(connection, head, asked.scopes, asked.periods, moment, now_us)
                assert found == (head, due)


async def test_what_is_asked_for_again_needs_no_snapshot(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    glances = Glances()
    await tell(database, cap("day", "key:a", Period.DAY, 8), call("e1", "a", 100))
    for asked in SHAPES:
        await glances.standing(database, asked, None, NOON_US)
    monkeypatch.delattr(Database, "snapshot")
    await tell(database, call("e2", "a", 100))
    for asked in SHAPES:  # the next day too: what is remembered is what was needed, and no sum
        for clock_us in (NOON_US, NOON_US + DAY):
            assert await glances.standing(database, asked, None, clock_us) is not None


async def test_what_is_glanced_at_while_usage_is_booked_is_true_for_the_seq_it_says(database: Database) -> None:
    """As is every sum beside it: of one moment."""
    await tell(database, c.SetOrg(org=ORG, by="will", time_zone=ZONE), cap("month", "org", Period.MONTH, 9_000), call("e0", "a", 100))
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
    assert head is not None
    asked, glances, seen = Asked(ORG, ("key:a", "org"), (Period.DAY,)), Glances(), set[int]()

    async def book() -> None:
        shelf = Shelf()
        for n in range(60):
            await record(database, shelf, [call(f"e{n}-{i}", "a", 100) for i in range(3)], NOON_US)

    booking = asyncio.create_task(book())
    while not booking.done():
        found = await glances.standing(database, asked, None, NOON_US)
        assert found is not None
        calls = 1 + found[0].seq - head.seq
        for row in found[1]:
            assert (row["requests"], Decimal(row["spent_usd"])) == (calls, calls * Decimal("1.000000001"))
            assert row["above"][-1]["spent_usd"] == row["spent_usd"]
        seen.add(calls)
    await booking
    assert len(seen) > 3
