"""A small real HTTP server on a real socket that behaves like a gateway's API, and on demand like a bad day of it."""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


@dataclass(frozen=True)
class Request:
    """What was asked: path segments decoded one by one, so that a name may hold anything."""

    method: str
    path: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw) if self.raw else None


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    kind: `status` (answered instead of the effect), `slow` (answered after a while), `cut` (the effect happens, then the
    connection is cut), `half` (the effect happens, half of the answer arrives), `wrong` (the effect happens, the answer is
    JSON of another shape), `html` (the answer of something else altogether).
    """

    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    slow_s: float = 0.0
    method: str | None = None  # only for requests of this method


class Api(Protocol):
    """One vendor's behaviour: a request to a status and a JSON body."""

    def answer(self, request: Request) -> tuple[int, Any]: ...


class Vendor:
    """A running server. `faults` are used up in order, `always` is one for every request; `log` is what was asked."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.address = ""
        self.faults: deque[Fault] = deque()
        self.always: Fault | None = None
        self.log: list[Request] = []
        self.under_way = 0
        self.most_under_way = 0
        self.pace_s = 0.0
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listens, at the same address every time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Nobody listens any more, and open connections break."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                request = await _read(reader)
                self.log.append(request)
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    await self._answer(request, writer)
                finally:
                    self.under_way -= 1
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        if self.pace_s:
            await asyncio.sleep(self.pace_s)
        fault = self._fault(request)
        if fault is not None and fault.kind == "status":
            await _send(writer, fault.status, {"error": {"message": "no"}}, fault.headers)
            return
        status, body = self.api.answer(request)
        match fault.kind if fault is not None else "":
            case "slow":
                assert fault is not None
                await asyncio.sleep(fault.slow_s)
                await _send(writer, status, body)
            case "cut":
                writer.transport.abort()
                raise ConnectionError
            case "half":
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"data":')
                await writer.drain()
                writer.transport.abort()
                raise ConnectionError
            case "wrong":
                await _send(writer, 200, {"state": ["of", "the", "art"], "data": 7})
            case "html":
                await _send(writer, 200, "<html>sign in</html>")
            case _:
                await _send(writer, status, body)

    def _fault(self, request: Request) -> Fault | None:
        if self.always is not None and self.always.method in (None, request.method):
            return self.always
        if self.faults and self.faults[0].method in (None, request.method):
            return self.faults.popleft()
        return None


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.rstrip().split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return Request(method, tuple(unquote(part) for part in parts.path.strip("/").split("/")), query, headers, raw)


async def _send(writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
    content = body.encode(errors="surrogateescape") if isinstance(body, str) else b"" if body is None else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Something')}", f"Content-Length: {len(content)}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
    await writer.drain()


@contextlib.asynccontextmanager
async def serving(api: Api) -> AsyncIterator[Vendor]:
    """A vendor's server for a block."""
    vendor = Vendor(api)
    await vendor.start()
    try:
        yield vendor
    finally:
        await vendor.stop()
