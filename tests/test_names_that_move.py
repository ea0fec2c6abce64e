"""A name at a gateway that goes from one key to another: what it was told before counts on (K2, K3)."""

import pytest

from ledger.core.commands import RecordUsage, SetKey
from ledger.core.keys import State
from ledger.store import keys as keyed
from ledger.wire.times import moment_text
from ledger.wire.usage import parse_usage
from tests.servers.gateway import Key
from tests.stage import Stage, stage
from tests.store.events import NOW_US
from tests.wire.events import raw

__all__ = ["stage"]


@pytest.fixture
def names(stage: Stage) -> Stage:
    """The gateway knows two names more."""
    stage.api.keys |= {"b": Key(), "x": Key()}
    return stage


async def give(stage: Stage, key: str, *credentials: str) -> None:
    await stage.order(SetKey(org="acme", by="will", key=key, workspace="w", credentials=credentials))
    await stage.run()


async def spend(stage: Stage, key: str) -> None:
    usage = parse_usage(raw({"key": key, "cost_usd": "1"}, id=key, time=moment_text(NOW_US)))
    assert isinstance(usage, RecordUsage)
    await stage.order(usage)
    await stage.run()


async def put(stage: Stage, state: State, key: str) -> None:
    await stage.turn(state, key)
    await stage.run()


async def test_a_credential_that_was_another_keys_is_paused_with_its_new_key(names: Stage) -> None:
    """K3: the gateway has seen revisions of it that are higher than those of a new key; it would ignore lower ones."""
    await give(names, "k", "x")
    for state in (State.PAUSED, State.ACTIVE):
        await put(names, state, "k")
    await give(names, "k")
    await give(names, "b", "x")
    await put(names, State.PAUSED, "b")
    assert (names.api.keys["x"].state, names.api.keys["b"].state, names.api.keys["k"].state) == ("paused", "paused", "active")
    assert await names.confirmed("b") is State.PAUSED


async def test_a_credential_that_leaves_a_paused_key_for_an_active_one_works_again(names: Stage) -> None:
    """K2: the pause that stands there was ours."""
    await give(names, "k", "x")
    await put(names, State.PAUSED, "k")
    await give(names, "k")
    await give(names, "b", "x")
    assert (names.api.keys["x"].state, names.api.keys["k"].state) == ("active", "paused")


async def test_a_name_that_was_a_credential_and_is_a_key_by_itself_is_told_what_is_wanted_of_it_now(names: Stage) -> None:
    """K3: whether it registers itself or is declared; and it is paused later, as any other."""
    await give(names, "k", "x", "b")
    await put(names, State.PAUSED, "k")
    await give(names, "k")
    await spend(names, "x")
    await give(names, "b")
    assert (names.api.keys["x"].state, names.api.keys["b"].state, names.api.keys["k"].state) == ("active", "active", "paused")
    for key in ("x", "b"):
        await put(names, State.PAUSED, key)
        assert names.api.keys[key].state == "paused"


async def test_a_key_paused_under_its_own_name_works_again_once_it_is_linked_to_a_key_that_does(names: Stage) -> None:
    """K2, S3: the pause was ours, though it was another key's when it was made."""
    await spend(names, "x")
    await put(names, State.PAUSED, "x")
    await give(names, "k", "x")
    assert names.api.keys["x"].state == "active"
    assert await names.confirmed("k") is State.ACTIVE


async def test_a_pause_that_a_person_made_at_the_gateway_does_not_become_ours_when_its_name_changes_keys(names: Stage) -> None:
    """K2."""
    await give(names, "k", "x")
    await put(names, State.PAUSED, "k")
    names.api.turn("x", "active")
    names.api.turn("x", "paused")
    await give(names, "k")
    await give(names, "b", "x")
    assert names.api.keys["x"].state == "paused"


async def test_a_key_is_not_shown_as_confirmed_while_its_gateways_say_different_things(names: Stage) -> None:
    """K3: one credential works, the other was left paused for the person who did that."""
    await give(names, "k", "x")
    names.api.turn("x", "paused")
    await put(names, State.PAUSED, "k")
    await put(names, State.ACTIVE, "k")
    assert (names.api.keys["k"].state, names.api.keys["x"].state) == ("active", "paused")
    async with names.service.database.snapshot() as connection:
        (row,) = await keyed.keys_json(connection, await names.head(connection), ["k"])
    assert (row["wanted"], row["confirmed"]) == (State.ACTIVE, None)
