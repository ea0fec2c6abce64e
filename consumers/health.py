"""Owns what a consumer process says of itself over HTTP, on the metrics port: /livez, /readyz, /metrics, /asyncapi.json."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from prometheus_client import CollectorRegistry, make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

Trouble = Callable[[], str | None]
Asked = Callable[[], Awaitable[str | None]]


class CannotListen(Exception):
    """The port is taken, or not ours to take."""


@asynccontextmanager
async def serving(host: str, port: int, registry: CollectorRegistry, document: str, dead: Trouble, unready: Asked) -> AsyncIterator[None]:
    """Serves for the block. `dead` and `unready` say why not, in words, or None. Raises CannotListen."""

    async def livez(_: Request) -> Response:
        return _answer("alive", dead())

    async def readyz(_: Request) -> Response:
        return _answer("ready", dead() or await unready())

    async def asyncapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    routes = [
        Route("/livez", livez), Route("/readyz", readyz), Route("/asyncapi.json", asyncapi), Mount("/metrics", make_asgi_app(registry)),
    ]  # fmt: skip
    config = uvicorn.Config(Starlette(routes=routes), host, port, access_log=False, log_level="critical", lifespan="off")
    try:
        socket = config.bind_socket()
    except SystemExit:
        raise CannotListen(f"{host}:{port} can't be used") from None
    server = _Server(config)
    await server.start([socket])
    try:
        yield
    finally:
        await server.stop([socket])


class _Server(uvicorn.Server):
    """Runs on the loop that is there, and leaves signals to the process."""

    async def start(self, sockets: list) -> None:  # type: ignore[type-arg]
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup(sockets)

    async def stop(self, sockets: list) -> None:  # type: ignore[type-arg]
        self.force_exit = True
        await self.shutdown(sockets)


def _answer(well: str, trouble: str | None) -> JSONResponse:
    if trouble is None:
        return JSONResponse({"status": well})
    return JSONResponse({"title": "Service Unavailable", "status": 503, "detail": trouble}, 503, media_type="application/problem+json")
