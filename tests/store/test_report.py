"""Reports add up to the balances, to the nano, from wherever they are read (M7)."""

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from ledger.core import commands as c
from ledger.core.money import Nanos
from ledger.core.questions import Question, Row, parse_by, parse_grain, parse_where, question
from ledger.core.window import Period, day_number, day_start_us
from ledger.record import Shelf, record
from ledger.store import balances, report, reports, rollup
from ledger.store import replay as replaying
from ledger.store import tables as t
from ledger.store.dialect import Database
from ledger.wire.identity import identity

HOUR, DAY = 3_600_000_000, 86_400_000_000
ZONE = "America/New_York"
SPRING = day_number(date(2026, 3, 8))  # the clocks go forward at two in the morning
NOON_US = day_start_us(SPRING, ZONE) + 11 * HOUR  # twelve by the clock
ORG = "acme"


def call(name: str, key: str, cents: int | None, ago_us: int = 0, **usage: object) -> c.RecordUsage:
    cost = None if cents is None else Nanos(cents * 10_000_000 + 1)  # a nano over, so that a lost one shows
    told = c.Usage(**{"org": ORG, "key": key, "workspace": "research", "model": "gpt", "input_tokens": 10, "output_tokens": 4} | usage)  # type: ignore[arg-type]
    return c.RecordUsage(
        source="test", event_id=name, digest=identity(ORG, "test", name), time_us=NOON_US - ago_us, cost=cost, cost_text=None,
        upstream=None, upstream_text=None, usage=told,
    )  # fmt: skip


async def tell(database: Database, *commands: c.Command, later_us: int = 0) -> list[c.Result]:
    return (await record(database, Shelf(), commands, NOON_US + later_us)).results


def ask(
    by: str = "", grain: str | None = None, start: date = date(2026, 3, 1), end: date = date(2026, 4, 1), where: str = "", zone: str = ZONE
) -> Question:
    days = day_number(start), day_number(end)
    instants = day_start_us(days[0], zone), day_start_us(days[1], zone)
    return question(*instants, days, parse_by([by]), parse_grain(grain), parse_where([where] if where else []), zone, ZONE)


async def answer(database: Database, asked: Question) -> list[Row]:
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
        assert head is not None
        return [row async for row in report.rows(connection, head, asked)]


async def roll(database: Database, most: int = 10_000) -> None:
    async with database.writer.begin() as connection:
        await rollup.follow(connection, most)


async def told(database: Database, asked: Question) -> dict[tuple[str | None, ...], str]:
    """Dollars and unpriced calls by dimensions, in words."""
    rows = await answer(database, asked)
    return {
        row.values: f"{Decimal(row.sums[0]) / 10**9:.9f}".rstrip("0").rstrip(".") + (f" + {row.sums[2]}" if row.sums[2] else "")
        for row in rows
    }


async def month(database: Database) -> None:
    """A month with everything in it: three keys, two models, an unpriced call priced later, a move, an alias, a deleted key."""
    await tell(
        database,
        c.SetOrg(org=ORG, by="will", time_zone=ZONE, labels={"cost_center": "1"}, since=0),
        call("e1", "crawler", 100, member="ann", preset="p", preset_version=4, session="s1", tags={"team": "web"}),
        call("e2", "crawler", None, model="opus", end_user="u1"),
        call("e3", "writer", 50, 7 * DAY, provider="novita", reasoning_tokens=2, cached_input_tokens=5),
        call("e4", "writer", 25, 9 * HOUR + 60_000_000, workspace="else", tags={"team": "it's \"odd\""}),
        call("e5", "old-name", 7, 2 * DAY),
    )  # fmt: skip
    await tell(
        database,
        c.CorrectUsage(org=ORG, by="will", digest=b"1" * 16, entry=await seq_of(database, "e2"), cost=Nanos(3), why="priced"),
        c.SetKey(org=ORG, by="will", key="writer", workspace="press", labels={"cost_center": "4711"}, since=SPRING),
        c.SetKey(org=ORG, by="will", key="crawler", credentials=("old-name",)),
        call("e6", "writer", 10),
        call("e7", "unknown", 1, 40 * DAY),
        c.RemoveKey(org=ORG, by="will", key="unknown"),
    )  # fmt: skip


async def seq_of(database: Database, name: str) -> int:
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
        assert head is not None
        return next(row["seq"] for row in await reports.entries(connection, head, 0, 1000) if row.get("id") == name)


QUESTIONS = (
    ("", None), ("org", "day"), ("workspace", "month"), ("key", None), ("workspace,key,model", None), ("member", "week"),
    ("end_user", None), ("provider,model", "year"), ("preset,preset_version", None), ("session", "day"), ("tag:team", None),
    ("label:cost_center", "day"), ("label:cost_center,key", "hour"), ("key", "hour"), ("charge", "month"),
    ("label:nobody,tag:nothing", None),
)  # fmt: skip


@pytest.mark.parametrize("rolled", [0, 4, 10_000])
async def test_every_grouping_adds_up_to_the_balances_to_the_nano_however_far_the_rollup_is(database: Database, rolled: int) -> None:
    await month(database)
    if rolled:
        await roll(database, rolled)
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
        assert head is not None
        (balance,) = await balances.standing(connection, head, ["org"], [Period.MONTH], NOON_US)
    assert (balance["spent_usd"], balance["unpriced"], balance["requests"]) == ("1.920000008", 0, 6)
    for by, grain in QUESTIONS:
        rows = await answer(database, ask(by, grain))
        whole = [sum(row.sums[n] for row in rows) for n in range(9)]
        assert whole == [1_920_000_008, 0, 0, 6, 60, 24, 5, 0, 2], (by, grain)


async def test_lines_are_booked_to_what_they_were_spent_on(database: Database) -> None:
    await month(database)
    await roll(database)
    assert await told(database, ask("key")) == {("crawler",): "1.070000005", ("writer",): "0.850000003"}
    assert await told(database, ask("workspace")) == {("research",): "1.820000007", ("press",): "0.100000001"}
    assert await told(database, ask("model")) == {("gpt",): "1.920000005", ("opus",): "0.000000003"}
    assert await told(database, ask("end_user")) == {(None,): "1.920000005", ("u1",): "0.000000003"}
    assert await told(database, ask("tag:team")) == {(None,): "0.670000006", ("web",): "1.000000001", ('it\'s "odd"',): "0.250000001"}
    assert await told(database, ask("label:cost_center")) == {("1",): "1.570000006", ("4711",): "0.350000002"}
    assert await told(database, ask("key", where="label:cost_center=4711")) == {("writer",): "0.350000002"}
    assert await told(database, ask("key", where="preset:p@4")) == {("crawler",): "1.000000001"}
    assert await told(database, ask("model", where="end_user:")) == {("gpt",): "1.920000005"}
    assert await told(database, ask("org", start=date(2026, 1, 1))) == {("acme",): "1.930000009"}
    assert await told(database, ask("charge", start=date(2026, 1, 1))) == {
        ("usage",): "1.920000005 + 1", ("late",): "0.010000001", ("correction",): "0.000000003 + -1",
    }  # fmt: skip


async def test_a_correction_after_the_month_of_its_call_was_over_is_told_apart(database: Database) -> None:
    """Books that were closed are seen to change, in the call's own window (J3)."""
    await month(database)
    late = await seq_of(database, "e7")
    await tell(database, c.CorrectUsage(org=ORG, by="will", digest=b"2" * 16, entry=late, cost=Nanos(0), why="free"))
    for _ in range(2):
        assert await told(database, ask("charge", start=date(2026, 1, 1))) == {
            ("usage",): "1.920000005 + 1", ("late",): "0.010000001", ("correction",): "0.000000003 + -1",
            ("late_correction",): "-0.010000001",
        }  # fmt: skip
        await roll(database)


async def test_what_was_late_is_judged_by_the_zone_that_the_org_had_when_it_was_recorded(database: Database) -> None:
    """A zone set later moves nothing (W4), and journal and rollup say the same, wherever the rollup stopped in between."""
    over = day_start_us(day_number(date(2026, 3, 1)), "UTC") + 2 * HOUR - NOON_US  # in New York it is still February
    zones = (c.SetOrg(org=ORG, by="will", time_zone=zone) for zone in (ZONE, "UTC", ZONE))
    for n, order in enumerate(zones):
        await tell(database, order, call(f"e{n}", "k", 1, 4 * HOUR - over), later_us=over + n)
    expected = {("usage",): "0.020000002", ("late",): "0.010000001"}
    assert await told(database, ask("charge", start=date(2026, 2, 1))) == expected
    for _ in range(await seq_of(database, "e2")):
        await roll(database, 1)
        assert await told(database, ask("charge", start=date(2026, 2, 1))) == expected
    assert await told(database, ask("key", start=date(2026, 2, 1), where="charge:late")) == {("k",): "0.010000001"}


async def test_windows_are_those_of_the_orgs_zone_and_cut_to_the_range(database: Database) -> None:
    await month(database)
    for rolled in (False, True):
        if rolled:
            await roll(database)
        weeks = await answer(database, ask("", "week"))
        assert [(row.start_us, row.sums[0]) for row in weeks] == [
            (day_start_us(SPRING - 7, ZONE), 500_000_001), (day_start_us(SPRING - 6, ZONE), 1_420_000_007),
        ]  # fmt: skip
        years = await answer(database, ask("", "year", start=date(2025, 6, 1)))
        assert [(row.start_us, row.end_us) for row in years] == [
            (day_start_us(day_number(date(2026, 1, 1)), ZONE), day_start_us(day_number(date(2026, 4, 1)), ZONE))
        ]
    hours = await answer(database, ask("", "hour", start=date(2026, 3, 8), end=date(2026, 3, 9)))
    assert [((row.start_us - NOON_US) // HOUR, row.sums[3]) for row in hours] == [(-10, 1), (0, 3)]


async def test_another_zone_has_its_own_days(database: Database) -> None:
    await month(database)
    kolkata = await answer(database, ask("", "day", zone="Asia/Kolkata"))
    assert sum(row.sums[0] for row in kolkata) == 1_920_000_008
    assert all((row.end_us - row.start_us) == DAY for row in kolkata)


async def test_an_unpriced_call_stands_beside_the_money(database: Database) -> None:
    await tell(database, call("e1", "k", 100), call("e2", "k", None))
    assert await told(database, ask("key")) == {("k",): "1.000000001 + 1"}
    await roll(database)
    await tell(database, c.CorrectUsage(org=ORG, by="will", digest=b"1" * 16, entry=await seq_of(database, "e2"), cost=Nanos(5), why=""))
    assert await told(database, ask("key")) == {("k",): "1.000000006"}


async def test_the_rollup_follows_in_steps_and_replay_makes_it_anew(database: Database) -> None:
    await month(database)
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
    assert head is not None
    for _ in range(head.seq):
        await roll(database, 1)
    stepwise = await answer(database, ask("workspace,key,model,member,charge", "day"))
    async with database.writer.begin() as connection:
        assert not await rollup.behind(connection)
        await replaying.replay(connection, head.org_id, ORG, lambda _: None)
        assert await rollup.behind(connection)
    assert await answer(database, ask("workspace,key,model,member,charge", "day")) == stepwise
    await roll(database)
    assert await answer(database, ask("workspace,key,model,member,charge", "day")) == stepwise


async def test_the_rollup_reads_every_org_the_longest_tail_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "MOST_ORGS", 1)
    await tell(database, call("e1", "k", 1, org="small"))
    await tell(database, *(call(f"e{n}", "k", 1) for n in range(2, 6)))
    async with database.writer.begin() as connection:
        assert await rollup.follow(connection), "an org is left"
        names = dict(map(tuple, await connection.execute(select(t.orgs.c.org, t.orgs.c.org_id))))
        assert await rollup.followed(connection, names[ORG]) and not await rollup.followed(connection, names["small"])
        while await rollup.follow(connection):
            pass
        assert not await rollup.behind(connection)


async def test_an_org_that_the_rollup_cannot_read_holds_up_no_other_and_is_read_once_it_can_be(database: Database) -> None:
    await tell(database, call("e1", "k", 1, org="small"))
    await tell(database, *(call(f"e{n}", "k", 1) for n in range(2, 6)))
    async with database.writer.begin() as connection:
        names = dict(map(tuple, await connection.execute(select(t.orgs.c.org, t.orgs.c.org_id))))
        zone = await connection.scalar(select(t.orgs.c.zone).where(t.orgs.c.org == ORG))
        await connection.execute(update(t.orgs).where(t.orgs.c.org == ORG).values(zone="Mars/Olympus"))
    await roll(database)
    async with database.writer.begin() as connection:
        assert await rollup.followed(connection, names["small"]) and not await rollup.followed(connection, names[ORG])
        await connection.execute(update(t.orgs).where(t.orgs.c.org == ORG).values(zone=zone))
    await roll(database)
    async with database.reader.connect() as connection:
        assert not await rollup.behind(connection)


async def test_verify_finds_a_rollup_that_says_something_else(database: Database) -> None:
    await month(database)
    await roll(database)
    async with database.writer.begin() as connection:
        org_id = (await connection.execute(select(t.orgs.c.org_id))).scalar_one()
        assert await replaying.verify(connection, org_id, ORG, lambda _: None) is None
        await connection.execute(update(t.rollup).where(t.rollup.c.model == "opus").values(requests=9))
        difference = await replaying.verify(connection, org_id, ORG, lambda _: None)
    assert difference is not None and "the rollup's 2026-03-08" in difference
