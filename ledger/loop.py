"""Owns how a step is repeated for ever: it survives what it meets, says so, waits, and goes on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

IDLE_S = 0.25
LONGEST_WAIT_S = 5.0

log = structlog.get_logger()


class Chore(NamedTuple):
    """A step that the clock alone calls for, every so many seconds, and at the start."""

    name: str
    step: Callable[[], Awaitable[int]]
    every_s: float


async def repeat(
    name: str, step: Callable[[], Awaitable[int]], wake: asyncio.Event, idle_s: float = IDLE_S, rests: float = 0
) -> None:  # fmt: skip
    """Repeats a step: at once while it finds work, else when woken or after a short while (others may write too).

    `rests`: how many times as long as it worked it leaves the database to others before it goes on.
    """
    wait_s = idle_s
    while True:
        wake.clear()
        began_s = time.monotonic()
        try:
            found = await step()
            wait_s = idle_s
        except Exception as error:
            log.warning("loop_failed", loop=name, error=type(error).__name__, why=str(error)[:300], again_in_s=wait_s)
            found, wait_s = 0, min(wait_s * 2, max(idle_s, LONGEST_WAIT_S))
        if found:
            await asyncio.sleep(rests * (time.monotonic() - began_s))
            continue
        try:
            await asyncio.wait_for(wake.wait(), wait_s)
        except TimeoutError:
            pass
