"""An org with one key at one gateway, for tests of the key agent: its relay and agent are stepped by hand, on a clock of their own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ledger.agent import Agent
from ledger.core.commands import Command, SetConnection, SetKey, TurnKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.gateways.outward import open_gateway
from ledger.metrics import Metrics
from ledger.relay import relay_once
from ledger.service import Service
from ledger.store import keys as keyed
from ledger.store import reports
from ledger.store.dialect import Database
from ledger.store.replay import verify
from tests.servers.gateway import TOKEN, HttpProtocol, Key
from tests.servers.vendor import Vendor, serving
from tests.store.events import NOW_US

MINUTE_US = 60_000_000


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


class Stage:
    """An org with one key, `k`, at one gateway; the relay and the agent stepped by hand."""

    def __init__(self, database: Database, api: Any, vendor: Vendor) -> None:
        self.clock = Clock()
        self.service = Service(database, Metrics(), self.clock)
        self.api, self.vendor = api, vendor
        self.environ = {"GATEWAY_TOKEN": TOKEN}
        self.timeout_s = 5.0
        self.agent = self.new_agent()

    def new_agent(self, wake: asyncio.Event | None = None) -> Agent:
        return Agent(self.service, lambda connection: open_gateway(connection, self.environ, self.timeout_s), wake or asyncio.Event())

    async def order(self, *orders: Command) -> None:
        results = await self.service.record(orders)
        assert not [result for result in results if result.detail], results
        await relay_once(self.service)

    async def turn(self, state: State, key: str = "k") -> None:
        await self.order(TurnKey(org="acme", by="will", key=key, state=state, why="so"))

    async def try_once(self) -> None:
        """Until nothing is under way: every command that is due now has been tried."""
        while await self.agent.step() or self.agent.busy:
            await asyncio.sleep(0.002)

    async def run(self, minutes: float = 5) -> None:
        """The clock goes on, second by second, until nothing is open any more."""
        until_us = self.clock.now_us + int(minutes * MINUTE_US)
        await self.try_once()
        while self.clock.now_us < until_us and await self.open():
            self.clock.now_us += 1_000_000
            await self.try_once()

    async def commands(self) -> list[dict[str, Any]]:
        """Newest first."""
        async with self.service.database.snapshot() as connection:
            return await keyed.commands(connection, await self.head(connection))

    async def open(self) -> list[dict[str, Any]]:
        return [row for row in await self.commands() if row["delivery"] in ("pending", "attempted")]

    async def last(self, credential: str = "k") -> dict[str, Any]:
        return next(row for row in await self.commands() if row["credential"] == credential)

    async def confirmed(self, key: str = "k") -> State | None:
        async with self.service.database.snapshot() as connection:
            (row,) = await keyed.keys_json(connection, await self.head(connection), [key])
            return row["confirmed"]

    async def sound(self) -> None:
        """J1 holds whatever the gateway did."""
        async with self.service.database.snapshot() as connection:
            head = await self.head(connection)
            assert await verify(connection, head.org_id, head.org, lambda _: None) is None

    async def head(self, connection: Any) -> reports.Head:
        head = await reports.head(connection, "acme")
        assert head is not None
        return head


@asynccontextmanager
async def staged(database: Database) -> AsyncIterator[Stage]:
    api = HttpProtocol({"k": Key()})
    async with serving(api) as vendor:
        stage = Stage(database, api, vendor)
        way = Connection(connection_id="gateway", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
        await stage.order(SetConnection(org="acme", by="will", connection=way), SetKey(org="acme", by="will", key="k", workspace="w"))
        try:
            yield stage
            await stage.sound()
        finally:
            await stage.agent.close()


@pytest.fixture
async def stage(database: Database) -> AsyncIterator[Stage]:
    async with staged(database) as stage:
        yield stage
