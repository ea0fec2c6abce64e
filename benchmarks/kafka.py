"""Figures of the production form: a backlog in a real Kafka, one or two consumer processes, a real PostgreSQL, on one machine.

REF is a bare binary COPY of the very journal rows that the run made, and of their identities, into tables with the same
unique indexes, in the same run.
"""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import asyncpg
import httpx

from benchmarks.figures import Figure
from benchmarks.population import PARTITIONS, Population, narrow, produce, records, wide
from ledger.kafka import Kafka, create_topics
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import connect
from ledger.store.schema import migrate
from tests.servers.kafka import own_kafka
from tests.servers.postgres import Server, own_postgres
from tests.servers.processes import free_port

COUNT = 1_000_000
REFERENCE = "bare binary COPY of the same rows, same unique indexes"
GROWN = 10_000_000
# What the figures are published with: durable, and room for checkpoints.
PINNED = {
    "shared_buffers": "512MB", "max_wal_size": "8GB", "checkpoint_timeout": "15min", "wal_compression": "off",
    "fsync": "on", "synchronous_commit": "on",
}  # fmt: skip


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
