"""How usage is taken from its partitions, and left there for a moment while others in the same process need the machine more."""

import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import RecordsToDelete
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from consumers.app import Consumers
from consumers.polling import Polling
from consumers.usage import UsageConsumer
from ledger.agent import Agent
from ledger.gateways.outward import open_gateway
from ledger.kafka import Kafka, admin
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import Database
from tests.consumers.harness import Stage
from tests.consumers.test_bad_records import event, send
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


@pytest.mark.parametrize("sought", [None, 1])
async def test_beside_a_busy_partition_one_without_a_place_begins_at_once(stage: Stage, sought: int | None) -> None:
    """Nobody read it before, or what was sought there is gone; only that is told of, and none of the others' records waits for it."""
    busy, lost = (TopicPartition(stage.kafka.topic("usage"), partition) for partition in (0, 1))
    await send(stage, [(b"org-0", event(f"busy {n}"), ()) for n in range(500)], partition=0)
    await send(stage, [(b"org-0", event(f"lost {n}"), ()) for n in range(3)], partition=1)
    async with admin(stage.kafka) as client:
        await client.delete_records({lost: RecordsToDelete(before_offset=2)})
    reader = AIOKafkaConsumer(
        **stage.kafka.client(), group_id=stage.kafka.topic("readers"), auto_offset_reset="none", enable_auto_commit=False,
        max_partition_fetch_bytes=20_000,
    )  # fmt: skip
    reader.assign([busy, lost])
    await reader.start()
    await reader.commit({busy: 0} | ({} if sought is None else {lost: sought}))
    polling, found, polls = Polling(stage.kafka, gaps := Counter("gaps", "", registry=CollectorRegistry())), [], 0
    with capture_logs() as logs:
        while len(found) < 501 and polls < 200:
            found += await polling.poll(reader)
            polls += 1
    await reader.stop()
    assert sorted(record.offset for record in found if record.partition == 0) == list(range(500))
    assert [record.offset for record in found if record.partition == 1] == [2]
    assert [entry["event"] for entry in logs] == ([] if sought is None else ["records_gone"])
    assert gaps._value.get() == (sought is not None)


async def test_usage_waits_for_the_key_agent_of_its_own_process(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """K5: ten thousand keys of a workspace are to be stopped, and each call there ends spending."""
    kafka = Kafka("127.0.0.1:1")
    consumers = Consumers(("usage", "keys"), Service(database, Metrics()), kafka, lambda connection: open_gateway(connection, {}))
    consumers._subscribe_usage(AIOKafkaProducer(bootstrap_servers=kafka.bootstrap))
    assert consumers._usage is not None and not consumers._usage.pressed()
    monkeypatch.setattr(Agent, "pressed", True)
    assert consumers._usage.pressed()
