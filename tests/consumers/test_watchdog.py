"""A stall is seen where there is one and nowhere else; the process says so on /livez and ends."""

import asyncio
import contextlib
import re
import time

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from sqlalchemy import text

from consumers.watchdog import STALLED_S, Watchdog
from ledger.kafka import Kafka, admin
from tests.consumers.harness import Stage, TakenBack, events, transaction
from tests.consumers.test_bad_records import event, send

FIRST, SECOND = TopicPartition("usage", 0), TopicPartition("usage", 1)
BOTH = {FIRST, SECOND}


@pytest.fixture
def watchdog() -> Watchdog:
    return Watchdog(Kafka("nowhere:9092"), "ledger-usage", "usage")


def test_a_partition_of_ours_that_stands_still_behind_its_end_is_a_stall(watchdog: Watchdog) -> None:
    for now_s in (0.0, STALLED_S - 1):
        watchdog.judge({FIRST: 5, SECOND: int(now_s)}, {FIRST: 9, SECOND: 100}, BOTH, now_s)
        assert watchdog.verdict is None
    watchdog.judge({FIRST: 5, SECOND: 60}, {FIRST: 50, SECOND: 100}, BOTH, STALLED_S)
    assert watchdog.verdict is not None and watchdog.verdict.startswith("usage/0 stands at 5 for 60 s while its end is at 50")


def test_what_moves_or_has_nothing_to_read_is_no_stall(watchdog: Watchdog) -> None:
    for step in range(10):
        watchdog.judge({FIRST: step, SECOND: 7}, {FIRST: 99, SECOND: 7}, BOTH, step * (STALLED_S - 1))
    assert watchdog.verdict is None


def test_a_partition_that_becomes_ours_is_ours_to_move_from_then_on(watchdog: Watchdog) -> None:
    """Whoever had it let it lie: that is not this process's fault, and its own patience begins anew."""
    places, ends = {FIRST: 5, SECOND: 5}, {FIRST: 9, SECOND: 5}
    for now_s in (0.0, 10 * STALLED_S):
        watchdog.judge(places, ends, {SECOND}, now_s)
    for now_s in (10 * STALLED_S, 11 * STALLED_S - 1):
        watchdog.judge(places, ends, BOTH, now_s)
        assert watchdog.verdict is None
    watchdog.judge(places, ends, BOTH, 11 * STALLED_S)
    assert watchdog.verdict is not None


@pytest.mark.parametrize("moves", [True, False])
def test_a_process_without_partitions_is_stuck_only_where_nothing_moves(watchdog: Watchdog, moves: bool) -> None:
    """Expelled, or only one too many: it can't know, unless somebody reads."""
    for step in range(3):
        watchdog.judge({FIRST: 0, SECOND: step if moves else 0}, {FIRST: 9, SECOND: 9}, set(), step * STALLED_S / 2)
    assert (watchdog.verdict is None) == moves


async def test_a_consumer_that_stands_still_says_so_on_livez_and_ends(stage: Stage) -> None:
    """Somebody holds an org's lock in a database that answers: nothing is wrong that the consumer could name."""
    async with stage.database.writer.connect() as connection:
        await connection.execute(text("SELECT pg_advisory_lock(hashtextextended('org-0', 0))"))
        await stage.produce(events(1, 200))
        process = stage.start("usage", STALLED_S="3")
        process.expects_death = True
        said = ""
        async with httpx.AsyncClient() as client:
            until = time.monotonic() + 30
            while process.popen.poll() is None and time.monotonic() < until:
                with contextlib.suppress(httpx.HTTPError):
                    if (answer := await client.get(f"http://127.0.0.1:{process.port}/livez")).status_code == 503:
                        said = answer.text
                await asyncio.sleep(0.05)
        assert process.popen.poll() == 1, process.log()
        assert "this consumer is stuck" in said and "this consumer is stuck" in process.log()
        await connection.rollback()
        await connection.execute(text("SELECT pg_advisory_unlock_all()"))
        await connection.commit()
    stage.start("usage", "relay")
    await stage.until_booked()
    await stage.until_published()
    await stage.check()


async def test_many_partitions_that_end_in_marks_are_looked_at_at_once(stage: Stage) -> None:
    """Nothing to read lies there, which takes a second to know: one by one, the look would last longer than a stall may."""
    topic, count = stage.kafka.topic("marks"), 30
    async with admin(stage.kafka) as client:
        await client.create_topics([NewTopic(topic, count, 1)])
    async with transaction(stage, "marking") as made:
        for partition in range(count):
            await made.send_and_wait(topic, event(f"kept-{partition}"), key=b"org-0", partition=partition)
    with contextlib.suppress(TakenBack):
        async with transaction(stage, "taken back") as made:
            for partition in range(1, count):
                await made.send_and_wait(topic, event("taken-back"), key=b"org-0", partition=partition)
            raise TakenBack
    watchdog = Watchdog(stage.kafka, stage.kafka.topic("markers"), topic)
    places = {TopicPartition(topic, partition): int(partition > 0) for partition in range(count)}
    group = AIOKafkaConsumer(**stage.kafka.client(), group_id=watchdog.group, enable_auto_commit=False)
    group.assign(list(places))
    await group.start()
    await group.commit(places)
    await group.stop()
    for behind in (set(places), {TopicPartition(topic, 0)}):
        began_s = time.monotonic()
        found, ends = await watchdog._look()
        assert {at for at in places if found[at] < ends[at]} == behind
        watchdog.judge(found, ends, set(places), began_s)
    assert time.monotonic() - began_s < count / 2


async def test_what_a_transaction_takes_back_is_not_booked_and_what_nobody_can_read_is_no_stall(stage: Stage) -> None:
    """The end of a topic is behind the mark that ends a transaction, and behind what was deleted unread."""
    async with transaction(stage, "kept") as made:
        await made.send_and_wait(stage.kafka.topic("usage"), event("kept"), key=b"org-0", partition=0)
    with contextlib.suppress(TakenBack):
        async with transaction(stage, "taken back") as made:
            await made.send_and_wait(stage.kafka.topic("usage"), event("taken-back"), key=b"org-0", partition=1)
            raise TakenBack
    unread = TopicPartition(stage.kafka.topic("usage"), 2)
    await send(stage, [(b"org-0", event("unread"), ())], partition=unread.partition)
    async with admin(stage.kafka) as client:
        await client.delete_records({unread: RecordsToDelete(before_offset=1)})
    process = stage.start("usage", STALLED_S="2")
    await process.until_ready()
    await stage.until_booked(extra=1)
    await asyncio.sleep(5)
    process.check()
    assert await stage.count() == 1
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
        metrics = (await client.get("/metrics/")).text
    lags = re.findall(r'^ledger_lag_records\{partition="(\d)",topic="usage"\} (.+)$', metrics, re.M)
    assert dict(lags).keys() >= {"0", "1", "2"} and {lag for _, lag in lags} == {"0.0"}  # though hardly anything was booked
