"""Figures of reading on PostgreSQL: a month's report from the rollup and the journal's tail, one that must read the journal, and
balances asked for while usage is booked. `python -m benchmarks.reports URL SECONDS RATE` books usage at a rate."""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from statistics import quantiles

from pyreqwest.client import Client, ClientBuilder
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.events import KEYS, ORG, caps, commands
from benchmarks.figures import Figure
from benchmarks.serving import serving
from ledger.core.commands import RecordUsage
from ledger.core.questions import SUMS, Question, parse_by, question
from ledger.core.window import day_number, day_start_us
from ledger.metrics import Metrics
from ledger.record import Shelf, record
from ledger.service import Service, system_clock
from ledger.store import report, reports, rollup, tokens
from ledger.store.dialect import Database, connect
from ledger.store.schema import migrate
from ledger.store.tables import journal
from tests.servers.postgres import Server, running_postgres

MONTH = day_number(date(2026, 3, 1)), day_number(date(2026, 4, 1))
MONTH_US = day_start_us(MONTH[0], "UTC"), day_start_us(MONTH[1], "UTC")
ENTRIES = 10_000_000
TAIL = 50_000  # entries that the rollup has not read yet
READ = "bench-read-0123456789"
RATE, BALANCES_RATE = 10_000, 200

# What differs from entry to entry; every other column is as the first entry's, so that a row has the journal's own shape.
_AT = f"{MONTH_US[0]} + n * CAST(:step_us AS bigint)"
_VARIES = {
    "seq": "CAST(:first AS bigint) + n", "recorded_us": _AT, "time_us": _AT,
    "day": f"({_AT}) / 86400000000", "event_id": "'e' || n", "key": "'key-' || n % 1000",
    "workspace": "'workspace-' || n % 20", "model": "'model-' || n % 3", "session": "'run-' || n % 5000",
    "cost": "1 + n % 9000000", "input_tokens": "n % 9000", "output_tokens": "n % 3000",
}  # fmt: skip


async def _fill(database: Database, entries: int) -> None:
    """A month of entries of 1,000 keys in 20 workspaces, made by the database from the first one that was booked."""
    (first_call,) = commands(1, 1)
    first_call.time_us = MONTH_US[0]
    await record(database, Shelf(), [first_call], MONTH_US[0])
    columns = ", ".join(f'{_VARIES.get(column.name, f"""journal."{column.name}" """)}' for column in journal.columns)
    async with database.writer.begin() as connection:
        await connection.execute(text("SET LOCAL synchronous_commit = off"))
        first = int(await connection.scalar(select(func.max(journal.c.seq))) or 0)
        step_us = (MONTH_US[1] - MONTH_US[0]) // (entries + 1)
        source = "generate_series(1, CAST(:entries AS integer)) AS n, journal WHERE journal.seq = CAST(:first AS bigint)"
        fill = f"INSERT INTO journal SELECT {columns} FROM {source}"
        await connection.execute(text(fill), {"entries": entries, "first": first, "step_us": step_us})
        head = "UPDATE orgs SET seq = :seq, recorded_us = :recorded_us"
        await connection.execute(text(head), {"seq": first + entries, "recorded_us": MONTH_US[1] - 1})
    _say(f"{entries:,} entries are in the journal")
    while True:
        async with database.writer.begin() as connection:
            done = await rollup.followed(connection, 1)
            if done >= first + entries - TAIL:
                break
            await rollup.follow(connection, min(200_000, first + entries - TAIL - done))
        if done % 2_000_000 < 200_000 <= done:
            _say(f"the rollup has read {done:,} of them")
    async with database.writer.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text("VACUUM ANALYZE"))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _asked(by: str) -> Question:
    return question(MONTH_US[0], MONTH_US[1], MONTH, parse_by([by]), None, (), "UTC", "UTC")


async def _seconds(database: Database, by: str) -> tuple[float, int]:
    """How long a whole report takes, and what it says was spent."""
    began, spent = time.perf_counter(), 0
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
        assert head is not None
        async for row in report.rows(connection, head, _asked(by)):
            spent += row.sums[0]
    return time.perf_counter() - began, spent


async def _plain(connection: AsyncConnection, name: str) -> tuple[float, int]:
    """The same group-by in plain SQL, the same sums."""
    sums = [func.sum(journal.c["cost"]), func.count(), *(func.sum(journal.c[part]) for part in SUMS[4:])]
    query = select(journal.c[name], *sums).where(journal.c.org_id == 1, journal.c.kind == "UsageRecorded").group_by(journal.c[name])
    began = time.perf_counter()
    rows = (await connection.execute(query.where(journal.c.day >= MONTH[0], journal.c.day < MONTH[1]))).all()
    return time.perf_counter() - began, sum(int(row[1]) for row in rows)


@contextmanager
def _month(entries: int):
    with running_postgres() as server:
        url = server.create_database()
        yield url, asyncio.run(_prepared(url, entries))
        server.drop_database(url)


async def _prepared(url: str, entries: int) -> None:
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
    await _fill(database, entries)
    await database.close()


def report_month(rounds: int, entries: int = ENTRIES) -> Figure:
    """Seconds for a month by workspace, key and model, from the rollup and the journal's tail."""

    async def measure(url: str) -> list[float]:
        database = connect(url)
        runs = [(await _seconds(database, "workspace,key,model"))[0] for _ in range(rounds + 1)]
        _say(f"a month's report: {', '.join(f'{run:.2f} s' for run in runs)}")
        await database.close()
        return runs[1:]  # the first warms the database up

    with _month(entries) as (url, _):
        return Figure("report_month_s", "s", asyncio.run(measure(url)), target=f"≤ 1 over {entries:,} entries")


def report_from_journal(rounds: int, entries: int = ENTRIES) -> Figure:
    """Seconds for a month by session, which the rollup does not hold; beside it the same group-by in plain SQL."""

    async def measure(url: str) -> tuple[list[float], list[float]]:
        database, runs, plain = connect(url), list[float](), list[float]()
        for _ in range(rounds):
            took, spent = await _seconds(database, "session")
            async with database.snapshot() as connection:
                bare, same = await _plain(connection, "session")
            assert spent == same
            runs.append(took)
            plain.append(bare)
            _say(f"a month by session {took:.2f} s, in plain SQL {bare:.2f} s")
        await database.close()
        return runs, plain

    with _month(entries) as (url, _):
        runs, plain = asyncio.run(measure(url))
        return Figure("report_from_journal", "s", runs, "the same group-by in plain SQL", plain, "ratio ≤ 2")


def balances_ms_p99(rounds: int, seconds: int = 15) -> Figure:
    """Milliseconds for a key's balance with every cap above it, 99th percentile at 200 requests/s, while 10k events/s are booked."""
    with running_postgres() as server:
        runs = list[float]()
        for _ in range(rounds):
            runs.append(_asked_for(server, seconds))
            _say(f"99 of 100 balances within {runs[-1]:.1f} ms")
    return Figure("balances_ms_p99", "ms", runs, target="≤ 15")


def _asked_for(server: Server, seconds: int) -> float:
    url = server.create_database()
    asyncio.run(_capped(url))
    with serving(Path(), LEDGER_DATABASE_URL=url) as (address, _):
        command = [sys.executable, "-m", "benchmarks.reports", url, str(seconds + 4), str(RATE)]
        booking = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert booking.stdout is not None and booking.stdout.readline() == b"booking\n"
        waits = asyncio.run(_ask(address, seconds))
        if booking.poll() is not None:
            _say("the requests took longer than they should have: nothing was booked during the last of them")
        if booking.wait() != 0:
            _say("usage could not be booked at that rate: this machine has not enough to spare for both")
    server.drop_database(url)
    return quantiles(waits, n=100)[98]


async def _capped(url: str) -> None:
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
        await tokens.create(connection, tokens.Token("bench", ("read",), ORG, None), system_clock(), READ)
    await Service(database, Metrics()).record(caps())
    await database.close()


async def _ask(address: str, seconds: int) -> list[float]:
    """How long each request took from the moment it was due; by a client that costs little, beside what it measures."""
    waits: list[float] = []

    async def one(client: Client, key: str, due: float) -> None:
        answer = await client.get(f"/v1/orgs/{ORG}/balances").query({"scope": f"key:{key}"}).build().send()
        assert answer.status == 200
        waits.append((time.monotonic() - due) * 1000)

    made = ClientBuilder().base_url(f"{address}/").max_connections(32).default_headers({"Authorization": f"Bearer {READ}"})
    async with made.build() as client, asyncio.TaskGroup() as group:
        for key, _ in KEYS[:20]:
            await one(client, key, time.monotonic())
        waits.clear()
        began = time.monotonic()
        for n in range(seconds * BALANCES_RATE):
            due = began + n / BALANCES_RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(one(client, random.choice(KEYS)[0], due))
    return waits


async def _book(url: str, seconds: int, rate: int) -> None:
    """Books usage at a rate, in batches of a tenth of a second; fails where it can't."""
    database, shelf, size = connect(url), Shelf(), rate // 10
    batches: list[Sequence[RecordUsage]] = [commands(n, size) for n in range(seconds * 10)]
    print("booking", flush=True)
    began = time.monotonic()
    for n, batch in enumerate(batches):
        await asyncio.sleep(max(0.0, began + n / 10 - time.monotonic()))
        await record(database, shelf, batch, system_clock())
    late_s = time.monotonic() - began - seconds
    await database.close()
    sys.exit(late_s > 1)


if __name__ == "__main__":
    asyncio.run(_book(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
