"""Owns `ledger serve`: the HTTP API, and without Kafka the whole pipeline beside it."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import structlog
import uvicorn
from aiokafka.errors import KafkaError

from .. import embedded
from ..api.app import build_app
from ..api.protocol import Protocol
from ..chores import chores
from ..collector import spare_the_collector
from ..gateways.outward import open_gateway
from ..gauges import showing_gauges
from ..kafka import door, producing
from ..loop import Chore
from ..metrics import Metrics, served
from ..service import Clock, Service, system_clock
from ..settings import Settings, channels_of, kafka_of
from ..store import tokens
from ..store.dialect import Database, connect
from ..store.schema import migrate, not_current
from .common import Wrong, err, run, settings

DRAIN_S = 8
STOPS = (signal.SIGINT, signal.SIGTERM)


def serve() -> None:
    """Serve the HTTP API; without Kafka also book, pulse, relay and command keys inside.

    On SQLite the schema is made at the first start. The first access token is LEDGER_ADMIN_TOKEN, or one that is made
    and shown once.
    """

    async def work() -> None:
        given = settings()
        configure_logs(given.log_level)
        with stopped_in_order():
            async with running(given) as server:
                spare_the_collector()
                for number in STOPS:
                    asyncio.get_running_loop().add_signal_handler(number, server.stop_soon)
                await server.wait()

    run(work)


@contextlib.contextmanager
def stopped_in_order() -> Iterator[None]:
    """A signal to stop that comes before somebody else has taken it over breaks the start off: what was opened is closed."""
    task = asyncio.current_task()
    assert task is not None
    for number in STOPS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        yield


def configure_logs(level: str) -> None:
    """Structured lines on stderr. What the HTTP server would log of requests holds ids, so it is not logged."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), structlog.processors.format_exc_info,
                    structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"])],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # the stderr of the moment: a caller may have put another there
    )  # fmt: skip


class Running:
    """A ledger that serves. `service` is its door to the books."""

    def __init__(self, service: Service, server: uvicorn.Server, task: asyncio.Task[None]) -> None:
        self.service = service
        self._server = server
        self._task = task

    async def wait(self) -> None:
        """Until it is told to stop."""
        await self._task

    def stop_soon(self) -> None:
        """Takes no more requests, answers those under way, and stops."""
        self._server.should_exit = True


@contextlib.asynccontextmanager
async def running(given: Settings, clock: Clock = system_clock) -> AsyncIterator[Running]:
    """A ledger in this process, from the first request on; stopped when the block ends."""
    database = await prepared(given)
    service = Service(database, Metrics(given.drift_percent), clock, declared_only=given.declared_orgs_only)
    try:
        await _first_token(database, given, clock())
        async with (
            showing_gauges(service),
            _metrics_served(given, service),
            _handing_over(given, service),
            _http(given, service) as (server, task),
        ):
            alone = service.hand_over is None
            ways = lambda connection: open_gateway(connection, os.environ)
            work = embedded.run(service, ways, channels_of(given), _chores(given, service)) if alone else asyncio.sleep(float("inf"))
            pipeline = asyncio.create_task(work)
            try:
                yield Running(service, server, task)
            finally:
                server.should_exit = True
                await task
                pipeline.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pipeline
    finally:
        await database.close()


def _chores(given: Settings, service: Service) -> list[Chore]:
    return chores(
        service, os.environ, check_s=given.keys_check_every_s, sync_s=given.keys_sync_every_s, reconcile_s=given.reconcile_every_s
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _handing_over(given: Settings, service: Service) -> AsyncIterator[None]:
    """With Kafka, usage that comes in by HTTP goes to the topic, and the consumers do the rest."""
    kafka = kafka_of(given)
    if kafka is None:
        yield
        return
    try:
        async with producing(kafka) as producer:
            service.hand_over = door(producer, kafka)
            yield
    except KafkaError as error:
        raise Wrong(f"LEDGER_KAFKA_BOOTSTRAP_SERVERS: Kafka does not answer: {error}") from None


async def prepared(given: Settings) -> Database:
    """The database with its schema at head: made on SQLite, demanded elsewhere."""
    try:
        database = connect(given.database_url, given.read_database_url)
    except ValueError as error:
        raise Wrong(f"LEDGER_DATABASE_URL: {error}") from None
    async with database.writer.begin() as connection:
        if why := await not_current(connection):
            if connection.dialect.name != "sqlite":
                raise Wrong(why)
            await migrate(connection)
    return database


async def _first_token(database: Database, given: Settings, now_us: int) -> None:
    async with database.writer.begin() as connection:
        if await tokens.count(connection):
            return
        text = await tokens.create(connection, tokens.Token("first", ("admin",), None, None), now_us, given.admin_token)
    if given.admin_token is None:
        err.print(f"[bold]access token[/] {text}\n[dim]shown once; make others with `ledger tokens create`[/]")


@contextlib.asynccontextmanager
async def _metrics_served(given: Settings, service: Service) -> AsyncIterator[None]:
    with contextlib.ExitStack() as stack:
        if given.metrics_port:
            try:
                stack.enter_context(served(service.metrics, given.metrics_listen, given.metrics_port))
            except OSError as error:
                raise Wrong(f"LEDGER_METRICS_PORT: {given.metrics_port} can't be used: {error.strerror}; 0 turns metrics off") from None
        yield


@contextlib.asynccontextmanager
async def _http(given: Settings, service: Service) -> AsyncIterator[tuple[uvicorn.Server, asyncio.Task[None]]]:
    host, port = given.address
    config = uvicorn.Config(
        build_app(service, os.environ),
        host,
        port,
        http=Protocol,
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=DRAIN_S,
        backlog=2048,
    )
    server = _Server(config)
    task = asyncio.create_task(_until_stopped(server, given.listen))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        server.should_exit = True
        await task
        raise
    if task.done():
        await task
    structlog.get_logger().info("serving", address=f"http://{given.listen}", docs=f"http://{given.listen}/docs")
    yield server, task


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it: after the last answer there is still a pipeline to end and a database to close."""

    capture_signals = contextlib.nullcontext  # type: ignore[assignment]


async def _until_stopped(server: uvicorn.Server, listen: str) -> None:
    try:
        await server.serve()
    except SystemExit:
        raise Wrong(f"LEDGER_LISTEN: {listen} can't be used; is something else listening there?") from None
