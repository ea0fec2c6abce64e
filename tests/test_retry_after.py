"""A gateway that asks to be left alone is, as long as it says and no longer than an hour (K5)."""

import pytest

from ledger.core.commands import RemoveConnection, SetConnection, SetKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from tests.servers.gateway import HttpProtocol, Key
from tests.servers.vendor import Fault, serving
from tests.stage import MINUTE_US, Stage, stage

__all__ = ["stage"]


async def test_retry_after_is_obeyed_to_the_second(stage: Stage) -> None:
    stage.vendor.faults.append(Fault("status", 429, {"Retry-After": "30"}, method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.try_once()
    asked = len(stage.vendor.log)
    stage.clock.now_us += 29_900_000
    await stage.try_once()
    assert len(stage.vendor.log) == asked
    stage.clock.now_us += 200_000
    await stage.try_once()
    assert await stage.confirmed() is State.PAUSED


@pytest.mark.parametrize("after", ["86400", "1783220994687", "99999999999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
async def test_a_retry_after_beyond_an_hour_is_an_hour_and_keeps_nobody_from_storing(stage: Stage, after: str) -> None:
    stage.vendor.faults.append(Fault("status", 429, {"Retry-After": after}, method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.try_once()
    assert (await stage.last())["error"] == "the gateway answered 429"
    stage.clock.now_us += 59 * MINUTE_US
    await stage.try_once()
    assert await stage.confirmed() is None
    stage.clock.now_us += 2 * MINUTE_US
    await stage.try_once()
    assert await stage.confirmed() is State.PAUSED


@pytest.mark.parametrize("after", ["²", "-5", "1.5", "Mon, 99 Foo", ""])
async def test_a_retry_after_that_says_nothing_is_waited_for_as_any_failure(stage: Stage, after: str) -> None:
    stage.vendor.faults.append(Fault("status", 429, {"Retry-After": after}, method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.run(1)
    assert await stage.confirmed() is State.PAUSED


async def test_retry_after_holds_for_every_key_of_that_gateway_but_for_no_other_gateway(stage: Stage) -> None:
    other = HttpProtocol({"elsewhere": Key()})
    stage.api.keys["k2"] = Key()
    async with serving(other) as vendor:
        way = Connection(connection_id="second", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
        await stage.order(SetConnection(org="acme", by="will", connection=way))
        stage.vendor.faults.append(Fault("status", 429, {"Retry-After": "30"}))
        await stage.turn(State.PAUSED)
        await stage.try_once()
        asked = len(stage.vendor.log)
        await stage.order(*(SetKey(org="acme", by="will", key=key, workspace="w") for key in ("k2", "elsewhere")))
        await stage.turn(State.PAUSED, "k2")
        await stage.turn(State.PAUSED, "elsewhere")
        await stage.try_once()
        assert len(stage.vendor.log) == asked
        assert other.keys["elsewhere"].state == "paused"
        await stage.run()
        assert stage.api.keys["k2"].state == "paused"


@pytest.mark.parametrize("moved", [True, False])
async def test_a_connection_declared_anew_is_tried_at_once_whatever_the_old_gateway_asked_for(stage: Stage, moved: bool) -> None:
    """Else a key would go on spending for up to an hour at a gateway that nobody has asked yet (K3)."""
    stage.vendor.faults.append(Fault("status", 429, {"Retry-After": "3600"}))
    await stage.turn(State.PAUSED)
    await stage.try_once()
    other = HttpProtocol({"k": Key()})
    async with serving(other) as vendor:
        if moved:
            way = Connection(connection_id="gateway", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
            await stage.order(SetConnection(org="acme", by="will", connection=way))
        await stage.run(1)
        assert (other.keys["k"].state, stage.api.keys["k"].state) == ("paused" if moved else "active", "active")
        assert len(stage.vendor.log) == 1, "the old one is left alone all the same"


async def test_what_waits_for_a_connection_that_is_gone_meanwhile_is_given_up_at_once(stage: Stage) -> None:
    stage.vendor.faults.append(Fault("status", 429, {"Retry-After": "3600"}))
    await stage.turn(State.PAUSED)
    await stage.try_once()
    await stage.order(RemoveConnection(org="acme", by="will", connection="gateway"))
    await stage.run(1)
    assert (await stage.last())["delivery"] == "failed"
