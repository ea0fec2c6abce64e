"""Owns the carrying out of key commands at a gateway: attempted until confirmed, superseded, or given up loudly (K3).

The attempt is stored before the call, so that a crash leaves "unknown", never "not tried". A person's decision at the
gateway outlives ours (K2): we resume only what we paused, which the gateway's own change mark tells; while an attempt's
outcome is unknown, nothing is concluded about people. Nothing calls a gateway inside a transaction.
"""

import asyncio
from typing import NamedTuple

import structlog

from .core.commands import ConfirmCommand
from .core.keys import State
from .gateways.gateway import Gateway, GatewayKey, GatewayRefused, GatewayUnavailable
from .service import Service
from .store import outbox
from .store.outbox import DueCommand

MOST_AT_ONCE = 32
FIRST_WAIT_US, LONGEST_WAIT_US = 250_000, 60_000_000
AGENT = "key agent"

log = structlog.get_logger()


class Done(NamedTuple):
    """What an attempt came to. `ours` false: the key is as a person at the gateway left it, and stays so."""

    key: GatewayKey
    mark: str | None
    ours: bool = True


async def agent_once(service: Service, gateway: Gateway) -> int:
    """Tries every command whose time has come; how many."""
    async with service.database.reader.connect() as connection:
        due = await outbox.due_commands(connection, service.clock(), MOST_AT_ONCE)
    await asyncio.gather(*(attempt(service, gateway, command) for command in due))
    return len(due)


async def attempt(service: Service, gateway: Gateway, command: DueCommand) -> None:
    """One try at one command: stored, made, and its outcome stored."""
    now_us = service.clock()
    tried = {"delivery": outbox.ATTEMPTED, "attempts": command.attempts + 1, "attempted_us": now_us}
    wait_us = min(FIRST_WAIT_US * 2**command.attempts, LONGEST_WAIT_US)
    if not await _mark(service, command, **tried, next_us=now_us + wait_us):
        return
    try:
        done = await act(gateway, command)
    except GatewayUnavailable as error:
        later_us = now_us + max(wait_us, int((error.retry_after_s or 0) * 1_000_000))
        service.metrics.failures.labels("no").inc()
        log.warning("key_command_failed", org=command.org, revision=command.revision, attempt=command.attempts + 1, why=str(error))
        await _mark(service, command, next_us=later_us, error=str(error))
    except GatewayRefused as error:
        service.metrics.failures.labels("yes").inc()
        log.error("key_command_given_up", org=command.org, revision=command.revision, why=str(error))
        await _mark(service, command, delivery=outbox.FAILED, error=str(error))
    else:
        await _finish(service, command, done)


async def act(gateway: Gateway, command: DueCommand) -> Done:
    """Brings a gateway's key to the state that is wanted, unless a person's decision there stands in the way."""
    here = await gateway.read(command.org, command.credential)
    if here is None:
        raise GatewayRefused("the gateway does not know this key: link the name it uses as a credential of the key")
    wanted, ours = State(command.state), command.unsure or here.mark == command.mark
    if wanted is State.PAUSED:
        if here.state == State.PAUSED and not ours:
            return Done(here, None)  # a person paused it first; it is not ours to resume later
        key = await gateway.pause(command.org, command.credential, command.revision)
    elif wanted is State.REVOKED:
        key = here if here.state == State.REVOKED else await gateway.revoke(command.org, command.credential, command.revision)
    elif here.state == State.ACTIVE:
        key = here
    elif here.state == State.PAUSED and ours:
        key = await gateway.resume(command.org, command.credential, command.revision)
    else:
        return Done(here, None, ours=False)
    if key.state != wanted:
        raise GatewayUnavailable(f"the gateway says {key.state} after it was told {wanted}")
    return Done(key, key.mark if wanted is State.PAUSED else None)


async def _finish(service: Service, command: DueCommand, done: Done) -> None:
    now_us = service.clock()
    if not done.ours:
        why = f"left {done.key.state}: somebody else did that at the gateway"
        log.warning("key_command_left", org=command.org, revision=command.revision, why=why)
        await _mark(service, command, delivery=outbox.LEFT, error=why)
        return
    said = ConfirmCommand(
        org=command.org, by=AGENT, key=command.key, credential=command.credential, revision=command.revision,
        state=State(command.state), mark=done.mark,
    )  # fmt: skip
    await service.record([said])  # an entry first: crashing here, the next attempt finds it done (J1)
    await _mark(service, command, delivery=outbox.CONFIRMED, confirmed_us=now_us, error=None)
    service.metrics.confirm_seconds.observe((now_us - command.created_us) / 1_000_000)


async def _mark(service: Service, command: DueCommand, **values: object) -> bool:
    async with service.database.writer.begin() as connection:
        return await outbox.mark_command(connection, command, **values)
