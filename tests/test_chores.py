"""Chores at gateways are done by one of several processes, and by another when that one ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from ledger import chores
from ledger.loop import Chore
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import Database, connect


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_one_process_at_a_time_does_the_chores_and_another_takes_over(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "TAKE_OVER_S", 0.05)
    did: list[str] = []

    def replica(name: str, over: Database) -> "asyncio.Task[None]":
        async def step() -> int:
            did.append(name)
            return 0

        return asyncio.create_task(chores.run(Service(over, Metrics()), [Chore("look", step, 0.02)]))

    async def until_done_by(name: str) -> None:
        async with asyncio.timeout(20):
            while name not in did[-1:]:
                await asyncio.sleep(0.02)

    elsewhere = connect(database_url)
    first = replica("first", database)
    await until_done_by("first")
    second = replica("second", elsewhere)
    await asyncio.sleep(0.5)
    assert set(did) == {"first"} and len(did) > 2
    await ended(first)
    await until_done_by("second")
    await ended(second)
    await elsewhere.close()


async def test_what_accounts_said_is_shown_no_longer_by_a_process_whose_chores_are_anothers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stay for ever, and an alert with it, however often the other one finds that all is well."""
    monkeypatch.setattr(chores, "TAKE_OVER_S", 0.05)
    service, looked, mine = Service(database, Metrics()), asyncio.Event(), True

    async def look() -> int:
        service.metrics.reconciled.labels("missing").set(3)
        service.metrics.accounts_unread.set(1)
        looked.set()
        return 0

    @asynccontextmanager
    async def hold(*_: object) -> AsyncIterator[Callable[[], Awaitable[None]] | None]:
        yield held if mine else None

    async def held() -> None:
        if looked.is_set():
            raise OSError("the database closed the session")

    monkeypatch.setattr(chores, "hold", hold)
    task = asyncio.create_task(chores.run(service, [Chore("look", look, 60)]))
    await looked.wait()
    mine = False
    read = service.metrics.registry.get_sample_value
    async with asyncio.timeout(20):
        while read("ledger_reconciled_key_days", {"verdict": "missing"}) is not None or read("ledger_accounts_unread") != 0:
            await asyncio.sleep(0.02)
    await ended(task)
