"""Owns the gauges of the books: read from the database by one process at a time, so that replicas don't add up.

The process that holds the lock `gauges` shows them. They are what is saved, so a restart changes none. A process that loses
its connection loses the lock with it and shows none; another takes over within seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from .service import Service
from .store.dialect import hold
from .store.gauges import Slow, read_now, read_slow

NOW_EVERY_S, SLOW_EVERY_S = 5.0, 60.0

log = structlog.get_logger()


@asynccontextmanager
async def showing_gauges(service: Service) -> AsyncIterator[None]:
    """Shows the gauges from the first moment of the block to its end, for as long as no other process does."""
    looked = asyncio.Event()
    task = asyncio.create_task(_run(service, looked))
    await looked.wait()
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _run(service: Service, looked: asyncio.Event) -> None:
    while True:
        try:
            async with hold(service.database, "gauges") as held:
                if held is not None:
                    await _show(service, held, looked)
        except Exception as error:
            log.warning("gauges_not_read", error=type(error).__name__, why=str(error)[:300], again_in_s=NOW_EVERY_S)
        finally:
            service.metrics.books.show(None, None, 0)
            looked.set()
        await asyncio.sleep(NOW_EVERY_S)


async def _show(service: Service, held: Callable[[], Awaitable[None]], looked: asyncio.Event) -> None:
    """Reads and shows, until `held` or the database raises."""
    slow, slow_at = Slow({}, 0, 0), float("-inf")
    clock = asyncio.get_running_loop().time
    while True:
        async with service.database.snapshot() as connection:
            at_us = service.clock()
            now = await read_now(connection, at_us)
            if clock() - slow_at >= SLOW_EVERY_S:
                slow, slow_at = await read_slow(connection, at_us), clock()
        await held()
        service.metrics.books.show(now, slow, at_us)
        looked.set()
        await asyncio.sleep(NOW_EVERY_S)
