"""What goes out comes in order, at least once, whoever sends it: key commands by several relays, the journal by `entries`."""

import asyncio
import signal

import httpx

from ledger.core.commands import SetKey, TurnKey
from ledger.core.keys import State
from tests.consumers.harness import ORGS, Process, Stage, check_order, events


async def published(process: Process) -> bool:
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{process.port}/metrics/")).text
    return 'ledger_published_total{topic="ledger.key-commands"}' in metrics


async def test_relays_at_once_publish_each_keys_commands_in_revision_order(stage: Stage) -> None:
    """K3: keys paused and resumed again and again; two relays go on where one was killed between publish and mark."""
    keys = [(org, f"turned-{n}") for org in ORGS for n in range(3)]
    await stage.order([SetKey(org=org, by="test", key=key, workspace="w") for org, key in keys])
    dying = stage.start("relay", DIE_AT="ledger.store.outbox.drop before")
    revision = 0

    async def turn() -> None:
        nonlocal revision
        revision += 1
        state = State.PAUSED if revision % 2 else State.ACTIVE
        await stage.order([TurnKey(org=org, by="test", key=key, state=state, why=str(revision)) for org, key in keys])

    await turn()
    assert await asyncio.to_thread(dying.popen.wait, 30) == -signal.SIGKILL, dying.log()
    relays = [stage.start("relay"), stage.start("relay")]
    for relay in relays:
        await relay.until_ready()
    while revision < 10 or not all([await published(relay) for relay in relays]):
        assert revision < 200, "only one of them publishes"
        await turn()
    await stage.until_published()
    for topic in ("ledger.key-commands", "ledger.key-status"):
        found = [message["data"] for message in await stage.read(topic)]
        assert check_order([(f"{said['org']}/{said['key']}", said["revision"]) for said in found]) == {
            f"{org}/{key}": revision for org, key in keys
        }


async def test_the_journal_comes_in_sequence_and_is_gone_on_with_after_a_kill_and_a_stop(stage: Stage) -> None:
    """At least once after a kill between publish and the place, exactly once after a stop."""
    await stage.produce(events(1, 2_000))
    stage.start("usage")
    dying = stage.start("entries", DIE_AT="ledger.store.places.move before")
    assert await asyncio.to_thread(dying.popen.wait, 60) == -signal.SIGKILL, dying.log()
    await stage.until_booked()
    first = stage.start("entries")
    heads = await stage.heads()
    assert len(await until_in_sequence(stage, heads)) > sum(heads.values()), "what was published and not marked came again"
    assert await asyncio.to_thread(first.stop) == 0
    before = await stage.read("ledger.entries")
    await stage.produce(events(2, 500))
    await stage.until_booked()
    stage.start("entries")
    later = await stage.heads()
    assert len(await until_in_sequence(stage, later)) == len(before) + sum(later.values()) - sum(heads.values())


async def until_in_sequence(stage: Stage, heads: dict[str, int]) -> list[tuple[str, int]]:
    """All entries that were published, once each org's last is there."""
    count = sum(heads.values())
    while True:
        found = [(entry["data"]["org"], entry["data"]["seq"]) for entry in await stage.until_read("ledger.entries", count)]
        if check_order(found) == heads:
            return found
        count = len(found) + 1
