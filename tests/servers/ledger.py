"""`ledger serve` and the consumers as real processes for the tests, on ports of their own."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from tests.servers.processes import Process, free_port, home_for

TOKEN = "test-admin-token-0123456789"
START_S = 30


@dataclass
class Serving:
    """A ledger that serves: `client` asks its API as admin; `metrics_url` is its scrape address."""

    client: httpx.Client
    metrics_url: str
    process: Process

    def scrape(self, accept: str = "text/plain") -> str:
        """What Prometheus would read."""
        return httpx.get(self.metrics_url, headers={"Accept": accept}).raise_for_status().text


@contextlib.contextmanager
def serving_ledger(database_url: str, **settings: str) -> Iterator[Serving]:
    """A ledger over a database, once it is ready. Settings by their names without LEDGER_, in small letters."""
    port, metrics_port = free_port(), free_port()
    given = {
        "database_url": database_url,
        "listen": f"127.0.0.1:{port}",
        "metrics_port": str(metrics_port),
        "admin_token": TOKEN,
    } | settings
    environment = {f"LEDGER_{name.upper()}": value for name, value in given.items()}
    with home_for("serve") as home, Process([sys.executable, "-m", "ledger", "serve"], home, environment=environment) as process:
        process.start()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
            _wait_until_ready(client, process)
            yield Serving(client, f"http://127.0.0.1:{metrics_port}/metrics", process)


@contextlib.contextmanager
def running_consumers(database_url: str, bootstrap: str, prefix: str, names: Sequence[str]) -> Iterator[str]:
    """`python -m consumers` over a database and topics that there are, once it is ready; the address of its health and metrics."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "LEDGER_DATABASE_URL": database_url, "LEDGER_KAFKA_BOOTSTRAP_SERVERS": bootstrap, "LEDGER_TOPIC_PREFIX": prefix,
        "LEDGER_METRICS_PORT": address.rpartition(":")[2], "PYTHONPATH": os.getcwd(),
    }  # fmt: skip
    command = [sys.executable, "-m", "consumers", *names]
    with home_for("consumers") as home, Process(command, home, environment=environment) as process:
        process.start()
        with httpx.Client(base_url=f"http://{address}") as client:
            _wait_until_ready(client, process)
        yield address


def _wait_until_ready(client: httpx.Client, process: Process) -> None:
    until = time.monotonic() + START_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return
        if process.ended() or time.monotonic() > until:
            raise RuntimeError(f"the ledger did not start: {process.log()}")
        time.sleep(0.05)
