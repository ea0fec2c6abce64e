"""The pipeline keeps `record`'s promise while batches overlap: whoever else writes, whatever fails (J1, J2, J5, C3)."""

import asyncio
import random
from collections import Counter

import pytest
from sqlalchemy import event

from ledger.core.caps import Action, Rule
from ledger.core.commands import RecordUsage, SetCap, SetWorkspace, Status
from ledger.core.entries import CapBreached
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.pipeline import Pipeline
from ledger.record import Shelf, record
from ledger.store import balances, reports
from ledger.store.bulk import FEWEST_STAGED
from ledger.store.dialect import Database, connect
from ledger.store.replay import verify
from tests.store.events import NOW_US, usage


@pytest.fixture(autouse=True, params=[1, 2_000], ids=["overlapping", "alone"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches go either way."""
    monkeypatch.setattr("ledger.pipeline.FEWEST_AHEAD", request.param)


ORGS = ("acme", "globex", "initech")


def cap(org: str, dollars: int) -> SetCap:
    rule = Rule(period=Period.DAY, limit=Nanos(dollars * USD), action=Action.PAUSE, thresholds=(50,))
    return SetCap(org=org, by="will", cap="day", scope="key:k0", rule=rule)


def batches(seed: int, count: int = 24, size: int = 40) -> list[list[RecordUsage]]:
    """Batches over all orgs; a tenth of the events come again, in the same batch or a later one."""
    draw = random.Random(seed)
    made: list[list[RecordUsage]] = []
    sent: list[RecordUsage] = []
    for n in range(count):
        fresh = [usage(f"{seed}-{n}-{m}", 1, key=f"k{draw.randrange(5)}", org=draw.choice(ORGS)) for m in range(size)]
        again = draw.sample(sent, min(len(sent), size // 10)) + fresh[:2]
        sent += fresh
        made.append(fresh + again)
    return made


async def check(database: Database, sent: list[RecordUsage]) -> None:
    """Every event counted once, the journal whole, no breach twice."""
    once = {command.digest: command for command in sent}.values()
    for org in ORGS:
        async with database.snapshot() as connection:
            head = await reports.head(connection, org)
            assert head is not None
            assert await verify(connection, head.org_id, org, lambda _: None) is None
            (balance,) = await balances.standing(connection, head, ["org"], [Period.DAY], NOW_US)
            breaches = await reports.breaches(connection, head)
        assert balance["requests"] == sum(command.usage.org == org for command in once)
        assert len(breaches) == 1


async def test_batches_that_overlap_are_booked_once_and_in_order(database: Database) -> None:
    pipeline, work = Pipeline(database), batches(1)
    await asyncio.gather(*(pipeline.book([cap(org, 20)], NOW_US) for org in ORGS))
    booked = await asyncio.gather(*(pipeline.book(batch, NOW_US) for batch in work))
    statuses = Counter(result.status for one in booked for result in one.results)
    assert statuses == {Status.RECORDED: 24 * 40, Status.DUPLICATE: 23 * 4 + 24 * 2}
    await check(database, [command for batch in work for command in batch])


async def test_two_writers_of_the_same_orgs_never_lose_or_double_anything(database: Database, database_url: str) -> None:
    """C3: found once across all replicas; a batch decided on books that another moved is decided again."""
    other = connect(database_url)
    pipelines, shelf = (Pipeline(database), Pipeline(other)), Shelf()
    await asyncio.gather(*(pipelines[0].book([cap(org, 20)], NOW_US) for org in ORGS))
    work = [batches(seed) for seed in (2, 3)]
    shared = batches(4, count=6)
    await asyncio.gather(
        *(pipeline.book(batch, NOW_US) for pipeline, mine in zip(pipelines, work, strict=True) for batch in [*mine, *shared]),
        *(record(database, shelf, [cap(org, 21)], NOW_US) for org in ORGS),
    )
    await other.close()
    await check(database, [command for mine in (*work, shared) for batch in mine for command in batch])


async def test_kept_books_catch_up_with_what_another_process_booked(database: Database) -> None:
    """J1: folding what was missed gives the books that loading would; what they can't fold is loaded."""
    shelf, other = Shelf(), Shelf()
    await record(database, shelf, [cap("acme", 9), usage("a", 1, key="k0")], NOW_US)
    mine = shelf.take("acme")
    assert mine is not None
    shelf.put({"acme": mine})
    await record(database, other, [cap("acme", 3), usage("b", 1, key="k0")], NOW_US)
    booked = await record(database, shelf, [usage("b", 1, key="k0"), usage("c", 1, key="k0")], NOW_US)
    assert [result.status for result in booked.results] == [Status.DUPLICATE, Status.RECORDED]
    assert [entry.limit for entry in booked.entries["acme"] if isinstance(entry, CapBreached)] == [3 * USD]
    caught_up = shelf.take("acme")
    assert caught_up is not None and caught_up[1] is mine[1]
    shelf.put({"acme": caught_up})

    await record(database, other, [usage("d", 1, key="k1")], NOW_US)
    await record(database, shelf, [usage("e", 1, key="k1")], NOW_US)
    loaded = shelf.take("acme")
    assert loaded is not None and loaded[1] is not mine[1]
    async with database.snapshot() as connection:
        assert await verify(connection, loaded[0], "acme", lambda _: None) is None


async def test_rounds_of_many_orgs_in_one_transaction_are_all_saved(database: Database) -> None:
    """J1: heads and rows of the last round stand, though each round writes the same tables."""
    orgs = [f"org-{n}" for n in range(FEWEST_STAGED + 50)]
    orders = [order for org in orgs for order in (SetWorkspace(org=org, by="will", workspace="w"), cap(org, 20), usage("a", 21, "k0", org))]
    await record(database, Shelf(), [*orders, *(cap(org, 30) for org in orgs), *(usage("b", 1, "k0", org) for org in orgs)], NOW_US)
    booked = await record(database, Shelf(), [usage("c", 9, "k0", org) for org in orgs], NOW_US)
    assert sum(type(entry) is CapBreached for entries in booked.entries.values() for entry in entries) == len(orgs)
    async with database.snapshot() as connection:
        for org in orgs[:: len(orgs) - 1]:
            head = await reports.head(connection, org)
            assert head is not None
            assert await verify(connection, head.org_id, org, lambda _: None) is None


async def test_a_write_that_fails_is_told_to_its_caller_and_hurts_nobody_else(database: Database) -> None:
    pipeline, work = Pipeline(database), batches(5)
    await asyncio.gather(*(pipeline.book([cap(org, 20)], NOW_US) for org in ORGS))
    commits = 0

    def fail(_: object) -> None:
        nonlocal commits
        commits += 1
        if commits % 5 == 0:
            raise ConnectionError("the database went away at commit")

    event.listen(database.writer.sync_engine, "commit", fail)
    answers = await asyncio.gather(*(pipeline.book(batch, NOW_US) for batch in work), return_exceptions=True)
    event.remove(database.writer.sync_engine, "commit", fail)
    failed = [batch for batch, answer in zip(work, answers, strict=True) if isinstance(answer, BaseException)]
    assert failed
    await asyncio.gather(*(pipeline.book(batch, NOW_US) for batch in failed))  # their senders try again
    await check(database, [command for batch in work for command in batch])


@pytest.mark.parametrize("ahead_us", [0, 6 * 60 * 1_000_000])
async def test_what_is_too_early_is_parked_beside_what_is_booked(database: Database, ahead_us: int) -> None:
    """W3: parked events are kept, and can be sent again."""
    pipeline = Pipeline(database)
    late = usage("late", 1, time_us=NOW_US + ahead_us)
    booked = await pipeline.book([usage("now", 1), late], NOW_US)
    assert booked.results[1].status is (Status.PARKED if ahead_us else Status.RECORDED)
    again = await pipeline.book([late], NOW_US + ahead_us)
    assert again.results[0].status is (Status.RECORDED if ahead_us else Status.DUPLICATE)


async def test_a_new_key_that_claims_other_workspaces_on_other_days_is_booked_to_the_first_that_counts(database: Database) -> None:
    """S3, S4: the first event may be a duplicate or too early, so that which claim will count is not known beforehand."""
    pipeline, days = Pipeline(database), 24 * 3600 * 1_000_000
    early = usage("early", 1, key="new", workspace="nowhere", time_us=NOW_US + days)
    first = usage("first", 2, key="new", workspace="lab")
    late = usage("late", 4, key="new", workspace="research", time_us=NOW_US - 3 * days)
    booked = await pipeline.book([early, late, first], NOW_US)
    assert [result.status for result in booked.results] == [Status.PARKED, Status.RECORDED, Status.RECORDED]
    async with database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        (balance,) = await balances.standing(connection, head, ["workspace:research"], [Period.MONTH], NOW_US)
        assert await verify(connection, head.org_id, "acme", lambda _: None) is None
    assert balance["spent_usd"] == "6.00"
