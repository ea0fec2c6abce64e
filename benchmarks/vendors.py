"""Figures of what a breach does at a vendor that answers in 20 ms, a process of its own with OpenRouter's management API."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe

import asyncpg
import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.events import ORG, caps, events
from benchmarks.figures import Figure
from benchmarks.kafka import consumer, prepared, servers
from benchmarks.population import PARTITIONS, Population
from ledger.core.caps import Action, Rule
from ledger.core.commands import Command, SetCap, SetConnection, SetOrg
from ledger.core.connections import Connection, Gateway
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.kafka import Kafka, create_topics
from ledger.wire.messages import USAGE
from ledger.wire.usage import parse_usage
from tests.servers.openrouter import TOKEN, OpenRouterApi, hash_of
from tests.servers.vendor import Vendor

PACE_S = 0.020
KEYS, WARM_UP_S, LONGEST_S = 10_000, 3, 90


class TellingApi(OpenRouterApi):
    """Tells when all of its keys have been turned (`time.monotonic`, the same for every process of a machine)."""

    def tell(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def turn(self, key: str, state: str) -> None:
        super().turn(key, state)
        if len(self.turned) == len(self.keys):
            self._pipe.send(time.monotonic())


async def _serve(pipe: Pipe, names: Sequence[str], pace_s: float) -> None:
    api = TellingApi()
    api.tell(pipe)
    for name in names:
        api.add(name)
    vendor = Vendor(api)
    vendor.pace_s = pace_s
    await vendor.start()
    pipe.send(vendor.address)
    await asyncio.Event().wait()


def _run_vendor(pipe: Pipe, names: Sequence[str], pace_s: float) -> None:
    uvloop.run(_serve(pipe, names, pace_s))


@contextmanager
def vendor_process(names: Sequence[str], pace_s: float = PACE_S) -> Iterator[tuple[str, Pipe]]:
    """A vendor that has these keys; its address, and the pipe that tells when all are turned."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_run_vendor, args=(theirs, names, pace_s), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        process.kill()
        process.join()


class _Stage:
    """A ledger at work."""

    def __init__(self, kafka: Kafka, producer: AIOKafkaProducer, database: asyncpg.Connection, turned: Pipe) -> None:
        self._kafka, self._producer, self.database, self.turned = kafka, producer, database, turned

    async def feed(self, rate: int) -> None:
        """So many events a second, until cancelled."""
        made = events(1, LONGEST_S * rate)
        began = time.monotonic()
        for n, event in enumerate(made):
            if n % (rate // 100) == 0:
                await asyncio.sleep(max(0.0, began + n / rate - time.monotonic()))
            await self.send(event | {"time": _now()})

    async def send(self, event: dict[str, object]) -> None:
        await self._producer.send(self._kafka.topic(USAGE), json.dumps(event).encode(), key=ORG.encode())

    async def spend(self, name: str, cost_usd: str) -> float:
        """Sends a call of a key; when."""
        await self.send(_call(name, cost_usd))
        return time.monotonic()

    async def until_confirmed(self, count: int) -> None:
        """Until so many commands are confirmed in the books."""
        while (await self.database.fetchval("SELECT count(*) FROM commands WHERE delivery = 'confirmed'") or 0) < count:
            await asyncio.sleep(0.1)

    async def ingest_ms_p99(self, since_us: int) -> float:
        """From an event's own time to its booking, 99th percentile."""
        lags = await self.database.fetch(
            "SELECT recorded_us - time_us AS lag FROM journal WHERE kind = 'UsageRecorded' AND time_us >= $1", since_us
        )
        return statistics.quantiles([row["lag"] / 1000 for row in lags], n=100)[98]


@asynccontextmanager
async def _consumers(url: str, kafka: Kafka) -> AsyncIterator[None]:
    with consumer(url, kafka, "usage", "pulse", "relay", "keys"):
        yield


@asynccontextmanager
async def _running(
    server_url: str, bootstrap: str, names: Sequence[str], orders: Sequence[Command], rate: int
) -> AsyncIterator[_Stage]:  # fmt: skip
    """The production form as one process, at a vendor that has these keys, under so many events a second."""
    os.environ["VENDOR_TOKEN"] = TOKEN
    kafka = Kafka(bootstrap, f"bench{uuid.uuid4().hex[:8]}.")
    await create_topics(kafka, PARTITIONS, 1)
    with vendor_process(names) as (address, turned):
        way = Connection(connection_id="openrouter", gateway=Gateway.OPENROUTER, address=address, token="env:VENDOR_TOKEN")
        who = Population("vendor", [], None, [*orders, SetConnection(org=ORG, by="bench", connection=way), *caps()])
        async with prepared(server_url, who) as url, _consumers(url, kafka):
            producer = AIOKafkaProducer(**kafka.client(), linger_ms=0, acks="all")
            await producer.start()
            database = await asyncpg.connect(url)
            stage = _Stage(kafka, producer, database, turned)
            feeding = asyncio.create_task(stage.feed(rate))
            try:
                await asyncio.sleep(WARM_UP_S)
                yield stage
            finally:
                feeding.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await feeding
                await producer.stop()
                await database.close()


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _call(name: str, cost_usd: str) -> dict[str, object]:
    data = {"org": ORG, "key": hash_of(name), "workspace": "fleet", "cost_usd": cost_usd}
    return events(0, 1)[0] | {"id": f"{name}/{cost_usd}", "time": _now(), "data": data}


def _known(name: str) -> Command:
    """A call that makes a key known."""
    return parse_usage(json.dumps(_call(name, "0.000001")).encode())  # type: ignore[return-value]


def mass_pause(rounds: int) -> list[Figure]:
    """Seconds from sending the usage that breaches a workspace of ten thousand keys to the last one paused at the vendor, and how
    old usage was when it was booked meanwhile, at 1,000 events/s."""
    with servers() as (bootstrap, url):
        runs = [asyncio.run(_mass(url, bootstrap)) for _ in range(rounds)]
    took_s, ingest_ms = zip(*runs, strict=True)
    return [Figure("mass_pause_s", "s", took_s, target="≤ 5"), Figure("mass_pause_ingest_ms_p99", "ms", ingest_ms)]


async def _mass(server_url: str, bootstrap: str) -> tuple[float, float]:
    names = [f"agent-{n:05d}" for n in range(KEYS)]
    rule = Rule(period=Period.MONTH, limit=Nanos(KEYS * USD), action=Action.PAUSE)
    cap = SetCap(org=ORG, by="bench", cap="fleet", scope="workspace:fleet", rule=rule)
    async with _running(server_url, bootstrap, names, [*map(_known, names), cap], 1_000) as stage:
        since_us = time.time_ns() // 1000
        began = await stage.spend(names[0], f"{KEYS}.00")
        last = await asyncio.to_thread(stage.turned.recv)
        await stage.until_confirmed(KEYS)
        print(f"  all paused after {last - began:.1f} s, all confirmed after {time.monotonic() - began:.1f} s", file=sys.stderr)
        return last - began, await stage.ingest_ms_p99(since_us)


def breach_to_confirmed(rounds: int) -> list[Figure]:
    """Milliseconds from sending the usage that crosses a key's cap to the confirmed pause in the books, by way of Kafka, PostgreSQL
    and two calls of 20 ms to the vendor; ten crossings a second under 100 and under 1,000 events/s, 99th percentile of a run."""
    figures: list[Figure] = []
    with servers() as (bootstrap, url):
        for rate, name, target in ((100, "breach_to_confirmed_ms_p99", "≤ 200"), (1_000, "breach_to_confirmed_busy_ms_p99", "")):
            figures.append(Figure(name, "ms", [asyncio.run(_round_trips(url, bootstrap, rate)) for _ in range(rounds)], target=target))
    return figures


async def _round_trips(server_url: str, bootstrap: str, rate: int, seconds: int = 12) -> float:
    names = [f"victim-{n:03d}" for n in range(seconds * 10)]
    rule = Rule(period=Period.MONTH, limit=Nanos(USD), action=Action.PAUSE)
    capped = [SetCap(org=ORG, by="bench", cap=name, scope=f"key:{hash_of(name)}", rule=rule) for name in names]
    orders = [SetOrg(org=ORG, by="bench", brake=10_000), *map(_known, names), *capped]
    async with _running(server_url, bootstrap, names, orders, rate) as stage:
        sent_us: dict[str, int] = {}
        for name in names:
            sent_us[hash_of(name)] = time.time_ns() // 1000
            await stage.spend(name, "2.00")
            await asyncio.sleep(0.1)
        await stage.until_confirmed(len(names))
        rows = await stage.database.fetch("SELECT key, confirmed_us FROM commands")
        waits = [(row["confirmed_us"] - sent_us[row["key"]]) / 1000 for row in rows]
    print(f"  median {statistics.median(waits):.0f} ms", file=sys.stderr)
    return statistics.quantiles(waits, n=100)[98]
