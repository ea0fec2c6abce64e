"""Owns how fetched records are taken from the client: one that the library can't parse holds up nobody, and nothing is passed over.

The library hands out all partitions at once, and where it raises for one, what it had in hand of the others is gone. So the
wait takes one record at most, and then each partition is emptied by itself. A partition that raises stands where it stood: it
is read on from there by `ledger.rawrecords`, which can read what the library can't.

Where to begin is not left to the library, which would go on behind records that are gone without a word.
"""

import time
from collections.abc import Collection, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from prometheus_client import Counter

from ledger.kafka import Kafka
from ledger.rawrecords import Record, read_from

MOST_RECORDS = 8_000
POLL_MS = 20  # a wait ends as soon as there is something
_ONE_BY_ONE_S = 5.0
_UNPARSED = (UnicodeDecodeError, CorruptRecordException)
_NOWHERE = (NoOffsetForPartitionError, OffsetOutOfRangeError)

log = structlog.get_logger()


class Polling:
    """Takes batches from one client. `gaps` counts the times that records were gone before they were read."""

    def __init__(self, kafka: Kafka, gaps: Counter) -> None:
        self.kafka = kafka
        self._gaps = gaps
        self._one_by_one_until = 0.0
        self._turn = 0

    async def poll(self, client: AIOKafkaConsumer) -> Sequence[Record]:
        """What has been fetched, at most about MOST_RECORDS; none after a short wait in vain. Raises KafkaError."""
        found: list[Record] = []
        wait_ms = POLL_MS
        if time.monotonic() >= self._one_by_one_until or not client.assignment():
            try:
                for records in (await client.getmany(timeout_ms=POLL_MS, max_records=1)).values():
                    found += records
            except _UNPARSED:  # which partition's is not said: it is fetched again, and met where each is asked by itself
                self._one_by_one_until = time.monotonic() + _ONE_BY_ONE_S
            except _NOWHERE as error:
                await self._begin(client, error)
            if not found:
                return found
            wait_ms = 0
        for partition in self._in_turn(client.assignment()):
            try:
                found += await self._take(client, partition, wait_ms, MOST_RECORDS - len(found))
            except KafkaError as error:
                if not found:
                    raise
                log.warning("polled_less", why=f"{type(error).__name__}: {error}"[:300])  # what is in hand must not be dropped
                break
            if len(found) >= MOST_RECORDS:
                break
            wait_ms = 0 if found else wait_ms
        return found

    async def _take(self, client: AIOKafkaConsumer, partition: TopicPartition, wait_ms: int, most: int) -> Sequence[Record]:
        try:
            return (await client.getmany(partition, timeout_ms=wait_ms, max_records=most)).get(partition, ())
        except _UNPARSED as error:
            self._one_by_one_until = 0.0
            log.warning("read_without_the_client", topic=partition.topic, partition=partition.partition, why=str(error)[:200])
            return await self._read_on(client, partition)
        except _NOWHERE as error:
            await self._begin(client, error)
            return ()

    def _in_turn(self, partitions: Collection[TopicPartition]) -> list[TopicPartition]:
        """Another one is first each time, so that a full batch starves none."""
        self._turn += 1
        at = self._turn % max(1, len(partitions))
        ordered = sorted(partitions)
        return ordered[at:] + ordered[:at]

    async def _read_on(self, client: AIOKafkaConsumer, partition: TopicPartition) -> Sequence[Record]:
        """Records from where the client stands in this partition; it stands behind them then."""
        try:
            offset = await client.position(partition)
            records = await read_from(self.kafka, partition, offset)
            if not records or await client.position(partition) != offset:
                return ()
            client.seek(partition, records[-1].offset + 1)
        except (IllegalStateError, OffsetOutOfRangeError):  # gone to another consumer meanwhile, or let go: then the client is told next
            return ()
        return records

    async def _begin(self, client: AIOKafkaConsumer, error: NoOffsetForPartitionError | OffsetOutOfRangeError) -> None:
        """Goes on at the oldest record of a partition; where another was sought, somebody is told. A group that reads it for the first
        time sought none."""
        said = error.args[0]
        ((partition, sought),) = said.items() if isinstance(error, OffsetOutOfRangeError) else ((said, None),)
        start = (await client.beginning_offsets([partition]))[partition]
        try:
            client.seek(partition, start)
        except IllegalStateError:  # the partition went to another consumer meanwhile
            return
        if sought is None:
            return
        self._gaps.inc()
        gone = "they were let go before they were read" if sought < start else "the topic was made anew, or lost its newest"
        log.error("records_gone", topic=partition.topic, partition=partition.partition, sought=sought, begins_at=start, why=gone)
