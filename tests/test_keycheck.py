"""What is wanted of keys against what is at their gateways, and the repair of what is ours (K2, K3)."""

from collections.abc import Sequence

import pytest

from ledger.core.commands import RemoveConnection, SetConnection, SetKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.gateways.outward import open_gateway
from ledger.keycheck import Finding, check_once, check_org
from ledger.store import books as projections
from ledger.store.dialect import Database
from tests.servers.gateway import HttpProtocol, Key
from tests.servers.vendor import Fault, serving
from tests.stage import Stage, stage

__all__ = ["stage"]


async def check(stage: Stage, *, repair: bool = True) -> list[Finding]:
    async with stage.service.database.reader.connect() as connection:
        head = await stage.head(connection)
    return await check_org(stage.service, head, lambda way: open_gateway(way, stage.environ), repair=repair)


async def test_where_nothing_differs_nothing_is_found_and_keys_that_were_never_commanded_are_not_asked_about(stage: Stage) -> None:
    assert await check(stage) == []
    assert stage.vendor.log == []
    await stage.turn(State.PAUSED)
    await stage.run()
    assert await check(stage) == []


async def test_a_key_that_somebody_let_go_is_stopped_again(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.turn("k", "active")
    assert await check(stage, repair=False) == [Finding("k", "k", "gateway", 1, State.PAUSED, "active", True)]
    await stage.run()
    assert stage.api.keys["k"].state == "active", "it was only shown"
    await check(stage)
    await stage.run()
    assert stage.api.keys["k"].state == "paused"
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "active"


async def test_a_persons_pause_is_shown_and_left(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.turn(State.ACTIVE)
    await stage.run()
    stage.api.turn("k", "paused")
    (finding,) = await check(stage)
    assert (finding.found, finding.repair) == ("paused", False)
    await stage.run()
    assert stage.api.keys["k"].state == "paused"


async def test_what_was_given_up_for_a_refused_token_is_sent_again_once_the_token_is_right(stage: Stage) -> None:
    right, stage.api.token = stage.api.token, "another"
    await stage.turn(State.PAUSED)
    await stage.run()
    asked = len(stage.vendor.log)
    (finding,) = await check(stage)
    assert "token" in finding.found
    assert len(stage.vendor.log) == asked + 1, "one question tells"
    assert (await stage.last())["delivery"] == "failed"
    stage.api.token = right
    await check(stage)
    await stage.run()
    assert await stage.confirmed() is State.PAUSED


async def test_a_connection_made_after_the_pause_is_told_too(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    other = HttpProtocol({"k": Key()})
    async with serving(other) as vendor:
        way = Connection(connection_id="second", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
        await stage.order(SetConnection(org="acme", by="will", connection=way))
        await check(stage)
        await stage.run()
        assert other.keys["k"].state == "paused"


async def test_what_waited_for_a_gateway_without_a_connection_waits_no_more_once_it_has_one(stage: Stage) -> None:
    """Else the oldest command would seem to grow older for ever (K3)."""
    async with stage.service.database.snapshot() as connection:
        (way,) = (await projections.load(connection, {"acme": 1}))["acme"].connections.values()
    await stage.order(RemoveConnection(org="acme", by="will", connection=way.connection_id))
    await stage.turn(State.PAUSED)
    await stage.try_once()
    assert [(row["connection"], row["delivery"]) for row in await stage.commands()] == [(None, "pending")]
    await stage.order(SetConnection(org="acme", by="will", connection=way))
    await check(stage, repair=False)
    assert (await stage.commands())[0]["delivery"] == "pending", "it was only shown"
    await check(stage)
    await stage.run()
    assert stage.api.keys["k"].state == "paused"
    assert {(row["connection"], row["delivery"]) for row in await stage.commands()} == {(None, "superseded"), ("gateway", "confirmed")}


async def test_a_key_revoked_there_is_shown_and_a_command_under_way_is_not_judged(stage: Stage) -> None:
    stage.vendor.always = Fault("status", 500, method="PUT")
    await stage.turn(State.PAUSED)
    await stage.try_once()
    assert await check(stage) == []
    stage.vendor.always = None
    await stage.run()
    stage.api.turn("k", "revoked")
    (finding,) = await check(stage)
    assert (finding.found, finding.repair) == ("revoked", False)


@pytest.mark.parametrize("broken", [Fault("status", 503), Fault("wrong"), Fault("html"), Fault("half")])
async def test_a_gateway_that_does_not_answer_is_named_and_nothing_concluded(stage: Stage, broken: Fault) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.turn("k", "active")
    stage.vendor.faults.extend([broken, broken])
    (finding,) = await check(stage)
    assert finding.found.startswith("not checked")
    assert not await stage.open()


async def pause_all(stage: Stage, more: Sequence[str]) -> None:
    """Pauses the stage's key and more of them."""
    stage.api.keys |= {key: Key() for key in more}
    await stage.order(*(SetKey(org="acme", by="will", key=key, workspace="w") for key in more))
    for key in ("k", *more):
        await stage.turn(State.PAUSED, key)
    await stage.run()


@pytest.mark.parametrize("status", [400, 410, 500])
async def test_one_key_that_its_gateway_has_no_answer_for_holds_up_no_other(stage: Stage, status: int) -> None:
    """Else no key of that gateway would ever be compared again (K5)."""
    keys = [f"k{n}" for n in range(1, 5)]
    await pause_all(stage, keys)
    stage.api.turn("k4", "active")
    stage.vendor.faults.append(Fault("status", status))  # of the first that is asked
    lost, differs = await check(stage)
    assert lost.found == f"not checked: the gateway answered {status}" + (": it can't do this to the key" if status < 500 else "")
    assert (lost.key, lost.repair, differs.key, differs.repair) == ("k", False, "k4", True)
    await stage.run()
    assert stage.api.keys["k4"].state == "paused"


async def test_a_gateway_that_is_down_is_asked_no_more_and_what_was_found_before_is_repaired(stage: Stage) -> None:
    keys = [f"k{n:02}" for n in range(40)]
    await pause_all(stage, keys)
    stage.api.turn("k", "active")
    asked = len(stage.vendor.log)
    stage.vendor.faults.extend([Fault("slow"), *[Fault("status", 503)] * 40])
    first, *_, last = await check(stage)
    assert (first.key, first.repair, last.key, last.found) == ("k", True, "", "not checked: the gateway answered 503")
    assert len(stage.vendor.log) < asked + 20, "those that were under way"
    stage.vendor.faults.clear()
    await stage.run()
    assert stage.api.keys["k"].state == "paused"


async def test_every_org_with_a_connection_is_checked_on_schedule(stage: Stage, database: Database) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.turn("k", "active")
    assert await check_once(stage.service, lambda way: open_gateway(way, stage.environ)) == 0
    await stage.run()
    assert stage.api.keys["k"].state == "paused"
