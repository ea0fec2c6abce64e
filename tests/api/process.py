"""`ledger serve` as a process of its own: started, asked, killed, started again."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.servers.postgres import free_port

TOKEN = "a-token-for-the-tests"


class Process:
    """A ledger that serves; `client` has its admin token. Everything else that is set of it comes from `settings`."""

    def __init__(self, home: Path, database_url: str, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")} | {
            "LEDGER_DATABASE_URL": database_url, "LEDGER_LISTEN": f"127.0.0.1:{self.port}", "LEDGER_METRICS_PORT": "0",
            "LEDGER_ADMIN_TOKEN": TOKEN, **settings,
        }  # fmt: skip
        self.client = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
        self._running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Process":
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()
        self.client.close()

    def start(self, wait_s: float = 30) -> None:
        """Starts it, and waits until it says that it is ready."""
        with (self.home / "serve.log").open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "ledger", "serve"], env=self.environment, cwd=self.home, stdout=log, stderr=log
            )
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            assert self._running.poll() is None, self.log
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"not ready after {wait_s} s: {self.log}")

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.home / "serve.log").read_text()

    def kill(self) -> None:
        """SIGKILL: it has no say in the matter."""
        if self._running is not None and self._running.poll() is None:
            self._running.kill()
            self._running.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self._running is not None
        self._running.send_signal(number)

    def exit_code(self, wait_s: float = 15) -> int:
        """What it exits with, in its own time."""
        assert self._running is not None
        return self._running.wait(wait_s)

    def rss_mb(self) -> float:
        """How much memory it holds now."""
        assert self._running is not None
        pages = int(Path(f"/proc/{self._running.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def use(self, events: list[dict[str, Any]]) -> httpx.Response:
        """Sends events as a batch."""
        return self.client.post("/v1/usage", json=events, headers={"Content-Type": "application/cloudevents-batch+json"})
