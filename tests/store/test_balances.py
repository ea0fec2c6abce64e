"""Balances as they stand, with every cap above; and as they stood, by the time spent and by the time recorded (J7)."""

import random

import pytest

from ledger.core import commands as c
from ledger.core.caps import Action, Enforce, Guardrail, Rule
from ledger.core.money import USD, Nanos, usd_text
from ledger.core.window import Period, Window, window_at
from ledger.record import Shelf, record
from ledger.store import balances, explain, reports
from ledger.store.dialect import Database
from tests.store.test_report import DAY, HOUR, NOON_US, ORG, ZONE, call, tell

SCOPES = ("org", "workspace:research", "workspace:press", "key:a", "key:b")
PERIODS = (Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH, Period.YEAR, Period.LIFETIME)


async def head_of(connection: object) -> reports.Head:
    head = await reports.head(connection, ORG)  # type: ignore[arg-type]
    assert head is not None
    return head


async def test_a_balance_can_be_asked_for_as_it_stood_by_either_time(database: Database) -> None:
    draw, told = random.Random(7), list[tuple[int, int, str, str, int]]()
    await tell(database, c.SetOrg(org=ORG, by="will", time_zone=ZONE), later_us=-3 * DAY)
    for n in range(60):
        recorded_us = NOON_US - 3 * DAY + n * HOUR
        key, home, cents = draw.choice(("a", "b")), draw.choice(("research", "press")), draw.randrange(100)
        time_us = recorded_us - draw.choice((0, 60_000_000, 5 * HOUR, 30 * HOUR, 20 * DAY))
        usage = call(f"e{n}", key, cents, NOON_US - time_us, workspace=home)
        await record(database, Shelf(), [usage], recorded_us)
        home = next(w for _, _, k, w, _ in [*told, (0, 0, key, home, 0)] if k == key)  # it stays where it came up first (S4)
        told.append((time_us, recorded_us, key, home, cents * 10_000_000 + 1))
    async with database.snapshot() as connection:
        head = await head_of(connection)
        for _ in range(12):
            at, as_of = (NOON_US - draw.randrange(4 * DAY) for _ in range(2))
            for by_us, until_us in ((as_of, None), (None, at), (as_of, at)):
                rows = await balances.stood(connection, head, SCOPES, PERIODS, at, by_us, until_us)
                for row in rows:
                    window = window_at(Period(row["period"]), at, ZONE)
                    due = [
                        cost
                        for time_us, recorded_us, key, home, cost in told
                        if row["scope"] in ("org", f"workspace:{home}", f"key:{key}")
                        and (window.start_us <= time_us < window.end_us)
                        and (by_us is None or recorded_us <= by_us)
                        and (until_us is None or time_us < until_us)
                    ]
                    assert (row["spent_usd"], row["requests"]) == (usd_text(sum(due)), len(due)), (row, by_us, until_us)


async def test_every_cap_above_a_scope_says_what_it_leaves_and_the_tightest_is_named(database: Database) -> None:
    def rule(period: Period, dollars: int, **more: object) -> Rule:
        return Rule(period=period, limit=Nanos(dollars * USD), **({"action": Action.ALERT} | more))  # type: ignore[arg-type]

    rail = Guardrail(guardrail_id="each", each="key", within=("org",), rule=rule(Period.DAY, 9, enforce=Enforce.OBSERVE))
    await tell(
        database,
        c.SetOrg(org=ORG, by="will", time_zone=ZONE),
        c.SetCap(org=ORG, by="will", cap="month", scope="org", rule=rule(Period.MONTH, 8)),
        c.SetCap(org=ORG, by="will", cap="week", scope="workspace:research", rule=rule(Period.WEEK, 20)),
        c.SetCap(org=ORG, by="will", cap="never", scope="key:b", rule=rule(Period.DAY, 0)),
        c.SetGuardrail(org=ORG, by="will", guardrail=rail),
        call("e1", "a", 300), call("e2", "b", None), call("e3", "a", 100, 7 * DAY),
    )  # fmt: skip
    async with database.snapshot() as connection:
        head = await head_of(connection)
        (a, b, home) = await balances.standing(connection, head, ["key:a", "key:b", "workspace:research"], [Period.DAY], NOON_US)
    shown = {
        row["cap"]: (row["scope"], row["spent_usd"], row["unpriced"], row["left_usd"], row["percent"], row["tightest"])
        for row in a["above"]
    }
    assert shown == {
        "each/key:a": ("key:a", "3.000000001", 0, "5.999999999", 33, False),
        "week": ("workspace:research", "3.000000001", 1, "16.999999999", 15, False),
        "month": ("org", "4.000000002", 1, "3.999999998", 50, True),
    }
    assert [(row["cap"], row["left_usd"], row["percent"]) for row in b["above"] if row["tightest"]] == [("never", "0", 100)]
    assert [row["cap"] for row in home["above"]] == ["week", "month"]


async def test_an_hour_is_counted_for_scopes_under_no_hour_cap_too(database: Database) -> None:
    await tell(
        database,
        c.SetOrg(org=ORG, by="will", time_zone=ZONE),
        call("e1", "a", 300), call("e2", "b", None), call("e3", "a", 100, HOUR), call("e4", "c", 50, workspace="press"),
    )  # fmt: skip
    async with database.snapshot() as connection:
        head = await head_of(connection)
        now, before = [
            [(row["spent_usd"], row["unpriced"]) for row in await balances.standing(connection, head, SCOPES, [Period.HOUR], at_us)]
            for at_us in (NOON_US, NOON_US - HOUR)
        ]
        facts = await explain.balance(connection, head, "org", Period.HOUR, NOON_US)
    assert now == [("3.500000002", 1), ("3.000000001", 1), ("0.500000001", 0), ("3.000000001", 0), ("0", 1)]
    assert before == [("1.000000001", 0), ("1.000000001", 0), ("0", 0), ("1.000000001", 0), ("0", 0)]
    assert facts is not None and facts["balance"]["spent_usd"] == facts["entries_usd"] == "3.500000002"


async def test_a_cap_is_shown_on_a_key_that_has_yet_to_make_its_first_call(database: Database) -> None:
    """S5: a cap may stand before the key is known."""
    rule = Rule(period=Period.DAY, limit=Nanos(2 * USD), action=Action.PAUSE)
    await tell(database, c.SetCap(org=ORG, by="will", cap="newcomer", scope="key:new", rule=rule))
    async with database.snapshot() as connection:
        (row,) = await balances.standing(connection, await head_of(connection), ["key:new"], [Period.DAY], NOON_US)
    assert row["caps"] == [{"cap": "newcomer", "limit_usd": "2.00", "left_usd": "2.00"}]
    assert [(cap["cap"], cap["left_usd"], cap["tightest"]) for cap in row["above"]] == [("newcomer", "2.00", True)]


@pytest.mark.parametrize(
    ("spent", "start", "end", "now", "due"), [(10, 0, 100, 50, 20), (10, 0, 100, 100, None), (10, 0, 100, 0, None), (7, 0, 3, 2, 10)]
)
def test_a_forecast_goes_on_at_the_pace_so_far(spent: int, start: int, end: int, now: int, due: int | None) -> None:
    assert balances.forecast(spent, Window(Period.DAY, start, end, 0, 1), now) == due
