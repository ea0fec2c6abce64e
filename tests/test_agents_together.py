"""Many key commands at once: each takes its turn, whatever others are under way, and none overtakes another (K3, K5)."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, text

from ledger.agent import MOST_AT_ONCE, Agent
from ledger.core.commands import SetConnection, SetKey, SetOrg, TurnKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.loop import repeat
from ledger.relay import relay_once
from ledger.store import inbox
from ledger.store.bulk import FEWEST_STAGED
from ledger.store.dialect import connect
from ledger.store.tables import commands
from ledger.wire.messages import KeyCommand
from tests.servers.gateway import HttpProtocol, Key
from tests.servers.vendor import Fault, Request, Vendor, serving
from tests.stage import MINUTE_US, Stage, stage, staged

__all__ = ["stage"]


@pytest.fixture
async def on_postgres(own_database: str) -> AsyncIterator[Stage]:
    database = connect(own_database)
    async with staged(database) as stage:
        yield stage
    await database.close()


async def test_a_command_that_is_superseded_while_it_is_claimed_is_not_tried_again_after_its_successor(
    on_postgres: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K3: the newer one is taken in between the reading and the storing of the claim, which SQLite's one writer does not allow."""
    stage = on_postgres
    update_rows = inbox.update_rows

    async def late(*args: Any, **more: Any) -> None:
        monkeypatch.setattr(inbox, "update_rows", update_rows)
        await stage.turn(State.ACTIVE)
        await update_rows(*args, **more)

    await stage.turn(State.PAUSED)
    stage.vendor.faults.append(Fault("status", 500, method="PUT"))
    monkeypatch.setattr(inbox, "update_rows", late)
    await stage.try_once()
    stage.clock.now_us += MINUTE_US
    await stage.run()
    assert [row["delivery"] for row in await stage.commands()] == ["confirmed", "superseded"]
    assert [request.body["revision"] for request in stage.vendor.log if request.method == "PUT"] in ([1], [1, 2])
    assert stage.api.keys["k"].state == "active"


@pytest.mark.parametrize("count", [2, FEWEST_STAGED + 1])
@pytest.mark.parametrize("writer", ["an outcome", "a successor"])
async def test_commands_are_written_in_one_order_so_that_nobody_waits_in_a_circle(on_postgres: Stage, count: int, writer: str) -> None:
    """Who waits for the first of them holds none of the others; else one of the two is thrown out, after a second."""
    now_us, database = on_postgres.clock(), on_postgres.service.database
    async with database.writer.begin() as connection:
        org_id = (await on_postgres.head(connection)).org_id
        await inbox.accept(connection, [(org_id, paused(n, 1)) for n in range(count)], now_us)
        due = await inbox.claim_due(connection, now_us, now_us, count, [])
    random.Random(1).shuffle(due)

    async def write() -> None:
        async with database.writer.begin() as connection:
            if writer == "an outcome":
                await inbox.note(connection, [(one, inbox.Outcome(inbox.PENDING, 1, now_us, None, None, None)) for one in due])
            else:
                await inbox.accept(connection, [(org_id, paused(int(one.key), 2)) for one in due], now_us)

    lock = select(commands.c.key).order_by(commands.c.credential).with_for_update(nowait=True)
    async with database.writer.begin() as connection, database.reader.connect() as other:
        assert await connection.scalar(lock.limit(1)) == "00000"
        writing = asyncio.create_task(write())
        while not await other.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            await asyncio.sleep(0.01)
        assert len((await connection.execute(lock)).all()) == count
    await writing


def paused(n: int, revision: int) -> KeyCommand:
    name = f"{n:05d}"
    return KeyCommand(org="acme", key=name, state=State.PAUSED, revision=revision, reasons=(), credentials=(name,))


async def test_two_slow_gateways_with_more_to_do_than_can_be_under_way_hold_up_no_third(stage: Stage) -> None:
    """K5: what waits for them is older than the third's pause."""
    stage.vendor.always = Fault("slow", slow_s=3.0)
    async with serving(HttpProtocol({})) as quick:
        for org, vendor in (("beta", stage.vendor), ("gamma", quick)):
            await stage.order(connected(org, vendor))
        names = [f"k{n}" for n in range(MOST_AT_ONCE)]
        await stage.order(*(SetKey(org=org, by="will", key=name, workspace="w") for org in ("acme", "beta") for name in names))
        stage.clock.now_us += 1_000_000
        await stage.order(*(TurnKey(org=org, by="will", key=k, state=State.PAUSED, why="so") for org in ("acme", "beta") for k in names))
        while await stage.agent.step():
            pass
        assert len(stage.agent._tasks) < MOST_AT_ONCE
        stage.clock.now_us += 1_000_000
        await stage.order(SetKey(org="gamma", by="will", key="k", workspace="w"))
        await stage.order(TurnKey(org="gamma", by="will", key="k", state=State.PAUSED, why="so"))
        async with asyncio.timeout(1.0):
            while not quick.log:
                await stage.agent.step()
                await asyncio.sleep(0.002)


class Counted(asyncio.Event):
    """Knows how often it was set while an agent's lane was full."""

    agent: Agent
    in_vain = 0

    def set(self) -> None:
        self.in_vain += any(way.under_way > MOST_AT_ONCE - len(self.agent._tasks) for way in self.agent._ways.values())
        super().set()


async def test_an_agent_is_woken_when_there_is_room_in_a_lane_and_not_by_every_call_that_ends(stage: Stage) -> None:
    """Each look is a query, and finds nothing while the lane is full."""
    names, wake = [f"k{n}" for n in range(1_500)], Counted()
    stage.api.keys.update({name: Key() for name in names})
    stage.vendor.pace_s = 0.2
    agent = wake.agent = stage.new_agent(wake)
    await stage.order(
        SetOrg(org="acme", by="will", brake=len(names)), *(SetKey(org="acme", by="will", key=k, workspace="w") for k in names)
    )
    await stage.order(*(TurnKey(org="acme", by="will", key=k, state=State.PAUSED, why="so") for k in names))
    while await relay_once(stage.service):
        pass
    running = asyncio.create_task(repeat("agent", agent.step, wake, idle_s=60))
    async with asyncio.timeout(30):
        while any(stage.api.keys[name].state != "paused" for name in names):
            await asyncio.sleep(0.02)
    running.cancel()
    await agent.close()
    assert wake.in_vain < 20, "but for what was stored meanwhile"


@pytest.mark.parametrize("said", [("paused", "1\0"), ("\0", "1"), ("paused", "1" * 2_000)])
async def test_a_gateway_whose_answers_can_not_be_stored_holds_up_no_other(stage: Stage, said: tuple[str, str]) -> None:
    """T4, K5: what gateways said is booked together, and PostgreSQL takes no NUL."""
    other = Odd(said)
    async with serving(other) as odd:
        stage.api.keys["k2"] = Key()
        await stage.order(connected("beta", odd), *(SetKey(org=org, by="will", key="k2", workspace="w") for org in ("acme", "beta")))
        for org in ("beta", "acme"):
            await stage.order(TurnKey(org=org, by="will", key="k2", state=State.PAUSED, why="so"))
            for _ in range(20):
                with contextlib.suppress(Exception):
                    await stage.agent.step()
                await asyncio.sleep(0.02)
            assert odd.log
        assert await stage.confirmed("k2") is State.PAUSED


class Odd(HttpProtocol):
    """Says the same of every key that it is to turn."""

    def __init__(self, said: tuple[str, str]) -> None:
        super().__init__()
        self.said = said

    def answer(self, request: Request) -> tuple[int, Any]:
        state, mark = self.said if request.method == "PUT" else ("active", "0")
        return 200, {"state": state, "mark": mark}


def connected(org: str, vendor: Vendor) -> SetConnection:
    way = Connection(connection_id="own", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
    return SetConnection(org=org, by="will", connection=way)
