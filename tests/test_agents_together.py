"""Many key commands at once: each takes its turn, whatever others are under way, and none overtakes another (K3, K5)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ledger.agent import MOST_AT_ONCE
from ledger.core.commands import SetConnection, SetKey, TurnKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.store import inbox
from ledger.store.dialect import connect
from tests.servers.gateway import HttpProtocol
from tests.servers.vendor import Fault, Vendor, serving
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


def connected(org: str, vendor: Vendor) -> SetConnection:
    way = Connection(connection_id="own", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
    return SetConnection(org=org, by="will", connection=way)
