"""Two relays, one of which loses its database between what it read and what it marks: whoever comes last to a compacted topic is right."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError
from sqlalchemy import text

from consumers.relay import relay_once
from ledger.core.commands import SetKey, TurnKey
from ledger.core.keys import State
from ledger.kafka import FEWEST_TOGETHER, Record, producing, publish
from ledger.metrics import Metrics
from ledger.service import Service
from tests.consumers.harness import Stage, check_order

CUT = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")


def turned(state: State) -> TurnKey:
    return TurnKey(org="org-0", by="test", key="turned", state=state, why="to be told")


@pytest.mark.parametrize("moment", ["before it published", "before it marked"])
async def test_a_relay_that_lost_its_lock_to_another_leaves_the_newest_state_last(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Revisions come in order, and again if so (K3); but of `ledger.key-status` only the last record of a key is kept."""
    await stage.order([SetKey(org="org-0", by="test", key="turned", workspace="w"), turned(State.PAUSED)])
    service, held, cut = Service(stage.database, Metrics()), asyncio.Event(), asyncio.Event()

    async def slow(producer: AIOKafkaProducer, records: Sequence[Record]) -> None:
        if moment == "before it marked":
            await publish(producer, records)
        if not held.is_set():
            held.set()
            await cut.wait()
        if moment == "before it published":
            await publish(producer, records)

    monkeypatch.setattr("consumers.relay.publish", slow)
    async with producing(stage.kafka) as one, producing(stage.kafka) as two:
        first = asyncio.create_task(relay_once(service, stage.kafka, one))
        await held.wait()
        async with stage.database.reader.connect() as connection:
            assert (await connection.execute(CUT)).all() == [(True,)]
        await stage.order([turned(State.ACTIVE)])
        assert await relay_once(service, stage.kafka, two) == 2
        cut.set()
        with pytest.raises(Exception, match="connection"):
            await first
        await relay_once(service, stage.kafka, two)
    commands, status = [await revisions(stage, topic) for topic in ("ledger.key-commands", "ledger.key-status")]
    assert check_order([("turned", revision) for revision in commands]) == {"turned": 2}
    assert status[-1] == 2, status
    await stage.until_published()


@pytest.mark.parametrize("count", [3, FEWEST_TOGETHER])
async def test_what_could_not_be_sent_is_told_once_nothing_sent_before_it_is_under_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A relay lets its lock go then, and what another publishes must not be overtaken (K3)."""
    async with producing(stage.kafka) as producer:
        sent: list[asyncio.Future[Any]] = []
        name = "send" if count < FEWEST_TOGETHER else "send_batch"
        real = getattr(producer, name)

        async def full(*args: Any, **more: Any) -> Any:
            if sent:
                raise KafkaTimeoutError
            sent.append(await real(*args, **more))
            return sent[0]

        monkeypatch.setattr(producer, name, full)
        with pytest.raises(KafkaTimeoutError):
            await publish(producer, [(stage.kafka.topic("ledger.key-status"), f"org-{n}/k".encode(), b"{}") for n in range(count)])
        assert sent[0].done()


async def revisions(stage: Stage, topic: str) -> list[Any]:
    return [message["data"]["revision"] for message in await stage.read(topic) if message["data"]["key"] == "turned"]
