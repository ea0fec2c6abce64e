"""A real PostgreSQL for the tests: one named by the environment, else Docker's, else the machine's own binaries."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.servers.processes import Container, Process, as_user, docker, docker_answers, free_port, home_for

START_S = 30


@dataclass
class Server:
    """A running server. `url` is its maintenance database; `how` says where it came from; `node` can be stopped and killed (None where
    the environment named the server: then `own_postgres` is for tests that must stop one)."""

    url: str
    how: str
    node: Process | Container | None = None

    def start(self) -> None:
        """Brings it back with its data on its port; returns when it answers."""
        self._own().start()
        asyncio.run(self._ready())

    def stop(self) -> None:
        """Ends it in order, whoever is still connected ("fast")."""
        self._own().stop()

    def kill(self) -> None:
        """kill -9, of every process of it."""
        self._own().kill()

    def create_database(self, template: str | None = None) -> str:
        """A fresh database, a copy of `template` if given; its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        asyncio.run(self._run(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else "")))
        return self.url.rsplit("/", 1)[0] + f"/{name}"

    def drop_database(self, url: str) -> None:
        asyncio.run(self._run(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)'))

    def _own(self) -> Process | Container:
        assert self.node is not None, "a server that the environment named is not ours to stop: use own_postgres"
        return self.node

    async def _ready(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                return await self._run("SELECT 1")
            except (OSError, asyncpg.PostgresError):
                if time.monotonic() > until:
                    raise
                if self._own().ended():  # after a kill -9 the last of the old processes may still hold its memory
                    self._own().start()
                await asyncio.sleep(0.1)

    async def _run(self, sql: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


class NoPostgres(Exception):
    """None could be had; the message says what was tried."""


@contextlib.contextmanager
def running_postgres() -> Iterator[Server]:
    """The first server that can be had, in the order of this module's docstring. Raises NoPostgres."""
    if url := os.environ.get("LEDGER_TEST_POSTGRES_URL"):
        yield Server(url, "the environment's LEDGER_TEST_POSTGRES_URL")
    else:
        with own_postgres() as server:
            yield server


@contextlib.contextmanager
def own_postgres() -> Iterator[Server]:
    """A server for the caller alone, to stop and kill as it likes. Raises NoPostgres."""
    if docker_answers():
        with _in_docker() as server:
            yield server
    elif binaries := _binaries():
        with _local(binaries) as server:
            yield server
    else:
        raise NoPostgres("no PostgreSQL: LEDGER_TEST_POSTGRES_URL is unset, no Docker daemon answers, and initdb is not installed")


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextlib.contextmanager
def _in_docker() -> Iterator[Server]:
    port, container = free_port(), Container(f"ledger-test-{uuid.uuid4().hex[:8]}")
    docker("create", "--name", container.name, f"-p127.0.0.1:{port}:5432", "-ePOSTGRES_HOST_AUTH_METHOD=trust", "postgres:17")
    try:
        server = Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", "Docker, postgres:17", container)
        server.start()
        yield server
    finally:
        container.remove()


@contextlib.contextmanager
def _local(binaries: Path) -> Iterator[Server]:
    user = "postgres" if os.getuid() == 0 else None
    with home_for("pg", user) as home:
        data, port = home / "data", free_port()
        init = [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
        subprocess.run(init, check=True, capture_output=True, cwd=home, **as_user(user))
        # fsync and synchronous_commit stay on: durability is what is tested.
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 100,
            "shared_buffers": "256MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        node = Process([str(binaries / "postgres"), "-D", str(data), *options], home, user, stop_signal=signal.SIGINT)
        server = Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", f"the binaries in {binaries}", node)
        try:
            server.start()
            yield server
        finally:
            node.stop()
