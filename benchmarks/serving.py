"""Figures of the embedded form, `ledger serve` on SQLite as a process of its own, asked over HTTP."""

import asyncio
import json
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from benchmarks.events import KEYS, ORG, bodies, caps, events
from benchmarks.figures import Figure
from examples.gateway import Gateway, GatewayKey, Reporter, build_app
from ledger.core.commands import Command, SetConnection, SetKey, SetOrg
from ledger.core.connections import Connection
from ledger.core.connections import Gateway as Kind
from ledger.metrics import Metrics
from ledger.record import Shelf, record
from ledger.service import Service, system_clock
from ledger.store.dialect import connect, lock_orgs
from ledger.store.replay import replay
from ledger.store.schema import migrate
from ledger.store.tables import journal
from ledger.wire.usage import parse_usage
from tests.servers.postgres import own_postgres

TOKEN = "bench-token-0123456789"
BATCH = 500
CONNECTIONS = 4
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/cloudevents-batch+json"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def prepare(url: str, orders: Sequence[Command]) -> None:
    """A database with the schema and these orders carried out."""
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
    service = Service(database, Metrics())
    for at in range(0, len(orders), 5000):
        await service.record(orders[at : at + 5000])
    await database.close()


@contextmanager
def serving(path: Path, **settings: str) -> Iterator[tuple[str, int]]:
    """`ledger serve` as a process; its address and process id."""
    port = free_port()
    environment = os.environ | {
        "LEDGER_DATABASE_URL": f"sqlite:///{path}", "LEDGER_LISTEN": f"127.0.0.1:{port}", "LEDGER_METRICS_PORT": "0",
        "LEDGER_ADMIN_TOKEN": TOKEN, "LEDGER_LOG_LEVEL": "error", **settings,
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "ledger", "serve"], env=environment, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                if httpx.get(f"{address}/readyz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(20)


def sqlite_http_ingest(rounds: int, count: int = 50_000) -> Figure:
    """Events a second through HTTP, durable when answered; beside it a bare insert of the same journal rows, every 500 committed."""
    runs: list[float] = []
    bare: list[float] = []
    for seed in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.db"
            asyncio.run(prepare(f"sqlite:///{path}", caps()))
            sent = bodies(seed, count, BATCH)
            with serving(path) as (address, _):
                runs.append(count / asyncio.run(_post_all(address, sent)))
            rows = sqlite3.connect(path).execute("SELECT * FROM journal WHERE kind = 'UsageRecorded' ORDER BY seq").fetchall()
            assert len(rows) == count
            bare.append(_bare_insert(Path(folder) / "bare.db", rows))
    return Figure("sqlite_http_ingest", "events/s", runs, "bare insert of the same rows, committed every 500", bare, "≥ 25k and ≥ 0.3")


async def _post_all(address: str, sent: Sequence[bytes]) -> float:
    waiting = list(reversed(sent))
    began = time.perf_counter()

    async def sender(client: httpx.AsyncClient) -> None:
        while waiting:
            answer = await client.post("/v1/usage", content=waiting.pop(), headers=HEADERS)
            assert answer.status_code == 200 and answer.content.count(b'"recorded"') == BATCH

    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        await asyncio.gather(*(sender(client) for _ in range(CONNECTIONS)))
    return time.perf_counter() - began


def _bare_insert(path: Path, rows: Sequence[tuple[object, ...]]) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    columns = ",".join(f'"{column.name}"' for column in journal.columns)
    connection.execute(f"CREATE TABLE journal ({columns}, PRIMARY KEY (org_id, seq))")
    marks = ",".join("?" * len(journal.columns))
    began = time.perf_counter()
    for at in range(0, len(rows), BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(f"INSERT INTO journal VALUES ({marks})", rows[at : at + BATCH])
        connection.execute("COMMIT")
    return len(rows) / (time.perf_counter() - began)


def embedded_breach_to_confirmed(rounds: int, seconds: int = 8, rate: int = 1000) -> Figure:
    """Milliseconds from posting the usage that crosses to the gateway having paused the key, 99th percentile of a run."""
    return Figure(
        "embedded_breach_to_confirmed_ms_p99", "ms", [asyncio.run(_latency(seed, seconds, rate)) for seed in range(rounds)], target="≤ 250"
    )


async def _latency(seed: int, seconds: int, rate: int) -> float:
    """Under steady load one key after the other crosses its cap, ten a second."""
    victims = [f"victim-{seed}-{n:04d}" for n in range(seconds * 10)]
    with tempfile.TemporaryDirectory() as folder:
        path, gateway_port = Path(folder) / "ledger.db", free_port()
        reporter = Reporter("http://127.0.0.1:9", TOKEN)
        keys = {name: GatewayKey(ORG, "w", name) for name in victims}
        gateway = Gateway(keys, reporter, TOKEN, system_clock)
        server = uvicorn.Server(uvicorn.Config(build_app(gateway), "127.0.0.1", gateway_port, log_level="error", access_log=False))
        task = asyncio.create_task(server.serve())
        way = Connection(connection_id="gateway", gateway=Kind.HTTP, address=f"http://127.0.0.1:{gateway_port}", token="env:GATEWAY_TOKEN")
        unbraked = SetOrg(org=ORG, by="bench", brake=10_000)  # ten keys a second are what the brake is there to hold (K4)
        await prepare(f"sqlite:///{path}", [*caps(), unbraked, *_victim_cap(victims), SetConnection(org=ORG, by="bench", connection=way)])
        with serving(path, GATEWAY_TOKEN=TOKEN) as (address, _):
            async with httpx.AsyncClient(base_url=address, timeout=60) as client:
                load = asyncio.create_task(_load(client, seed, seconds, rate))
                waits = await asyncio.gather(*(_cross(client, gateway, name, 0.5 + n / 10) for n, name in enumerate(victims)))
                await load
        server.should_exit = True
        await task
    return statistics.quantiles(waits, n=100)[98]


def _victim_cap(victims: Sequence[str]) -> list[Command]:
    from_ = caps(1)[0]
    return [*(SetKey(org=ORG, by="bench", key=name, workspace="w") for name in victims),
            *(type(from_)(org=ORG, by="bench", cap=name, scope=f"key:{name}", rule=from_.rule) for name in victims)]  # type: ignore[call-arg,attr-defined]  # fmt: skip


async def _load(client: httpx.AsyncClient, seed: int, seconds: int, rate: int) -> None:
    size = rate // 50
    began = time.monotonic()
    for n, body in enumerate(bodies(1000 + seed, seconds * rate, size, system_clock() - 60_000_000)):
        await asyncio.sleep(max(0.0, began + n * size / rate - time.monotonic()))
        answer = await client.post("/v1/usage", content=body, headers=HEADERS)
        assert answer.status_code == 200


async def _cross(client: httpx.AsyncClient, gateway: Gateway, name: str, after_s: float) -> float:
    await asyncio.sleep(after_s)
    event = events(0, 1, system_clock())[0] | {"id": name}
    event["data"] = {"org": ORG, "key": name, "workspace": "w", "cost_usd": "2.00"}
    began = time.perf_counter()
    answer = await client.post("/v1/usage", content=json.dumps([event]), headers=HEADERS)
    assert answer.status_code == 200
    await gateway.by_name[name].stopped.wait()
    return (time.perf_counter() - began) * 1000


def service_rss(rounds: int, keys: int = 100_000) -> Figure:
    """Peak memory of the service while 100k keys register themselves by their usage, in bodies of 500."""
    peaks: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.db"
            asyncio.run(prepare(f"sqlite:///{path}", caps()))
            with serving(path) as (address, pid):
                asyncio.run(_touch_all(address, keys))
                peaks.append(_peak_mb(pid))
    return Figure("service_rss_mb", "MB", peaks, target="≤ 300")


async def _touch_all(address: str, keys: int) -> None:
    made = events(5, keys, system_clock() - 3_600_000_000)
    for n, event in enumerate(made):
        event["data"]["key"], event["data"]["workspace"] = f"k{n:06d}", KEYS[n % 48][1]  # type: ignore[index]
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        for at in range(0, keys, BATCH):
            answer = await client.post("/v1/usage", content=json.dumps(made[at : at + BATCH]), headers=HEADERS)
            assert answer.status_code == 200


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def replay_sqlite(rounds: int) -> Figure:
    """Entries a second from the journal to projections written anew, on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        runs = asyncio.run(_replays(f"sqlite:///{Path(folder) / 'ledger.db'}", rounds))
    return Figure("replay_sqlite", "entries/s", runs, target="≥ 150k")


def replay_postgres(rounds: int) -> Figure:
    """The same on PostgreSQL."""
    with own_postgres() as server:
        runs = asyncio.run(_replays(server.url, rounds))
    return Figure("replay", "entries/s", runs, target="≥ 200k")


async def _replays(url: str, rounds: int, count: int = 200_000) -> list[float]:
    await prepare(url, caps())
    database, shelf = connect(url), Shelf()
    for body in bodies(9, count, 10_000):
        made = [parse_usage(json.dumps(event).encode()) for event in json.loads(body)]
        await record(database, shelf, made, system_clock())  # type: ignore[arg-type]
    runs: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        async with database.writer.begin() as connection:
            await lock_orgs(connection, [ORG])
            books = await replay(connection, 1, ORG, lambda _: None)
        runs.append(books.seq / (time.perf_counter() - began))
    await database.close()
    return runs
