"""Figures of whoever watches: a scrape of a ledger with 100,000 keys, and how many series it has."""

import asyncio
import tempfile
import time
from pathlib import Path

from prometheus_client import generate_latest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.figures import Figure
from benchmarks.serving import prepare
from ledger.core.caps import Action, Guardrail, Rule
from ledger.core.commands import Command, SetCap, SetGuardrail
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.gauges import showing_gauges
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import tables as t
from ledger.store.bulk import insert_rows
from ledger.store.dialect import connect

ORGS, KEYS = 100, 100_000


def _orders() -> list[Command]:
    """100 orgs, each under a cap for every period and a guardrail over its thousand keys."""
    rule = Rule(period=Period.DAY, limit=Nanos(2 * USD), action=Action.PAUSE)
    rail = Guardrail(guardrail_id="daily", each="key", within=("org",), rule=rule)
    orders: list[Command] = []
    for org in (f"org-{n:03}" for n in range(ORGS)):
        orders += [
            SetCap(org=org, by="bench", cap=f"org-{period}", scope="org", rule=Rule(period=period, limit=Nanos(9 * USD)))
            for period in Period if period is not Period.LIFETIME
        ]  # fmt: skip
        orders.append(SetGuardrail(org=org, by="bench", guardrail=rail))
    return orders


async def _add_keys(connection: AsyncConnection) -> None:
    """The keys as rows: nothing of a scrape depends on how they came."""
    blank = dict.fromkeys(column.name for column in t.keys.columns) | {"state": "active", "revision": 0, "changed_us": 0, "seq": 0}
    blank |= {"deleted": False, "leaking": False}
    for org_id in await connection.scalars(select(t.orgs.c.org_id)):
        mine = ({"org_id": org_id, "key_id": f"key-{n}", "workspace": f"w-{n % 10}"} for n in range(KEYS // ORGS))
        await insert_rows(connection, t.keys, [tuple((blank | one).values()) for one in mine])


async def _scrape(path: Path, rounds: int) -> tuple[list[float], int]:
    database = connect(f"sqlite:///{path}")
    async with database.writer.begin() as connection:
        await _add_keys(connection)
    service = Service(database, Metrics())
    async with showing_gauges(service):
        times_ms, text = [], b""
        for _ in range(rounds):
            began = time.perf_counter()
            text = generate_latest(service.metrics.registry)
            times_ms.append((time.perf_counter() - began) * 1000)
    await database.close()
    return times_ms, sum(not line.startswith(b"#") for line in text.splitlines())


def _scraped(rounds: int) -> tuple[list[float], int]:
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "ledger.db"
        asyncio.run(prepare(f"sqlite:///{path}", _orders()))
        return asyncio.run(_scrape(path, rounds))


def scrape_ms(rounds: int) -> Figure:
    """How long a scrape takes with 100,000 keys."""
    return Figure("scrape_ms", "ms", _scraped(max(5, rounds))[0], target="at most 50 with 100k keys")


def scrape_series(rounds: int) -> Figure:
    """How many series a scrape has with 100,000 keys in 100 orgs, each under five caps."""
    return Figure("scrape_series", "series", [float(_scraped(1)[1])], target="at most 2,000 with 100k keys")
