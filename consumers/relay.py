"""Owns the way of messages from the outbox to their topics: per key in revision order whichever relay runs, at least once,
each with a stable id.

A relay takes the lock of a shard of orgs, publishes what waits there in (org, seq) order, and forgets it in the same
transaction once the broker has acknowledged it. Dying between the two publishes again; readers ignore lower revisions. Who loses
the database between the two may come after another relay, with what is old by then: so it has the newest states told once more, since of
`ledger.key-status` only the last record of a key is kept.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from sqlalchemy import Row

from consumers.waiting import until_done
from ledger.kafka import Kafka, publish
from ledger.service import Service
from ledger.store import outbox
from ledger.store.dialect import claim
from ledger.wire.messages import TOLD_IN

MOST_MESSAGES = 2_000


async def relay_once(service: Service, kafka: Kafka, producer: AIOKafkaProducer) -> int:
    """Publishes what waits in the shards that no other relay has; how many messages."""
    async with service.database.reader.connect() as connection:
        shards = await outbox.shards_waiting(connection)
    return sum([await _relay_shard(service, kafka, producer, shard) for shard in shards])


async def _relay_shard(service: Service, kafka: Kafka, producer: AIOKafkaProducer, shard: int) -> int:
    rows: list[Row[Any]] = []
    try:
        async with service.database.writer.begin() as connection:
            if not await claim(connection, f"relay {shard}"):
                return 0
            rows = await outbox.take_shard(connection, shard, MOST_MESSAGES)
            told = [(topic, row) for row in rows for topic in TOLD_IN.get(row.topic, (row.topic,))]
            await publish(producer, [(kafka.topic(topic), row.key.encode(), row.payload.encode()) for topic, row in told])
            await outbox.drop(connection, rows)
    except Exception:
        if rows:
            await _tell_newest(service, rows)
        raise
    for topic, count in Counter(topic for topic, _ in told).items():
        service.metrics.published.labels(topic).inc(count)
    return len(rows)


async def _tell_newest(service: Service, rows: Sequence[Row[Any]]) -> None:
    """Nothing else is done before that: the lock may have been another's while this published."""

    async def tell() -> None:
        async with service.database.writer.begin() as connection:
            await outbox.put_newest(connection, rows)

    await until_done(tell, "newest_states_not_told")
