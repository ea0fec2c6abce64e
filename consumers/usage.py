"""Owns the way of usage from Kafka into the books: read, record, acknowledge, always in that order.

Offsets are not the mechanism of exactly-once, the identity of each event is (J5): they are committed after the books, and
only for partitions that are still ours. While the database is away the batch in hand is tried again and its place held.
What can't be read goes to the dead letters (T5), unless nobody's records can be read any more: then the consumer stops.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from ledger.core.batch import RECORDED
from ledger.core.commands import RecordUsage, Rejected, Result, Status
from ledger.kafka import Kafka, publish
from ledger.service import Service
from ledger.store.away import is_away
from ledger.wire.messages import USAGE_DEAD
from ledger.wire.records import dead_letter, encode_dead_letter, read_record, record_trace

Record = ConsumerRecord[bytes | None, bytes | None]

MOST_IN_HAND, MOST_BATCHES = 24_000, 16  # records: of one large batch that is written, one decided, one read
AT_ONCE = 500  # records read between two turns of the event loop: heartbeats live there
COMMIT_EVERY_S = 0.25
FEW, REST_S = 1_000, 0.05  # records, after which the next are left to gather while others are pressed
DRAIN_S, DRAIN_IN_TROUBLE_S = 8.0, 2.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 5.0
TRIES = 3  # of a batch that fails though the database is there
UNREADABLE = 1_000  # records in a row of which none could be read, from more than one sender: no longer one sender's fault

log = structlog.get_logger()


class NothingReadable(Exception):
    """Every sender's records fail: more likely our fault than theirs."""


class Batch:
    """Records in hand. `firsts`: each partition's oldest; `offsets`: where it goes on once they are booked."""

    def __init__(self, records: Sequence[Record]) -> None:
        topic, firsts = records[0].topic, {record.partition: record for record in reversed(records)}
        ends = {record.partition: record.offset + 1 for record in records}
        self.firsts = {TopicPartition(topic, partition): first for partition, first in firsts.items()}
        self.offsets = {TopicPartition(topic, partition): end for partition, end in ends.items()}
        self.size = len(records)
        self.booked = False


class UsageConsumer(ConsumerRebalanceListener):
    """Takes batches of raw records; several are under way at once, and acknowledged in the order they came. Under a light load many
    small ones wait for the transaction under way, and are booked together in the next.

    Attributes:
      trouble: why the batch in hand can't be booked just now, in words; None when all is well.
      fail: called with what must end the process.
      client: the Kafka client by now, which is there before it has records; None before it is.
      pressed: whether others in this process have much to do that waits less well than usage.
    """

    def __init__(self, service: Service, kafka: Kafka, producer: AIOKafkaProducer, fail: Callable[[BaseException], None]) -> None:
        self.service = service
        self.kafka = kafka
        self.producer = producer
        self.fail = fail
        self.trouble: str | None = None
        self.client: Callable[[], AIOKafkaConsumer | None] = lambda: None
        self.pressed: Callable[[], bool] = lambda: False
        self._stopping = False
        self._in_hand = 0
        self._freed = asyncio.Event()
        self._order: deque[Batch] = deque()
        self._empty = asyncio.Event()
        self._empty.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: dict[TopicPartition, int] = {}  # booked, and not acknowledged yet
        self._measured: set[TopicPartition] = set()  # whose lag is shown
        self._failing: set[bytes] = set()
        self._failed = 0

    async def take(self, records: Sequence[Record]) -> None:
        """Reads a batch and hands it on; returns as soon as there is room for another.

        A few records cost about what a few hundred do, at the broker and at the database too.
        """
        if len(records) < FEW and self.pressed():
            await asyncio.sleep(REST_S)
        while self._in_hand and (self._in_hand + len(records) > MOST_IN_HAND or len(self._order) >= MOST_BATCHES):
            self._freed.clear()
            await self._freed.wait()
        if self._stopping:
            return
        self._in_hand += len(records)
        batch = Batch(records)
        self._order.append(batch)
        self._empty.clear()
        try:
            commands, dead = await self._read(records)
        except BaseException as error:
            self.fail(error)
            raise
        task = asyncio.create_task(self._book(batch, commands, dead))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, records: Sequence[Record]) -> tuple[list[tuple[Record, RecordUsage]], list[tuple[Record, Rejected]]]:
        good: list[tuple[Record, RecordUsage]] = []
        bad: list[tuple[Record, Rejected]] = []
        strangers = 0
        for at in range(0, len(records), AT_ONCE):
            for record in records[at : at + AT_ONCE]:
                event = read_record(record)
                if isinstance(event, Rejected):
                    bad.append((record, event))
                    self._note_unreadable(record, event)
                    continue
                self._failed = 0
                good.append((record, event))
                if record.key is not None and record.key != event.usage.org.encode():
                    strangers += 1
            await asyncio.sleep(0)
        self.service.metrics.key_mismatches.inc(strangers)
        return good, bad

    def _note_unreadable(self, record: Record, event: Rejected) -> None:
        """One sender's garbage stops nobody; when every sender's records fail, we stop rather than dead-letter them all.

        Records that show neither a key nor a source are taken for one sender's, wherever they lie.
        """
        if not self._failed:
            self._failing.clear()
        self._failed += 1
        if len(self._failing) < 2:
            self._failing.add(record.key or (event.source or "").encode())
        if self._failed >= UNREADABLE and len(self._failing) > 1:
            raise NothingReadable(
                f"the last {self._failed} records of several senders could not be read; the newest is {record.topic}/{record.partition} "
                f"offset {record.offset}: is a producer's format newer than this ledger? Nothing is lost: they lie in the topic"
            )

    async def _book(self, batch: Batch, good: list[tuple[Record, RecordUsage]], bad: list[tuple[Record, Rejected]]) -> None:
        try:
            trace = record_trace(good[0][0]) if good else None  # of one record a batch: an exemplar is an example
            results = await self._record([event for _, event in good], trace)
            bad += [
                (record, Rejected(detail=result.detail or "", reason=result.reason))
                for (record, _), result in zip(good, results, strict=True)
                if result is not RECORDED and result.status is Status.REJECTED and result.reason is not None
            ]
            await self._bury(bad)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.fail(error)
            return
        finally:
            self._in_hand -= batch.size
            self._freed.set()
        batch.booked = True
        while self._order and self._order[0].booked:
            self._done |= self._order.popleft().offsets
        if not self._order:
            self._empty.set()

    async def _record(self, commands: list[RecordUsage], trace: str | None) -> list[Result]:
        """Records, again and again while the database is away. Raises what else goes wrong, after a few tries."""
        wait_s, tries = FIRST_WAIT_S, 0
        while True:
            try:
                results = await self.service.record(commands, trace)
            except Exception as error:
                away = is_away(error)
                tries += not away
                if tries >= TRIES:
                    raise
                self.trouble = f"{'the database does not answer' if away else 'a batch failed'}: {type(error).__name__}"
                log.warning("usage_not_booked", why=self.trouble, detail=str(error)[:300], again_in_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            else:
                self.trouble = None
                return results

    async def _bury(self, bad: Sequence[tuple[Record, Rejected]]) -> None:
        """Dead letters are acknowledged by the broker before the records' offsets are."""
        if not bad:
            return
        topic, now_us = self.kafka.topic(USAGE_DEAD), self.service.clock()
        letters = [dead_letter(record, event.reason, event.detail) for record, event in bad]
        records = [(topic, record.key or b"", encode_dead_letter(letter, now_us)) for (record, _), letter in zip(bad, letters, strict=True)]
        while True:
            try:
                await publish(self.producer, records)
                break
            except KafkaError as error:
                log.warning("dead_letters_not_published", why=str(error)[:300])
                await asyncio.sleep(FIRST_WAIT_S)
        for letter in letters:
            self.service.metrics.dead_letters.labels(letter.reason).inc()

    async def commit_for_ever(self) -> None:
        """Acknowledges what is booked, a few times a second, until cancelled."""
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self.commit()
            await self._measure_lag()

    async def commit(self) -> None:
        """Acknowledges what is booked and still ours."""
        consumer, done = self.client(), self._done
        if consumer is None or not done:
            return
        self._done = {}
        ours = {partition: offset for partition, offset in done.items() if partition in consumer.assignment()}
        try:
            if ours:
                await consumer.commit(ours)
        except (CommitFailedError, IllegalStateError) as error:  # a rebalance: whoever has them now meets duplicates
            log.info("offsets_not_committed", why=str(error)[:200])
        except KafkaError as error:
            self._done = ours | self._done
            log.warning("offsets_not_committed", why=str(error)[:200])

    async def _measure_lag(self) -> None:
        """Behind the end, from the oldest record in hand; with none in hand, from where the next one would be read: behind the marks
        that end transactions, which are no records."""
        consumer = self.client()
        if consumer is None:
            return
        oldest = {partition: record for batch in reversed(self._order) for partition, record in batch.firsts.items()}
        mine, metrics = tuple(consumer.assignment()), self.service.metrics
        for partition in self._measured.difference(mine):  # another consumer's by now: what was last seen of it would stay for ever
            metrics.lag_records.remove(*self._labels(partition))
            metrics.lag_seconds.remove(*self._labels(partition))
        self._measured.intersection_update(mine)
        for partition in mine:
            end = consumer.highwater(partition)
            if end is None:  # nothing has been fetched yet
                continue
            first = oldest.get(partition)
            try:
                at = await consumer.position(partition) if first is None else first.offset
            except KafkaError:  # it has just gone to another consumer, or the group has no coordinator
                continue
            age_s = time.time() - first.timestamp / 1000 if first is not None else 0.0
            metrics.lag_records.labels(*self._labels(partition)).set(max(0, end - at))
            metrics.lag_seconds.labels(*self._labels(partition)).set(max(0.0, age_s))
            self._measured.add(partition)

    def _labels(self, partition: TopicPartition) -> tuple[str, str]:
        return partition.topic.removeprefix(self.kafka.prefix), str(partition.partition)

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Books and acknowledges what is in hand."""
        try:
            await asyncio.wait_for(self._empty.wait(), within_s)
        except TimeoutError:
            log.warning("not_drained", batches=len(self._order), why=self.trouble)
        await self.commit()

    async def stop(self) -> None:
        """Takes nothing more, and drains; what can't be booked just now is left for the next start, which takes it again."""
        self._stopping = True
        await self.drain(DRAIN_S if self.trouble is None else DRAIN_IN_TROUBLE_S)
        for task in list(self._tasks):
            task.cancel()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # type: ignore[override]
        """Before partitions go to another consumer: what is in hand is booked and acknowledged, so that little is sent twice."""
        if revoked:
            await self.drain()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:  # type: ignore[override]
        """Nothing is kept for a partition."""
