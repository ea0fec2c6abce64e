"""Figures of the production form: a backlog in a real Kafka, one or two consumer processes, a real PostgreSQL, on one machine.

REF is a bare binary COPY of the very journal rows that the run made, and of their identities, into tables with the same
unique indexes, in the same run.
"""

import asyncio
import contextlib
import hashlib
import io
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import asyncpg
import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks.figures import Figure
from ledger.core.caps import Action, Guardrail, Rule
from ledger.core.commands import Command, SetCap, SetGuardrail, SetOrg
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.kafka import Kafka, create_topics
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import connect
from ledger.store.schema import migrate
from tests.servers.kafka import own_kafka
from tests.servers.postgres import Server, own_postgres
from tests.servers.processes import free_port

COUNT, DUPLICATES, PARTITIONS = 1_000_000, 0.05, 8
MODELS = ("openai/gpt-5", "anthropic/claude-opus-4-6", "anthropic/claude-sonnet-5", "google/gemini-3-pro", "openai/gpt-5-mini")
ZONES = ("America/New_York", "Europe/Berlin")
REFERENCE = "bare binary COPY of the same rows, same unique indexes"
GROWN = 10_000_000
NEVER = Nanos(1_000_000_000 * USD)  # limits that are looked at by every event and reached by none
# What the figures are published with: durable, and room for checkpoints.
PINNED = {
    "shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "15min", "wal_compression": "off",
    "fsync": "on", "synchronous_commit": "on",
}  # fmt: skip


class Population(NamedTuple):
    """Who spends: (org, workspace, key), how often each, and what stands on them."""

    name: str
    keys: list[tuple[str, str, str]]
    weights: list[float] | None
    orders: list[Command]


def _rule(period: Period) -> Rule:
    return Rule(period=period, limit=NEVER, action=Action.PAUSE, thresholds=(50, 80))


def narrow() -> Population:
    """20 orgs in two zones, 2,880 keys, a cap on every key, workspace and org."""
    keys, orders = list[tuple[str, str, str]](), list[Command]()
    for n in range(20):
        org = f"org-{n:04d}"
        orders.append(SetOrg(org=org, by="bench", time_zone=ZONES[n % 2]))
        orders.append(SetCap(org=org, by="bench", cap="org", scope="org", rule=_rule(Period.MONTH)))
        for w in range(3):
            workspace = f"ws-{n * 3 + w}"
            orders.append(SetCap(org=org, by="bench", cap=workspace, scope=f"workspace:{workspace}", rule=_rule(Period.WEEK)))
            for k in range(48):
                key = f"key-{hashlib.sha256(f'{n}/{w}/{k}'.encode()).hexdigest()[:40]}"
                keys.append((org, workspace, key))
                orders.append(SetCap(org=org, by="bench", cap=key[:20], scope=f"key:{key}", rule=_rule(Period.DAY)))
    return Population("narrow", keys, None, orders)


def wide() -> Population:
    """2,000 orgs, 100,000 keys that nobody has seen yet, under guardrails for every key and workspace."""
    draw = random.Random(7)
    orgs = [f"org-{n:04d}" for n in range(2_000)]
    owners = draw.choices(range(2_000), weights=[1 / (n + 1) ** 0.8 for n in range(2_000)], k=100_000)
    names = [f"key-{hashlib.sha256(f'L{n}'.encode()).hexdigest()[:40]}" for n in range(100_000)]
    keys = [(orgs[owner], f"ws-{owner}-{draw.randrange(5)}", name) for owner, name in zip(owners, names, strict=True)]
    weights = [1 / (n + 1) ** 0.7 for n in range(100_000)]
    draw.shuffle(weights)
    orders: list[Command] = []
    for n, org in enumerate(orgs):
        orders.append(SetOrg(org=org, by="bench", time_zone=ZONES[n % 2]))
        for each, period in (("key", Period.DAY), ("workspace", Period.MONTH)):
            rail = Guardrail(guardrail_id=f"each-{each}", each=each, within=("org",), rule=_rule(period))
            orders.append(SetGuardrail(org=org, by="bench", guardrail=rail))
    return Population("wide", keys, weights, orders)


def records(who: Population, count: int, seed: int, *, timed_ids: bool = False) -> Iterator[tuple[str, bytes]]:
    """(org, CloudEvent) in the order of their time over four hours of today; 5 % come again, mostly soon."""
    draw = random.Random(seed)
    picked = draw.choices(who.keys, weights=who.weights, k=count)
    now_ms = int(time.time() * 1000) - 4 * 3600_000
    again: dict[int, list[tuple[str, bytes]]] = {}
    raw = draw.randbytes(16 * count)
    stamp, second = "", 0
    for n, (org, workspace, key) in enumerate(picked):
        ms = now_ms + n * 4 * 3600_000 // count
        h = raw[16 * n : 16 * n + 16].hex()
        if timed_ids:
            h = f"{ms:012x}" + h[12:]
        if ms // 1000 != second:
            second = ms // 1000
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        identity = f"{h[:8]}-{h[8:12]}-{7 if timed_ids else 4}{h[13:16]}-a{h[17:20]}-{h[20:]}"
        tokens_in, tokens_out = draw.randrange(10, 9000), draw.randrange(5, 3000)
        cost = tokens_in * 125 + tokens_out * 1000
        event = (
            f'{{"specversion":"1.0","id":"{identity}","source":"gw-{n % 3}","type":"llm.usage.v1","time":"{stamp}.{ms % 1000:03d}Z","data":'
            f'{{"org":"{org}","workspace":"{workspace}","key":"{key}","model":"{MODELS[n % 5]}","input_tokens":{tokens_in},'
            f'"output_tokens":{tokens_out},"cost_usd":"{cost // 10**8}.{cost % 10**8:08d}","byok":false}}}}'
        )
        made = (org, event.encode())
        yield made
        if draw.random() < DUPLICATES:
            again.setdefault(n + draw.randrange(1, 50_000 if draw.random() < 0.9 else count), []).append(made)
        yield from again.pop(n, ())
    for late in again.values():
        yield from late


async def produce(kafka: Kafka, topic: str, made: Iterator[tuple[str, bytes]]) -> int:
    """Fills a topic, each org in one partition; how many records."""
    producer = AIOKafkaProducer(**kafka.client(), compression_type="lz4", max_batch_size=65_536, linger_ms=20)
    await producer.start()
    places: dict[str, int] = {}
    waiting: list[asyncio.Future[Any]] = []
    batches: dict[int, BatchBuilder] = {}
    count = 0
    try:
        for org, value in made:
            count += 1
            place = places.get(org)
            if place is None:
                place = places[org] = (murmur2(org.encode()) & 0x7FFFFFFF) % PARTITIONS
            builder = batches.get(place)
            if builder is None:
                builder = batches[place] = producer.create_batch()
            if builder.append(key=org.encode(), value=value, timestamp=None) is None:
                waiting.append(await producer.send_batch(builder, topic, partition=place))
                builder = batches[place] = producer.create_batch()
                builder.append(key=org.encode(), value=value, timestamp=None)
        for place, builder in batches.items():
            waiting.append(await producer.send_batch(builder, topic, partition=place))
        await asyncio.gather(*waiting)
    finally:
        await producer.stop()
    return count


@contextmanager
def consumer(database_url: str, kafka: Kafka, *names: str) -> Iterator[subprocess.Popen[bytes]]:
    """A consumer process; waits until it says that it is there."""
    port = free_port()
    environment = os.environ | {
        "LEDGER_DATABASE_URL": database_url, "LEDGER_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "LEDGER_TOPIC_PREFIX": kafka.prefix,
        "LEDGER_METRICS_PORT": str(port), "LEDGER_LOG_LEVEL": "warning",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "consumers", *names], env=environment)
    try:
        while process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"http://127.0.0.1:{port}/livez")
                break
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident, MB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


@asynccontextmanager
async def prepared(server_url: str, who: Population) -> AsyncIterator[str]:
    """A database with the schema and the population's policies; its URL."""
    name = f"bench_{uuid.uuid4().hex[:8]}"
    admin = await asyncpg.connect(server_url)
    await admin.execute(f'CREATE DATABASE "{name}"')
    url = server_url.rsplit("/", 1)[0] + "/" + name
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
    service = Service(database, Metrics())
    for at in range(0, len(who.orders), 2_000):
        await service.record(who.orders[at : at + 2_000])
    await database.close()
    try:
        yield url
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


async def pin(server: Server) -> None:
    """Sets what the figures are published with, and starts the server anew."""
    connection = await asyncpg.connect(server.url)
    for name, value in PINNED.items():
        await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    await connection.close()
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)


class Run(NamedTuple):
    """What one run came to."""

    events_s: float
    ref_rows_s: float
    memory_mb: float


async def fold_once(server_url: str, kafka: Kafka, who: Population, produced: int, distinct: int, processes: int, grown: int) -> Run:
    """Books a backlog, proves that all of it is there once, and measures REF on the same rows."""
    async with prepared(server_url, who) as url:
        watch = await asyncpg.connect(url)
        if grown:
            await grow(watch, grown)
        await watch.execute("CHECKPOINT")
        with contextlib.ExitStack() as running:
            began = time.perf_counter()
            started = [running.enter_context(consumer(url, kafka, "usage")) for _ in range(processes)]
            began = time.perf_counter()
            while await watch.fetchval("SELECT coalesce(sum(requests), 0) FROM days WHERE scope = 'org'") < distinct:
                await asyncio.sleep(0.05)
                assert all(process.poll() is None for process in started), "a consumer ended"
            took_s = time.perf_counter() - began
            memory = sum(peak_mb(process.pid) for process in started)
        mine = "SELECT count(*) FROM journal WHERE kind = 'UsageRecorded' AND org_id <= 1000000"
        assert await watch.fetchval(mine) == distinct
        ref = 0.0 if grown else await reference(watch)
        await watch.close()
    return Run(produced / took_s, ref, memory)


async def grow(connection: asyncpg.Connection, count: int) -> None:
    """Fills the journal with entries of orgs that nobody asks for, with identities all over the index."""
    names = "org_id, seq, kind, recorded_us, day, workspace, key, time_us, source, event_id, cost, cost_text, byok, batch, model"
    counts = "input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_tokens, images, searches"
    org, seq = "1000001 + n % 20", "n / 20 + 1"
    await connection.execute(
        f"INSERT INTO journal ({names}, {counts}) SELECT {org}, {seq}, 'UsageRecorded', 0, 20000, 'ws', 'key-' || n % 3000, 0, 'gw', "
        f"gen_random_uuid()::text, 1000, '0.000001', false, false, 'model', 1, 0, 0, 1, 0, 0, 0, 0 FROM generate_series(1, {count}) AS n",
        timeout=3600,
    )
    await connection.execute(
        f"INSERT INTO known_ids SELECT {org}, decode(md5(n::text), 'hex'), {seq} FROM generate_series(1, {count}) AS n", timeout=3600
    )
    await connection.execute("ANALYZE")


async def reference(connection: asyncpg.Connection) -> float:
    """REF: rows a second of a bare binary COPY of the journal's rows and identities, with the same unique indexes."""
    files = {}
    for table in ("journal", "known_ids"):
        files[table] = io.BytesIO()
        order = "org_id, seq" if table == "known_ids" else "recorded_us, org_id, seq"
        await connection.copy_from_query(f"SELECT * FROM {table} ORDER BY {order}", output=files[table], format="binary")
        await connection.execute(f"CREATE TABLE ref_{table} (LIKE {table} INCLUDING DEFAULTS)")
    await connection.execute("ALTER TABLE ref_journal ADD PRIMARY KEY (org_id, seq)")
    await connection.execute("ALTER TABLE ref_known_ids ADD PRIMARY KEY (org_id, digest)")
    rows = await connection.fetchval("SELECT count(*) FROM journal")
    await connection.execute("CHECKPOINT")
    began = time.perf_counter()
    for table, file in files.items():
        file.seek(0)
        await connection.copy_to_table(f"ref_{table}", source=file, format="binary")
    took_s = time.perf_counter() - began
    await connection.execute("DROP TABLE ref_journal, ref_known_ids")
    return float(rows or 0) / took_s


@contextmanager
def servers() -> Iterator[tuple[str, str]]:
    """A broker's address and a pinned PostgreSQL's URL."""
    with own_kafka() as broker, own_postgres() as server:
        asyncio.run(pin(server))
        yield broker.bootstrap, server.url


def events_count() -> int:
    """How many events a run books: a million, or BENCH_EVENTS."""
    return int(os.environ.get("BENCH_EVENTS", COUNT))


def run_once(
    bootstrap: str, server_url: str, who: Population, seed: int, *, timed_ids: bool = False, processes: int = 1, grown: int = 0
) -> Run:  # fmt: skip
    """Fills a topic of its own, and books it. `grown`: entries that the journal holds before."""
    kafka, count = Kafka(bootstrap, f"bench{uuid.uuid4().hex[:8]}."), events_count()

    async def once() -> Run:
        await create_topics(kafka, PARTITIONS, 1)
        produced = await produce(kafka, kafka.topic("usage"), records(who, count, seed, timed_ids=timed_ids))
        return await fold_once(server_url, kafka, who, produced, count, processes, grown)

    run = asyncio.run(once())
    print(f"  {who.name} {run}", file=sys.stderr)
    return run


def _against_ref(name: str, who: Population, rounds: int, target: str, rss: str = "", processes: int = 1) -> list[Figure]:
    with servers() as (bootstrap, url):
        runs = [run_once(bootstrap, url, who, seed, processes=processes) for seed in range(rounds)]
    figures = [Figure(name, "events/s", [run.events_s for run in runs], REFERENCE, [run.ref_rows_s for run in runs], target)]
    return figures + ([Figure(f"consumer_rss_mb_{who.name}", "MB", [run.memory_mb for run in runs], target=rss)] if rss else [])


def kafka_postgres_fold(rounds: int) -> list[Figure]:
    """A million events waiting in Kafka, one consumer process, from start to the last commit."""
    return _against_ref("kafka_postgres_fold", narrow(), rounds, "≥ 0.60 of REF", "≤ 200")


def kafka_postgres_fold_wide(rounds: int) -> list[Figure]:
    """The same with 2,000 orgs and 100,000 new keys under guardrails."""
    return _against_ref("kafka_postgres_fold_wide", wide(), rounds, "≥ 0.42 of REF", "≤ 350")


def two_consumers(rounds: int) -> list[Figure]:
    """The first, by two processes."""
    return _against_ref("two_consumers", narrow(), rounds, "≥ 0.80 of REF", processes=2)


def kafka_postgres_fold_timed_ids(rounds: int) -> Figure:
    """UUIDv7 against random ids, in turn."""
    with servers() as (bootstrap, url):
        pairs = [[run_once(bootstrap, url, narrow(), seed, timed_ids=timed).events_s for timed in (False, True)] for seed in range(rounds)]
    plain, timed = zip(*pairs, strict=True)
    return Figure("kafka_postgres_fold_timed_ids", "events/s", timed, "kafka_postgres_fold", plain, "≥ 1.05")


def kafka_postgres_fold_grown(rounds: int) -> list[Figure]:
    """Into a journal of ten million entries, against an empty one: random ids, and timed ones."""
    figures: list[Figure] = []
    with servers() as (bootstrap, url):
        for timed, name, target in ((False, "random", "≥ 0.5"), (True, "timed", "≥ 0.75")):
            pairs = [
                [run_once(bootstrap, url, narrow(), seed, timed_ids=timed, grown=grown).events_s for grown in (0, GROWN)]
                for seed in range(rounds)
            ]
            empty, full = zip(*pairs, strict=True)
            figures.append(Figure(f"kafka_postgres_fold_grown_{name}", "events/s", full, "the same into an empty journal", empty, target))
    return figures
