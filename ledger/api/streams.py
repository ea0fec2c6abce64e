"""Owns how many answers are made at once, and that a reader of a long one who stops reading holds nothing up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from .problems import Problem

PIECE = 32 * 1024  # characters sent at once
MOST_WAIT_S = 20.0  # for a place: who asks has not given up yet, and hears why
STALLED_S = 30.0  # a reader who takes nothing for so long has gone away


class Slots:
    """Places for answers: one or a few at a time for an org, a few more for all of them, and a bounded queue for each org, so that
    neither their number nor one org's asking stops anyone else (T1)."""

    def __init__(self, most_at_once: int, most_waiting: int, most_of_org: int = 1) -> None:
        self._all = asyncio.Semaphore(most_at_once)
        self._most_of_org = most_of_org
        self._most_waiting = most_waiting
        self._orgs: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    @asynccontextmanager
    async def taken(self, org: str) -> AsyncIterator[None]:
        """A place for an org, waited for. Raises Problem 503 where too many wait already, or where its turn does not come."""
        turn, waiting = self._orgs.setdefault(org, (asyncio.Semaphore(self._most_of_org), []))
        if len(waiting) >= self._most_waiting:
            raise _busy(5)
        waiting.append(None)
        try:
            async with AsyncExitStack() as places:
                try:
                    async with asyncio.timeout(MOST_WAIT_S):
                        await places.enter_async_context(turn)
                        await places.enter_async_context(self._all)
                except TimeoutError:
                    raise _busy(30) from None
                yield
        finally:
            waiting.pop()
            if not waiting:
                self._orgs.pop(org, None)


def _busy(again_s: int) -> Problem:
    return Problem(503, "too much of this org is being asked for: try again in a while", headers={"Retry-After": str(again_s)})


async def _in_pieces(texts: AsyncIterator[str]) -> AsyncIterator[bytes]:
    """Texts joined to pieces worth sending; between them others have their turn."""
    parts: list[str] = []
    size = 0
    async for text in texts:
        parts.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(parts).encode()
            parts, size = [], 0
            await asyncio.sleep(0)
    yield "".join(parts).encode()


class Stream(StreamingResponse):
    """Texts sent as they are made. Whatever `held` holds (a place, a connection) is given back when all is sent, when the
    reader goes away, or when it takes nothing for a while."""

    def __init__(self, texts: AsyncIterator[str], held: AsyncExitStack, media_type: str, headers: dict[str, str]) -> None:
        super().__init__(_in_pieces(texts), media_type=media_type, headers=headers)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One answer."""

        async def timely(message: Message) -> None:
            async with asyncio.timeout(STALLED_S):
                await send(message)

        try:
            await super().__call__(scope, receive, timely)
        except TimeoutError:
            return  # the server closes a connection whose answer was not finished
        finally:
            await self._held.aclose()
