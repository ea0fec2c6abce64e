"""Owns the way of the journal to `ledger.entries`, for those who rebuild the books elsewhere. It runs only where it is named.

It tails each org's journal by seq, which has no gaps, and keeps its place in the database: a place moves after the broker
has acknowledged what lies before it, so every entry comes at least once, in sequence.
"""

import msgspec
from aiokafka import AIOKafkaProducer

from ledger.kafka import Kafka, publish
from ledger.service import Service
from ledger.store import places, reports
from ledger.store.dialect import claim
from ledger.wire.messages import ENTRIES
from ledger.wire.times import moment_text

MOST_ORGS, MOST_ENTRIES = 50, 1_000
READER = "entries"
_encode = msgspec.json.Encoder().encode


async def publish_once(service: Service, kafka: Kafka, producer: AIOKafkaProducer) -> int:
    """Publishes what follows each org's place; how many entries."""
    async with service.database.reader.connect() as connection:
        behind = await places.behind(connection, READER, MOST_ORGS)
    return sum([await _publish_org(service, kafka, producer, org) for org in behind])


async def _publish_org(service: Service, kafka: Kafka, producer: AIOKafkaProducer, org: str) -> int:
    async with service.database.writer.begin() as connection:
        head = await reports.head(connection, org)
        if head is None or not await claim(connection, f"{READER} {org}"):
            return 0
        after = await places.of(connection, READER, head.org_id)
        entries = await reports.entries(connection, head, after, MOST_ENTRIES)
        topic, key = kafka.topic(ENTRIES), org.encode()
        await publish(producer, [(topic, key, _event(org, entry)) for entry in entries])
        if entries:
            await places.move(connection, READER, head.org_id, entries[-1]["seq"])
    return len(entries)


def _event(org: str, entry: reports.Json) -> bytes:
    return _encode({
        "specversion": "1.0", "type": "ledger.entry.v1", "source": "ledger", "id": f"{org}/{entry['seq']}",
        "time": entry.get("recorded_at", moment_text(0)), "subject": org, "data": {"org": org, **entry},
    })  # fmt: skip
