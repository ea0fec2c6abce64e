"""Chores at gateways are done by one of several processes, and by another when that one ends."""

import asyncio
from contextlib import suppress

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
