"""Owns the watch over the group: where the end of a partition moves and the group's place does not, somebody must say so and
go. A consumer that was expelled can stay out for good without an error; a process that ends is started again.

It asks the broker by a client of its own, so that what is broken can't hide itself. While the database is away nothing is
wrong with the consumer: it holds its place on purpose.
"""

import asyncio
import time
from collections.abc import Callable

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError

from ledger.kafka import ISOLATION, Kafka, admin

LOOK_EVERY_S = 5.0
STALLED_S = 60.0

log = structlog.get_logger()


class Stalled(Exception):
    """Records come in and none is acknowledged."""


class Watchdog:
    """Follows one group on one topic.

    Attributes:
      verdict: what is wrong, in words; None while all is well.
    """

    def __init__(self, kafka: Kafka, group: str, topic: str, stalled_s: float = STALLED_S, look_every_s: float = LOOK_EVERY_S) -> None:
        self.kafka, self.group, self.topic = kafka, group, topic
        self.stalled_s, self.look_every_s = stalled_s, look_every_s
        self.verdict: str | None = None
        self._seen: dict[TopicPartition, tuple[int, float]] = {}  # the group's place, and since when it stands there behind the end
        self._mine: set[TopicPartition] = set()

    async def watch(self, mine: Callable[[], set[TopicPartition]], excused: Callable[[], bool]) -> None:
        """Looks until it finds a stall. Raises Stalled.

        `mine`: the partitions this process has; without any, all are watched, since nobody may have them. `excused`: whether
        standing still is on purpose.
        """
        while True:
            await asyncio.sleep(self.look_every_s)
            try:
                async with asyncio.timeout(self.stalled_s):
                    places, ends = await self._look()
            except (KafkaError, OSError, TimeoutError) as error:  # a broker that is away is no fault of this consumer's
                log.info("watchdog_blind", why=str(error)[:200])
                self._seen.clear()
                continue
            if excused():
                self._seen.clear()
            self.judge(places, ends, mine(), time.monotonic())
            if self.verdict is not None:
                raise Stalled(self.verdict)

    def judge(self, places: dict[TopicPartition, int], ends: dict[TopicPartition, int], mine: set[TopicPartition], now_s: float) -> None:
        """Compares a look with those before it, and sets `verdict`. A partition that became ours has stood still since now."""
        for partition in mine - self._mine:
            self._seen.pop(partition, None)
        self._mine = mine
        for partition, end in ends.items():
            place = places.get(partition, 0)
            before = self._seen.get(partition)
            if place >= end:
                self._seen.pop(partition, None)
            elif before is None or before[0] != place:
                self._seen[partition] = (place, now_s)
        ages_s = {partition: now_s - since for partition, (_, since) in self._seen.items() if not mine or partition in mine}
        stalled = (max if mine else min)(ages_s.values(), default=0.0)  # without a partition of our own: only if all stand still
        if stalled >= self.stalled_s:
            worst = max(ages_s, key=lambda partition: ages_s[partition])
            self.verdict = (
                f"{self.topic}/{worst.partition} stands at {places.get(worst, 0)} for {ages_s[worst]:.0f} s while its end is at "
                f"{ends[worst]}: this consumer is stuck, or was expelled from its group"
            )

    async def _look(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """The group's places and the ends. What was deleted before it was read is behind the group's place; so is what is no record."""
        async with admin(self.kafka) as client:
            committed = await client.list_consumer_group_offsets(self.group)
        probe = AIOKafkaConsumer(self.topic, **self.kafka.client(), isolation_level=ISOLATION)  # of no group: it has every partition
        try:
            await probe.start()
            partitions = list(probe.assignment())
            ends, starts = await probe.end_offsets(partitions), await probe.beginning_offsets(partitions)
            places = {at: max(starts[at], committed[at].offset if at in committed else 0) for at in partitions}
            stood = [at for at, (place, _) in self._seen.items() if at in places and place == places[at] < ends[at]]
            unread = await asyncio.gather(*(_to_read(probe, at, places[at], ends[at]) for at in stood))  # each waits in vain for a second
            places |= {at: ends[at] for at, there in zip(stood, unread, strict=True) if not there}
        finally:
            await probe.stop()
        return places, ends


async def _to_read(probe: AIOKafkaConsumer, partition: TopicPartition, place: int, end: int) -> bool:
    """Whether a record lies from here on, and not only the marks of transactions and what was aborted."""
    probe.seek(partition, place)
    try:
        found = await probe.getmany(partition, timeout_ms=1_000, max_records=1)
    except (UnicodeDecodeError, CorruptRecordException):  # a record, if a bad one
        return True
    return bool(found) or await probe.position(partition) < end
