"""Owns how a request reaches the routes: its path as sent, HEAD as the GET that it asks about, its body within bounds (T4)."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Problem, answer_to

MOST_BODY = 1024 * 1024
MOST_USAGE_BODY = 16 * 1024 * 1024
_USAGE = ("/v1/usage", "/v1/traces", "/v1/webhooks/")
_PACKED = ("gzip", "deflate", "zlib")  # of what OpenTelemetry's exporters can be set to
_EITHER = 47  # zlib's, or gzip's, as the head of a body says
MOST_DISCARDED = 256 * 1024 * 1024
MOST_DISCARD_S = 30


class Bounds:
    """ASGI middleware: routes see the undecoded path (ids may contain slashes) and never more body than is allowed.

    A body that is too long is read and thrown away, up to a bound, so that its sender gets the answer and not a broken pipe.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # load balancers ask so; the server sends an answer to it without its body
            scope = {**scope, "method": "GET"}
        raw = scope.get("raw_path") or scope["path"].encode()
        scope["path"] = raw.partition(b"?")[0].decode("latin-1")
        most = MOST_USAGE_BODY if scope["path"].startswith(_USAGE) else MOST_BODY
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > most:
            await self._refuse(scope, receive, send, most)
            return
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                await _discard(receive, message)
                raise _too_long(most)
            return message

        await self.app(scope, bounded, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        await _discard(receive, {"more_body": True})
        problem = _too_long(most)
        refusal = answer_to(Request(scope), problem.status_code, problem.detail, headers={"Connection": "close"})
        await refusal(scope, receive, send)


def _too_long(most: int) -> Problem:
    return Problem(413, f"the body is longer than {most} bytes: send fewer events at a time")


async def _discard(receive: Receive, message: Message) -> None:
    thrown = 0
    try:
        async with asyncio.timeout(MOST_DISCARD_S):
            while message.get("more_body") and thrown < MOST_DISCARDED:
                message = await receive()
                thrown += len(message.get("body", b""))
    except TimeoutError:
        return


async def body_of(request: Request) -> bytes:
    """A body of usage, unpacked where it is packed. Raises Problem."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding in _PACKED:
        return await inflated(request.stream(), MOST_USAGE_BODY)
    if encoding == "identity":
        return await request.body()
    raise Problem(415, "Content-Encoding: send gzip, deflate, zlib or nothing", "Content-Encoding")


async def inflated(chunks: AsyncIterator[bytes], most: int) -> bytes:
    """A packed body as it was before, within the same bound. Raises Problem."""
    unpacker, parts, size = zlib.decompressobj(_EITHER), [], 0
    try:
        async for chunk in chunks:
            while chunk:
                if unpacker.eof:  # a gzip body may be several, one after the other
                    unpacker = zlib.decompressobj(_EITHER)
                part = unpacker.decompress(chunk, most + 1 - size)
                size += len(part)
                parts.append(part)
                if size > most:
                    raise _too_long(most)
                chunk = unpacker.unused_data
    except zlib.error:
        raise Problem(400, "the body is not packed as its Content-Encoding says") from None
    if not unpacker.eof:
        raise Problem(400, "the packed body is cut short")
    return b"".join(parts)
