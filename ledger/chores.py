"""Owns what is done at gateways by the clock alone: keys checked, keys synced, accounts reconciled; each as often as it is set to be,
by one process at a time: replicas would ask a gateway as often as there are of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from .accounts import opener, reconcile_once, sync_once
from .gateways.outward import open_gateway
from .keycheck import check_once
from .loop import Chore, repeat
from .service import Service
from .store.dialect import hold

TAKE_OVER_S = 5.0

log = structlog.get_logger()


def chores(service: Service, environ: Mapping[str, str], *, check_s: float, sync_s: float, reconcile_s: float) -> list[Chore]:
    """The chores, with secrets where references lead in `environ`; one that is set to every 0 seconds is left out."""
    reach = opener(environ)
    every = [
        Chore("keycheck", lambda: check_once(service, lambda way: open_gateway(way, environ)), check_s),
        Chore("keysync", lambda: sync_once(service, reach), sync_s),
        Chore("reconcile", lambda: reconcile_once(service, reach), reconcile_s),
    ]
    return [chore for chore in every if chore.every_s]


async def run(service: Service, chores: Sequence[Chore]) -> None:
    """Does the chores for ever, in the process that holds the lock `chores`. If it dies, another takes over within seconds."""
    while chores:
        try:
            async with hold(service.database, "chores") as held:
                if held is not None:
                    await _do(chores, held)
        except Exception as error:
            log.warning("chores_stopped", error=type(error).__name__, why=str(error)[:300], again_in_s=TAKE_OVER_S)
        finally:  # another process looks now, and what this one last saw would stay
            service.metrics.reconciled.clear()
            service.metrics.accounts_unread.set(0)
        await asyncio.sleep(TAKE_OVER_S)


async def _do(chores: Sequence[Chore], held: Callable[[], Awaitable[None]]) -> None:
    """Until `held` raises."""
    async with asyncio.TaskGroup() as group:
        for chore in chores:
            group.create_task(repeat(chore.name, chore.step, asyncio.Event(), chore.every_s))
        while True:
            await held()
            await asyncio.sleep(TAKE_OVER_S)
