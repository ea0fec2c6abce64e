"""The key agent against a real gateway on a bad day, on both databases (K2, K3, K5)."""

import asyncio

import pytest

from ledger.agent import MOST_AT_ONCE, Agent
from ledger.core.caps import Action, Rule
from ledger.core.commands import SetCap, SetConnection, SetKey, TurnKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.relay import relay_once
from ledger.store.gauges import read_now
from ledger.wire.times import moment_text
from tests.servers.gateway import HttpProtocol, Key
from tests.servers.vendor import Fault, serving
from tests.stage import MINUTE_US, Stage, stage
from tests.store.events import usage

__all__ = ["stage"]


def cap(limit: int = 5) -> SetCap:
    rule = Rule(period=Period.DAY, limit=Nanos(limit * USD), action=Action.PAUSE)
    return SetCap(org="acme", by="will", cap="day", scope="key:k", rule=rule)


async def test_a_breach_pauses_the_key_and_the_next_day_resumes_it(stage: Stage) -> None:
    await stage.order(cap(), usage("e1", 6))
    await stage.try_once()
    assert stage.api.keys["k"].state == "paused"
    assert await stage.confirmed() is State.PAUSED
    stage.clock.now_us += 24 * 60 * MINUTE_US
    await stage.service.pulse(["acme"])
    await relay_once(stage.service)
    await stage.try_once()
    assert stage.api.keys["k"].state == "active"
    assert await stage.confirmed() is State.ACTIVE
    assert stage.api.turned == [("k", "paused"), ("k", "active")]


FAULTS: dict[str, Fault] = {
    "an error": Fault("status", 500),
    "a bad gateway": Fault("status", 502),
    "too many requests": Fault("status", 429, {"Retry-After": "7"}),
    "the connection cut after the effect": Fault("cut"),
    "half an answer": Fault("half"),
    "JSON of another shape": Fault("wrong"),
    "a page of something else": Fault("html"),
}


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_after_any_fault_it_is_tried_again_and_the_outcome_is_the_same(stage: Stage, fault: str, method: str) -> None:
    one = FAULTS[fault]
    broken = Fault(one.kind, one.status, one.headers, method=method)
    stage.vendor.faults.extend([broken] * (2 if one.kind == "cut" else 1))  # the client itself repeats a PUT on a fresh connection once
    await stage.turn(State.PAUSED)
    await stage.try_once()
    assert (await stage.last())["delivery"] in ("pending", "attempted")
    assert (await stage.last())["error"]
    assert await stage.confirmed() is None
    await stage.run()
    assert (await stage.last())["delivery"] == "confirmed"
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "active", "what was paused by an attempt of unknown outcome is ours to resume (K2)"
    assert stage.api.turned == [("k", "paused"), ("k", "active")]


async def test_a_slow_gateway_is_given_up_for_now_and_asked_again(stage: Stage) -> None:
    stage.timeout_s = 0.1
    stage.vendor.faults.append(Fault("slow", slow_s=0.5, method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.run()
    assert (await stage.last())["attempts"] == 2
    assert await stage.confirmed() is State.PAUSED


async def test_a_command_was_sent_when_the_gateway_was_asked_not_when_its_answer_was_stored(stage: Stage) -> None:
    """A slow gateway is seen to be slow."""
    stage.vendor.faults.append(Fault("slow", slow_s=0.2, method="PUT"))
    await stage.turn(State.PAUSED)
    began_us = stage.clock.now_us
    await stage.agent.step()
    stage.clock.now_us += 7_000_000
    await stage.try_once()
    last = await stage.last()
    assert (last["attempted_at"], last["confirmed_at"]) == (moment_text(began_us), moment_text(began_us + 7_000_000))


async def test_a_refused_token_is_loud_and_not_tried_for_ever(stage: Stage) -> None:
    stage.api.token = "another"
    await stage.turn(State.PAUSED)
    await stage.run()
    assert (await stage.last())["delivery"] == "failed"
    assert "token" in (await stage.last())["error"]
    assert len(stage.vendor.log) == 1
    assert stage.service.metrics.failures.labels("yes")._value.get() == 1
    assert await refused(stage) == 1
    await stage.turn(State.ACTIVE)
    assert await refused(stage) == 0, "the key's state is another by now"


async def refused(stage: Stage) -> int:
    async with stage.service.database.snapshot() as connection:
        return (await read_now(connection, stage.clock())).refused


async def test_a_secret_that_is_not_there_is_named_and_the_gateway_not_asked(stage: Stage) -> None:
    stage.environ.clear()
    await stage.turn(State.PAUSED)
    await stage.run()
    assert "env:GATEWAY_TOKEN" in (await stage.last())["error"]
    assert stage.vendor.log == []


async def test_a_secret_of_two_lines_is_named_and_the_gateway_not_asked(stage: Stage) -> None:
    stage.environ["GATEWAY_TOKEN"] = "one\ntwo"
    await stage.turn(State.PAUSED)
    await stage.try_once()
    last = await stage.last()
    assert last["delivery"] == "failed" and "env:GATEWAY_TOKEN: holds a line break" in last["error"] and not stage.vendor.log


async def test_a_rotated_token_is_taken_up_at_the_next_call(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.environ["GATEWAY_TOKEN"] = stage.api.token = "new"
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert await stage.confirmed() is State.ACTIVE


async def test_a_key_that_the_gateway_does_not_know_is_told_apart_and_not_tried_for_ever(stage: Stage) -> None:
    await stage.order(SetKey(org="acme", by="will", key="stranger", workspace="w"))
    await stage.turn(State.PAUSED, "stranger")
    await stage.run()
    row = await stage.last("stranger")
    assert (row["delivery"], row["attempts"]) == ("unknown", 1)
    assert "link the name" in row["error"]


async def test_a_key_that_is_gone_from_the_gateway_counts_as_revoked_there(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    del stage.api.keys["k"]
    await stage.turn(State.REVOKED)
    await stage.run()
    assert await stage.confirmed() is State.REVOKED


async def test_a_newer_revision_supersedes_one_that_was_not_carried_out(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.turn(State.ACTIVE)
    await stage.turn(State.PAUSED)
    await stage.run()
    assert [row["delivery"] for row in await stage.commands()] == ["confirmed", "superseded", "superseded"]
    assert stage.api.turned == [("k", "paused")]


async def test_a_newer_revision_waits_for_the_attempt_that_is_under_way(stage: Stage) -> None:
    """Two calls on their way at once could arrive in either order (K3)."""
    stage.vendor.faults.append(Fault("slow", slow_s=0.2, method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.agent.step()
    await asyncio.sleep(0.05)
    await stage.turn(State.ACTIVE)
    await stage.agent.step()
    await asyncio.sleep(0.05)
    assert [request.method for request in stage.vendor.log] == ["GET", "PUT"]
    await stage.run()
    assert stage.api.turned == [("k", "paused"), ("k", "active")]
    assert [row["delivery"] for row in await stage.commands()] == ["confirmed", "superseded"]


async def test_a_pause_of_unknown_outcome_that_is_superseded_is_undone(stage: Stage) -> None:
    stage.vendor.faults.append(Fault("cut", method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.try_once()
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "active"


async def test_a_persons_pause_at_the_gateway_is_seen_and_respected(stage: Stage) -> None:
    stage.api.turn("k", "paused")
    await stage.turn(State.PAUSED)
    await stage.run()
    assert await stage.confirmed() is State.PAUSED
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "paused"
    assert (await stage.last())["delivery"] == "left"
    assert await stage.confirmed() is State.PAUSED


async def test_a_person_who_pauses_after_us_is_respected_too(stage: Stage) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.turn("k", "active")
    stage.api.turn("k", "paused")
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "paused"


async def test_a_pause_that_was_never_sent_makes_nobodys_pause_ours(stage: Stage) -> None:
    """K2: an attempt that failed before it was sent, or was told to come later, has a known outcome."""
    stage.vendor.faults.extend([Fault("status", 503, method="GET"), Fault("status", 429, method="PUT")])
    await stage.turn(State.PAUSED)
    await stage.try_once()
    stage.clock.now_us += MINUTE_US
    await stage.try_once()
    stage.api.turn("k", "paused")
    await stage.run()
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "paused"


async def test_a_key_that_was_revoked_at_the_gateway_is_not_asked_for_ever(stage: Stage) -> None:
    stage.api.turn("k", "revoked")
    await stage.turn(State.PAUSED)
    await stage.run()
    assert (await stage.last())["delivery"] == "left"
    assert await stage.confirmed() is State.REVOKED


async def test_a_credential_added_to_a_paused_key_is_paused_too(stage: Stage) -> None:
    stage.api.keys["new"] = Key()
    await stage.turn(State.PAUSED)
    await stage.run()
    await stage.order(SetKey(org="acme", by="will", key="k", credentials=("new",)))
    await stage.run()
    assert {name: key.state for name, key in stage.api.keys.items()} == {"k": "paused", "new": "paused"}
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert {name: key.state for name, key in stage.api.keys.items()} == {"k": "active", "new": "active"}


async def test_a_key_at_two_gateways_is_stopped_at_both(stage: Stage) -> None:
    other = HttpProtocol({"k": Key()})
    async with serving(other) as vendor:
        way = Connection(connection_id="second", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")
        await stage.order(SetConnection(org="acme", by="will", connection=way))
        vendor.always = Fault("status", 500)
        await stage.turn(State.PAUSED)
        await stage.run(minutes=0.1)
        assert stage.api.keys["k"].state == "paused"
        assert await stage.confirmed() is None, "one of two gateways has not said so yet"
        vendor.always = None
        await stage.run()
        assert other.keys["k"].state == "paused"
        assert await stage.confirmed() is State.PAUSED


async def test_an_hour_of_outage_ends_by_itself_and_was_no_hammering(stage: Stage) -> None:
    await stage.vendor.stop()
    await stage.turn(State.PAUSED)
    for _ in range(60):
        await stage.try_once()
        stage.clock.now_us += MINUTE_US
    assert await stage.open()
    await stage.vendor.start()
    await stage.run(minutes=2)
    assert await stage.confirmed() is State.PAUSED
    assert (await stage.last())["attempts"] <= 80


async def test_a_process_that_died_in_an_attempt_is_followed_by_one_that_carries_on(stage: Stage) -> None:
    """K3: the attempt was stored before the call; after the crash it is unknown, and what it did is ours."""
    stage.vendor.faults.append(Fault("slow", slow_s=5, method="PUT"))
    await stage.turn(State.PAUSED)
    await stage.agent.step()
    while stage.api.keys["k"].state != "paused":
        await asyncio.sleep(0.01)
    await die(stage.agent)
    stage.agent = stage.new_agent()
    await stage.try_once()
    assert (await stage.last())["attempts"] == 1, "its lease has not ended"
    stage.clock.now_us += MINUTE_US
    await stage.run()
    assert await stage.confirmed() is State.PAUSED
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.api.keys["k"].state == "active"


async def die(agent: Agent) -> None:
    """As a process that is killed: what is under way ends nowhere."""
    for task in list(agent._tasks):
        task.cancel()
    await asyncio.gather(*agent._tasks, return_exceptions=True)
    agent._ended.clear()


async def test_two_agents_do_not_try_the_same_command(stage: Stage) -> None:
    second, names = stage.new_agent(), [f"k{n}" for n in range(100)]
    stage.api.keys.update({name: Key() for name in names})
    await stage.order(*(SetKey(org="acme", by="will", key=name, workspace="w") for name in names))
    await stage.order(*(TurnKey(org="acme", by="will", key=name, state=State.PAUSED, why="so") for name in names))
    await asyncio.gather(*(until_idle(agent) for agent in (stage.agent, second)))
    await second.close()
    assert {stage.api.keys[name].state for name in names} == {"paused"}
    assert len([request for request in stage.vendor.log if request.method == "PUT"]) == 100


async def until_idle(agent: Agent) -> None:
    while await agent.step() or agent.busy:
        await asyncio.sleep(0.002)


async def test_one_gateway_that_hangs_holds_up_no_other(stage: Stage) -> None:
    other, names = HttpProtocol({"elsewhere": Key()}), [f"k{n}" for n in range(200)]
    stage.api.keys.update({name: Key() for name in names})
    async with serving(other) as vendor:
        await stage.order(
            SetConnection(org="beta", by="will", connection=Connection(
                connection_id="own", gateway=Gateway.HTTP, address=vendor.address, token="env:GATEWAY_TOKEN")),
            *(SetKey(org="acme", by="will", key=name, workspace="w") for name in names),
        )  # fmt: skip
        stage.vendor.always = Fault("slow", slow_s=1.0)
        await stage.order(*(TurnKey(org="acme", by="will", key=name, state=State.PAUSED, why="so") for name in names))
        assert not stage.agent.pressed
        await stage.agent.step()
        assert stage.agent.pressed
        await stage.order(SetKey(org="beta", by="will", key="elsewhere", workspace="w"))
        await stage.order(TurnKey(org="beta", by="will", key="elsewhere", state=State.PAUSED, why="so"))
        async with asyncio.timeout(0.9):
            while not [request for request in vendor.log]:
                await stage.agent.step()
                await asyncio.sleep(0.002)
        assert stage.vendor.most_under_way <= 3 * MOST_AT_ONCE // 4
        stage.vendor.always = None


@pytest.mark.parametrize("name", ["a/b", "ä ö", "100%", "..", "a?b=c&d", "sk#1"])
async def test_any_name_reaches_the_gateway_as_it_is(stage: Stage, name: str) -> None:
    stage.api.keys[name] = Key()
    await stage.order(SetKey(org="acme", by="will", key=name, workspace="w"))
    await stage.turn(State.PAUSED, name)
    await stage.run()
    assert stage.api.keys[name].state == "paused"


async def test_a_breached_workspace_stops_its_thousand_keys_in_a_few_transactions(stage: Stage) -> None:
    stage.timeout_s = 60.0  # a machine that stands still for a while is no gateway that is down
    names = [f"k{n}" for n in range(1_000)]
    stage.api.keys.update({name: Key() for name in names})
    rule = Rule(period=Period.DAY, limit=Nanos(2_000 * USD), action=Action.PAUSE)
    await stage.order(SetCap(org="acme", by="will", cap="all", scope="workspace:w", rule=rule))
    await stage.order(*(usage(f"e{name}", 1, name) for name in names))
    booked = batches(stage)
    await stage.order(usage("more", 1_500))
    while await relay_once(stage.service):
        pass
    await stage.try_once()
    assert {stage.api.keys[name].state for name in names} == {"paused"}
    assert {row["delivery"] for row in await stage.commands()} == {"confirmed"}
    assert batches(stage) - booked <= 20, "confirmations are booked many at once"
    assert stage.vendor.most_under_way <= 3 * MOST_AT_ONCE // 4


def batches(stage: Stage) -> float:
    return stage.service.metrics.registry.get_sample_value("ledger_batch_seconds_count") or 0.0
