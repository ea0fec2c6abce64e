"""How usage is taken while others in the same process need the machine more."""

import time

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from consumers.usage import UsageConsumer
from ledger.kafka import Kafka
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import Database
from tests.wire.events import raw


@pytest.mark.parametrize(("pressed", "few", "rests"), [(True, 2, True), (True, 1, False), (False, 2, False)])
async def test_a_few_records_wait_for_more_while_others_are_pressed(
    database: Database, monkeypatch: pytest.MonkeyPatch, pressed: bool, few: int, rests: bool
) -> None:
    """They are booked all the same (T1); many are not kept waiting, nor any where nobody else is in a hurry."""
    monkeypatch.setattr("consumers.usage.FEW", few)
    monkeypatch.setattr("consumers.usage.REST_S", 0.5)
    service = Service(database, Metrics())
    consumer = UsageConsumer(service, Kafka("127.0.0.1:1"), AIOKafkaProducer(bootstrap_servers="127.0.0.1:1"), pytest.fail)
    consumer.pressed = lambda: pressed
    record = ConsumerRecord("usage", 0, 7, time.time_ns() // 1_000_000, 0, b"acme", raw(), None, 4, 100, ())
    began_s = time.monotonic()
    await consumer.take([record])
    assert (time.monotonic() - began_s >= 0.5) is rests
    await consumer.drain()
    assert service.metrics.registry.get_sample_value("ledger_batch_seconds_count") == 1
