"""Consumers killed at every step, frozen, joined and left; servers taken away: nothing lost, nothing doubled (J5, C3, K3)."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from ledger.core.commands import SetKey, TurnKey
from ledger.core.keys import State
from ledger.kafka import admin, missing_topics
from ledger.store import keys as keyed
from ledger.store import reports
from ledger.wire.messages import USAGE
from tests.conftest import _migrate
from tests.consumers.harness import Process, Stage, events, sigstopped, staged
from tests.consumers.test_bad_records import event, send
from tests.servers.kafka import own_kafka
from tests.servers.postgres import own_postgres

# Of a batch, alone or overlapping: written and not committed, committed and not acknowledged. Of the relay: published and
# not marked. Of the inbox.
STEPS = (
    "ledger.record.append before", "ledger.record.save after", "ledger.pipeline.append before", "ledger.pipeline.save after",
    "consumers.usage.UsageConsumer.commit before", "ledger.store.outbox.drop before",
    "ledger.store.inbox.accept after",
    "consumers.app.accept after",
)  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
async def test_a_consumer_killed_at_any_step_loses_nothing_and_doubles_nothing(stage: Stage, step: str) -> None:
    await stage.produce(events(1, 3_000))
    dying = stage.start("usage", "relay", "keys", DIE_AT=step)
    assert await asyncio.to_thread(dying.popen.wait, 60) == -signal.SIGKILL, dying.log()
    stage.start("usage", "relay", "keys")
    await stage.until_booked()
    await stage.until_published()
    await stage.check()
    await until_accepted(stage)


async def until_accepted(stage: Stage) -> None:
    """Until every key command that was published is in the key agent's hands."""
    sent = {(m["data"]["org"], m["data"]["key"], m["data"]["revision"]) for m in await stage.read("ledger.key-commands")}
    until = time.monotonic() + 30
    while True:
        async with stage.database.snapshot() as connection:
            heads = await reports.orgs(connection, limit=1000)
            rows = [(head.org, row["key"], row["revision"]) for head in heads for row in await keyed.commands(connection, head)]
        if set(rows) == sent:
            break
        assert time.monotonic() < until, f"{sent - set(rows)} not accepted\n" + stage.logs()
        await asyncio.sleep(0.1)
    assert len(rows) == len(sent), "one row each"


async def test_consumers_that_join_leave_and_freeze_in_a_backlog_change_nothing(stage: Stage) -> None:
    """A second and a third come, the first is frozen past its session and goes on, the second is told to end. Some of an org's
    events lie in other partitions than its own."""
    first = stage.start("usage", "relay")
    await first.until_ready()
    await stage.produce(events(2, 10_000, poison_every=1_000))
    others = [stage.start("usage"), stage.start("usage", "relay")]
    await stage.produce(events(3, 10_000), scattered=True)
    with sigstopped(first):
        await stage.produce(events(4, 5_000))
        await asyncio.sleep(13)  # a session is ten seconds
    assert await asyncio.to_thread(others[0].stop) == 0
    await stage.until_booked()
    await stage.until_published()
    await stage.check()


async def test_what_was_committed_is_not_taken_again_after_a_graceful_stop(stage: Stage) -> None:
    await stage.produce(events(5, 4_000, duplicates=0))
    first = stage.start("usage", "relay")
    await stage.until_booked()
    assert await asyncio.to_thread(first.stop) == 0
    await stage.produce(events(6, 500, duplicates=0))
    second = stage.start("usage", "relay")
    await stage.until_booked()
    await stage.until_published()
    await asyncio.sleep(1)
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{second.port}/metrics/")).text
    assert 'ledger_events_total{outcome="duplicate"} 0.0' in metrics
    await stage.check()


async def test_records_that_went_unread_are_told_of_and_what_came_behind_them_is_booked(stage: Stage) -> None:
    """The topic lets go of what is older than its retention, read or not."""
    place = TopicPartition(stage.kafka.topic(USAGE), 0)
    first = stage.start("usage")
    await send(stage, [(b"org-0", event("read"), ())], partition=0)
    await stage.until_booked(extra=1)
    assert await asyncio.to_thread(first.stop) == 0
    assert "records_gone" not in first.log()
    await send(stage, [(b"org-0", event(f"unread {n}"), ()) for n in range(3)], partition=0)
    async with admin(stage.kafka) as client:
        await client.delete_records({place: RecordsToDelete(before_offset=3)})
    second = stage.start("usage")
    await stage.until_booked(extra=2)
    assert "sought=1 begins_at=3 why='they were let go before they were read'" in second.log()
    async with httpx.AsyncClient() as client:
        assert "ledger_record_gaps_total 1.0" in (await client.get(f"http://127.0.0.1:{second.port}/metrics/")).text


def test_a_database_killed_in_its_commits_and_stopped_for_half_a_minute_is_waited_for(tmp_path: Path) -> None:
    """/readyz says why meanwhile; the process lives on, and told to end it ends in time, though the database is away."""
    with own_kafka() as broker, own_postgres() as server:
        url = _fresh(server.url)

        async def story() -> None:
            async with staged(broker.bootstrap, url, tmp_path) as stage:
                process = stage.start("usage", "relay")
                await process.until_ready()
                for seed in range(3):
                    await stage.produce(events(10 + seed, 3_000))
                    await asyncio.sleep(0.4)
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                await stage.until_booked()
                await asyncio.to_thread(server.stop)
                await stage.produce(events(20, 2_000))
                await asyncio.sleep(30)
                await until_unready(process)
                await asyncio.to_thread(server.start)
                await stage.until_booked()
                assert process.popen.poll() is None
                await asyncio.to_thread(server.stop)
                await stage.produce(events(21, 500))
                await until_unready(process)
                assert await asyncio.to_thread(process.stop) == 0
                await asyncio.to_thread(server.start)
                stage.start("usage", "relay")
                await stage.until_booked()
                await stage.until_published()
                await stage.check()

        asyncio.run(story())


async def until_unready(process: Process) -> None:
    """Until it says that the database is away."""
    until, said = time.monotonic() + 30, ""
    async with httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.get(f"http://127.0.0.1:{process.port}/readyz")
                said = answer.text
                if answer.status_code == 503 and "the database does not answer" in said:
                    return
            assert time.monotonic() < until, said
            await asyncio.sleep(0.1)


def test_every_consumer_says_that_the_database_is_away_though_it_has_nothing_to_do(tmp_path: Path) -> None:
    with own_kafka() as broker, own_postgres() as server:
        url = _fresh(server.url)

        async def story() -> None:
            async with staged(broker.bootstrap, url, tmp_path) as stage:
                processes = [stage.start(name) for name in ("usage", "pulse", "relay", "keys", "entries")]
                for process in processes:
                    await process.until_ready(60)
                await asyncio.to_thread(server.stop)
                for process in processes:
                    await until_unready(process)
                await asyncio.to_thread(server.start)
                for process in processes:
                    await process.until_ready(60)

        asyncio.run(story())


def test_a_broker_stopped_for_half_a_minute_is_waited_for(tmp_path: Path) -> None:
    """Told to end while it is away, and with something to publish in hand, the process ends in time."""
    with own_kafka() as broker, own_postgres() as server:
        url = _fresh(server.url)

        async def story() -> None:
            async with staged(broker.bootstrap, url, tmp_path) as stage:
                process = stage.start("usage", "relay", "keys")
                await process.until_ready()
                await stage.produce(events(30, 3_000))
                await asyncio.to_thread(broker.stop)
                await asyncio.sleep(30)
                await asyncio.to_thread(broker.start)
                await stage.produce(events(31, 3_000))
                await stage.until_booked()
                await stage.until_published()
                await stage.check()
                assert process.popen.poll() is None
                await asyncio.to_thread(broker.stop)
                key = SetKey(org="org-0", by="test", key="turned", workspace="w")
                await stage.order([key, TurnKey(org="org-0", by="test", key="turned", state=State.PAUSED, why="something to publish")])
                await asyncio.sleep(1)  # a relay looks four times a second
                assert await asyncio.to_thread(process.stop) == 0
                await asyncio.to_thread(broker.start)
                stage.start("relay")
                await stage.until_published()

        asyncio.run(story())


@pytest.mark.slow
def test_one_of_three_brokers_killed_loses_nothing(tmp_path: Path) -> None:
    """Replication 3, two in sync. What starts, or asks which topics there are, while the others have not noticed yet does not end."""
    with own_kafka(nodes=3) as cluster, own_postgres() as server:
        url = _fresh(server.url)

        async def story() -> None:
            async with staged(cluster.bootstrap, url, tmp_path, replication=3) as stage, admin(stage.kafka) as client:
                stage.start("usage", "relay", "keys")
                await stage.produce(events(40, 3_000))
                await asyncio.to_thread(cluster.kill, 1)
                stage.start("usage", "relay", "keys")
                for _ in range(10):
                    assert await missing_topics(client, stage.kafka, [USAGE]) == []
                await stage.produce(events(41, 3_000))
                await stage.until_booked(150)
                await stage.until_published(150)
                await stage.check()

        asyncio.run(story())


def _fresh(server_url: str) -> str:
    asyncio.run(_migrate(server_url))
    return server_url
