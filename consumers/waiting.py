"""Owns waiting for a database that is away: what a consumer has in hand is done when it is back, and nothing else before."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ledger.store.away import is_away

WAIT_S = 1.0

log = structlog.get_logger()


async def until_done(work: Callable[[], Awaitable[None]], failed: str) -> None:
    """Does it, again and again while the database is away; `failed` is the event that is logged each time. Raises what else
    goes wrong."""
    while True:
        try:
            return await work()
        except Exception as error:
            if not is_away(error):
                raise
            log.warning(failed, why=type(error).__name__, again_in_s=WAIT_S)
            await asyncio.sleep(WAIT_S)
