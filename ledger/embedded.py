"""Owns the pipeline inside `ledger serve`: pulse, relay and key agent as loops beside the API, with tables where the topics
are. Each loop survives what it meets: it says so, waits, and goes on."""

import asyncio
from collections.abc import Callable

from .agent import Agent
from .core.connections import Connection
from .gateways.gateway import Gateway
from .keycheck import check_once
from .loop import repeat
from .pricing import Pricer
from .pulse import pulse_once
from .relay import relay_once
from .rollup import rollup_once
from .service import Service

KEYCHECK_IDLE_S = 600.0
PRICING_IDLE_S = 5.0
ROLLUP_IDLE_S = 2.0  # reports read the tail meanwhile


async def run(service: Service, open_gateway: Callable[[Connection], Gateway]) -> None:
    """Runs until cancelled. `open_gateway` opens what is at the other end of a connection. With Kafka the consumers do it."""
    accepted = asyncio.Event()
    agent = Agent(service, open_gateway, accepted)

    async def relay() -> int:
        handed = await relay_once(service)
        if handed:
            accepted.set()
        return handed

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(repeat("pulse", lambda: pulse_once(service), asyncio.Event()))
            group.create_task(repeat("relay", relay, service.news))
            group.create_task(repeat("rollup", lambda: rollup_once(service), asyncio.Event(), ROLLUP_IDLE_S))
            group.create_task(repeat("agent", agent.step, accepted))
            group.create_task(repeat("keycheck", lambda: check_once(service, open_gateway), asyncio.Event(), KEYCHECK_IDLE_S))
            group.create_task(repeat("pricing", Pricer(service).once, asyncio.Event(), PRICING_IDLE_S))
    finally:
        await agent.close()
