"""Owns the pipeline inside `ledger serve`: pulse, relay and key agent as loops beside the API, with tables where the topics
are. Each loop survives what it meets: it says so, waits, and goes on."""

import asyncio
from collections.abc import Callable, Sequence

from .agent import Agent
from .chores import run as run_chores
from .core.connections import Connection
from .gateways.channels import Channel
from .gateways.gateway import Gateway
from .loop import Chore, repeat
from .notifier import NOTIFIER_IDLE_S, Notifier
from .pricing import Pricer
from .pulse import pulse_once
from .relay import relay_once
from .rollup import RESTS, rollup_once
from .service import Service

PRICING_IDLE_S = 5.0
ROLLUP_IDLE_S = 2.0  # reports read the tail meanwhile


async def run(
    service: Service, open_gateway: Callable[[Connection], Gateway], channels: Sequence[Channel] = (), chores: Sequence[Chore] = ()
) -> None:  # fmt: skip
    """Runs until cancelled. `open_gateway` opens what is at the other end of a connection; `channels` are how people are told.

    With Kafka the consumers do all this."""
    accepted = asyncio.Event()
    notifier = Notifier(service, channels)
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
            group.create_task(repeat("rollup", lambda: rollup_once(service), asyncio.Event(), ROLLUP_IDLE_S, RESTS))
            group.create_task(repeat("agent", agent.step, accepted))
            if channels:
                group.create_task(repeat("notifier", notifier.once, asyncio.Event(), NOTIFIER_IDLE_S))
            group.create_task(run_chores(service, chores))
            group.create_task(repeat("pricing", Pricer(service).once, asyncio.Event(), PRICING_IDLE_S))
    finally:
        await agent.close()
        await notifier.close()
