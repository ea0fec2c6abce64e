"""Databases for the tests: every test that asks for one runs on SQLite and on a real PostgreSQL."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

import pytest

from ledger.store.dialect import Database, connect
from ledger.store.schema import migrate
from tests.servers import kafka as kafka_server
from tests.servers import prometheus as prometheus_server
from tests.servers.postgres import NoPostgres, Server, running_postgres

LEFT_OUT: list[str] = []
USED: list[str] = []


async def _migrate(url: str) -> None:
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
    await database.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    try:
        with running_postgres() as server:
            USED.append(f"PostgreSQL from {server.how}")
            yield server
    except NoPostgres as error:
        leave_out(error)


@pytest.fixture(scope="session")
def kafka() -> Iterator[kafka_server.Server]:
    """One node for the whole run. A test that stops it must start it again; `own_kafka` gives a test a node, or three, of its own."""
    try:
        with kafka_server.running_kafka() as server:
            USED.append(f"Kafka from {server.how}")
            yield server
    except kafka_server.NoKafka as error:
        leave_out(error)


@pytest.fixture(scope="session")
def prometheus() -> Callable[..., AbstractContextManager[prometheus_server.Server]]:
    """`running_prometheus`, where there is one: each test gives it its own configuration."""
    try:
        with prometheus_server.running_prometheus({}) as server:
            USED.append(f"Prometheus from {server.how}")
    except prometheus_server.NoPrometheus as error:
        leave_out(error)
    return prometheus_server.running_prometheus


def leave_out(error: Exception) -> NoReturn:
    """Skips the test and says so at the end of the run; in CI it is a failure."""
    LEFT_OUT.append(str(error))
    if os.environ.get("CI") == "true":
        pytest.fail(f"left out, which CI does not allow: {error}", pytrace=False)
    pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres_template(postgres: Server) -> str:
    url = postgres.create_database()
    asyncio.run(_migrate(url))
    return url.rsplit("/", 1)[1]


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    asyncio.run(_migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture
def own_database(postgres: Server, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh PostgreSQL database with the schema at head."""
    url = postgres.create_database(postgres_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh database with the schema at head, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        yield request.getfixturevalue("own_database")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = connect(database_url)
    yield database
    await database.close()


def pytest_configure() -> None:
    """A run that is told to end takes its servers with it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for used in USED:
        terminalreporter.write_line(f"used: {used}")
    for left in LEFT_OUT:
        terminalreporter.write_line(f"LEFT OUT: {left}", red=True)
