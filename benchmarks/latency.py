"""event_to_command: from the moment a crossing event is produced to the moment its command is seen on `ledger.key-commands`."""

import asyncio
import contextlib
import time
import uuid

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.figures import Figure
from benchmarks.kafka import consumer, pin, prepared
from benchmarks.population import PARTITIONS, Population, narrow, records, send_batches
from ledger.core.caps import Action, Rule
from ledger.core.commands import Command, SetCap
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.kafka import Kafka, create_topics
from ledger.wire.messages import KEY_COMMANDS, USAGE
from tests.servers.kafka import own_kafka
from tests.servers.postgres import own_postgres

SECONDS, WARM_UP, GRACE_S = 30, 5, 30
ORGS = 20
LIMIT = Nanos(1_000 * USD)


def _org(n: int) -> str:
    """Each time another one's key: an org whose keys run away one after the other is slowed down by its brake (K4)."""
    return f"org-{n % ORGS:04d}"


def _runaways(count: int) -> list[Command]:
    """A key a second that one call will take over its cap."""
    rule = Rule(period=Period.DAY, limit=LIMIT, action=Action.PAUSE)
    return [SetCap(org=_org(n), by="bench", cap=f"runaway-{n}", scope=f"key:runaway-{n}", rule=rule) for n in range(count)]


def _crossing(n: int) -> bytes:
    data = {"org": _org(n), "workspace": "ws-0", "key": f"runaway-{n}", "cost_usd": "1000.00"}
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return msgspec.json.encode(
        {"specversion": "1.0", "type": "llm.usage.v1", "source": "bench", "id": str(uuid.uuid4()), "time": moment, "data": data}
    )


async def _once(server_url: str, kafka: Kafka, rate: int) -> list[float]:
    """Milliseconds of each crossing, at so many events a second."""
    base = narrow()
    seconds = SECONDS + WARM_UP
    who = Population(base.name, base.keys, base.weights, base.orders + _runaways(seconds))
    await create_topics(kafka, PARTITIONS, 1)
    made = list(records(who, rate * seconds, 1))
    sent, seen = dict[str, float](), dict[str, float]()
    async with prepared(server_url, who) as url:
        with consumer(url, kafka, "usage", "pulse", "relay"):
            producer = AIOKafkaProducer(**kafka.client(), linger_ms=0, acks="all")
            listener = AIOKafkaConsumer(kafka.topic(KEY_COMMANDS), **kafka.client(), auto_offset_reset="earliest")
            await producer.start()
            await listener.start()

            async def listen() -> None:
                async for record in listener:
                    seen.setdefault(msgspec.json.decode(record.value or b"")["data"]["key"], time.perf_counter())  # a midnight resumes it

            listening = asyncio.create_task(listen())
            began, done = time.perf_counter(), 0
            for n in range(seconds * 100):
                due = min(len(made), (n + 1) * rate // 100)
                await send_batches(producer, kafka.topic(USAGE), made[done:due])
                done = due
                if n % 100 == 50:
                    sent[f"runaway-{n // 100}"] = time.perf_counter()
                    await producer.send(kafka.topic(USAGE), _crossing(n // 100), key=_org(n // 100).encode())
                await asyncio.sleep(max(0.0, began + (n + 1) / 100 - time.perf_counter()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    while seen.keys() != sent.keys():
                        await asyncio.sleep(0.1)
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
            await listener.stop()
            await producer.stop()
    assert sent.keys() == seen.keys(), f"no command within {GRACE_S} s: {sorted(sent.keys() - seen.keys())}"
    return [(seen[key] - sent[key]) * 1000 for key in sent if int(key.split("-")[1]) >= WARM_UP]


def event_to_command(rounds: int) -> list[Figure]:
    """The slowest of thirty crossings in each run, under 10,000 and under 100 events a second."""
    figures: list[Figure] = []
    with own_kafka() as broker, own_postgres() as server:
        asyncio.run(pin(server))
        for rate, name, target in ((10_000, "event_to_command_ms_p99", "≤ 60"), (100, "event_to_command_idle_ms_p99", "≤ 40")):
            runs = [max(asyncio.run(_once(server.url, Kafka(broker.bootstrap, f"l{rate}.{n}."), rate))) for n in range(rounds)]
            figures.append(Figure(name, "ms", runs, target=target))
    return figures
