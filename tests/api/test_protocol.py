"""Requests as clients put them on the wire, where that is not what this library's own clients do."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ledger.api.protocol import Protocol

# The head of java.net.http.HttpClient, as long as nobody told it to speak HTTP/1.1 only.
JAVA = (
    b"Connection: Upgrade, HTTP2-Settings\r\nHost: ledger\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\n"
    b"Upgrade: h2c\r\nUser-Agent: Java-http-client/17.0.15\r\n"
)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    said = {"path": request.url.path, "body": (await request.body()).decode(), "host": request.headers.get("host")}
    await JSONResponse(said)(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(echo, port=0, log_level="error", lifespan="off", http=Protocol))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


def sized(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


async def answers(port: int, parts: list[bytes], many: int) -> list[tuple[int, str]]:
    """Status and body of as many answers to what is sent in parts, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)
    found: list[tuple[int, str]] = []
    for _ in range(many):
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
        found.append((int(head.split()[1]), (await reader.readexactly(length)).decode()))
    writer.close()
    return found


@pytest.mark.parametrize("framed", [sized, chunked])
@pytest.mark.parametrize("cut", [None, 30, 240, -3])
async def test_a_body_beside_an_offer_of_http_2_is_read(port: int, framed, cut: int | None) -> None:  # type: ignore[no-untyped-def]
    """S3: Java's own client makes that offer with its first request, and its spans were answered as if there had been none."""
    request = b"POST /v1/traces?a=b%20c HTTP/1.1\r\n" + JAVA + framed(b"spans " * 20)
    parts = [request] if cut is None else [request[:cut], request[cut:]]
    again = b"POST /again HTTP/1.1\r\nHost: ledger\r\n" + sized(b"more")
    first, second = await answers(port, [*parts, again], 2)
    assert (first[0], json.loads(first[1])) == (200, {"path": "/v1/traces", "body": "spans " * 20, "host": "ledger"})
    assert json.loads(second[1])["body"] == "more"


async def test_offers_in_a_row_are_each_passed_over(port: int) -> None:
    requests = b"".join(b"POST /%d HTTP/1.1\r\n" % n + JAVA + sized(b"%d" % n) for n in range(400))
    found = await answers(port, [requests], 400)
    assert [(json.loads(body)["path"], json.loads(body)["body"]) for _, body in found] == [(f"/{n}", str(n)) for n in range(400)]


@pytest.mark.parametrize("request_", [b"GET /livez HTTP/1.1\r\n" + JAVA + b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_request_without_a_body_is_answered(port: int, request_: bytes) -> None:
    ((status, _),) = await answers(port, [request_], 1)
    assert status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + JAVA + b"\r\n",
        b"POST / HTTP/1.1\r\n" + JAVA + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
    ],
)
async def test_what_is_no_request_is_refused(port: int, head: bytes) -> None:
    """T4."""
    ((status, _),) = await answers(port, [head], 1)
    assert status == 400
