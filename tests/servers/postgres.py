"""A real PostgreSQL for the tests: one named by the environment, else Docker's, else the machine's own binaries."""

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg


@dataclass
class Server:
    """A running server. `url` is its maintenance database; `how` says where it came from."""

    url: str
    how: str

    def create_database(self, template: str | None = None) -> str:
        """A fresh database, a copy of `template` if given; its URL."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        asyncio.run(self._run(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else "")))
        return self.url.rsplit("/", 1)[0] + f"/{name}"

    def drop_database(self, url: str) -> None:
        asyncio.run(self._run(f'DROP DATABASE IF EXISTS "{url.rsplit("/", 1)[1]}" WITH (FORCE)'))

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
    elif _docker_answers():
        with _in_docker() as server:
            yield server
    elif binaries := _binaries():
        with _local(binaries) as server:
            yield server
    else:
        raise NoPostgres("no PostgreSQL: LEDGER_TEST_POSTGRES_URL is unset, no Docker daemon answers, and initdb is not installed")


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _in_docker() -> Iterator[Server]:
    port, name = free_port(), f"ledger-test-{uuid.uuid4().hex[:8]}"
    run = ["docker", "run", "--rm", "-d", "--name", name, "-p", f"127.0.0.1:{port}:5432"]
    subprocess.run([*run, "-e", "POSTGRES_HOST_AUTH_METHOD=trust", "postgres:17"], check=True, capture_output=True)
    try:
        yield _ready(Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", "Docker, postgres:17"))
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=False, capture_output=True)


@contextlib.contextmanager
def _local(binaries: Path) -> Iterator[Server]:
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    own = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    home = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
    if own:
        shutil.chown(home, user)
    data, port = home / "data", free_port()
    init = [binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    subprocess.run(init, check=True, capture_output=True, cwd=home, **own)
    # fsync and synchronous_commit stay on: durability is what is tested.
    settings = {
        "port": port,
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": 100,
        "shared_buffers": "256MB",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    log = (home / "log").open("wb")
    server = subprocess.Popen([binaries / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=home, **own)
    try:
        yield _ready(Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", f"the binaries in {binaries}"))
    finally:
        server.send_signal(2)
        server.wait(30)
        log.close()
        shutil.rmtree(home, ignore_errors=True)


def _ready(server: Server, wait_s: float = 30) -> Server:
    until = time.monotonic() + wait_s
    while True:
        try:
            asyncio.run(server._run("SELECT 1"))
            return server
        except (OSError, asyncpg.PostgresError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
