"""Owns the pipeline inside `ledger serve`: pulse, relay and key agent as loops beside the API, with tables where the topics
are. Each loop survives what it meets: it says so, waits, and goes on."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from .agent import Agent
from .core.connections import Connection
from .gateways.gateway import Gateway
from .pricing import Pricer
from .pulse import pulse_once
from .relay import relay_once
from .rollup import rollup_once
from .service import Service

IDLE_S = 0.25
PRICING_IDLE_S = 5.0
ROLLUP_IDLE_S = 2.0  # reports read the tail meanwhile
LONGEST_WAIT_S = 5.0

log = structlog.get_logger()


async def run(service: Service, open_gateway: Callable[[Connection], Gateway]) -> None:
    """Runs until cancelled. `open_gateway` opens what is at the other end of a connection."""
    accepted = asyncio.Event()
    agent = Agent(service, open_gateway, accepted)

    async def relay() -> int:
        handed = await relay_once(service)
        if handed:
            accepted.set()
        return handed

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(_loop("pulse", lambda: pulse_once(service), asyncio.Event()))
            group.create_task(_loop("relay", relay, service.news))
            group.create_task(_loop("rollup", lambda: rollup_once(service), asyncio.Event(), ROLLUP_IDLE_S))
            group.create_task(_loop("agent", agent.step, accepted))
            group.create_task(_loop("pricing", Pricer(service).once, asyncio.Event(), PRICING_IDLE_S))
    finally:
        await agent.close()


async def _loop(name: str, step: Callable[[], Awaitable[int]], wake: asyncio.Event, idle_s: float = IDLE_S) -> None:
    """Repeats a step: at once while it finds work, else when woken or after a short while (others may write too)."""
    wait_s = idle_s
    while True:
        wake.clear()
        try:
            found = await step()
            wait_s = idle_s
        except Exception as error:
            log.warning("loop_failed", loop=name, error=type(error).__name__, why=str(error)[:300], again_in_s=wait_s)
            found, wait_s = 0, min(wait_s * 2, max(idle_s, LONGEST_WAIT_S))
        if not found:
            try:
                await asyncio.wait_for(wake.wait(), wait_s)
            except TimeoutError:
                pass
