"""What every server of the tests can do: be started, stopped and killed, as a process or a container, its data and port kept."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass
class Process:
    """A program of this machine, its output in `home`/log, run as `user` if that is somebody else; as a context it is killed at the end."""

    command: list[str]
    home: Path
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    environment: dict[str, str] = field(default_factory=dict)
    _running: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            environment = {**os.environ, **self.environment}
            self._running = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.home, env=environment, start_new_session=True, **as_user(self.user)
            )

    def stop(self) -> None:
        if self._running is not None:
            self._running.send_signal(self.stop_signal)
            try:
                self._running.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
            self._running = None

    def kill(self) -> None:
        if self._running is not None:
            children = _children(self._running.pid)
            self._running.kill()
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            self._running.wait(30)
            self._running = None

    def wait(self, timeout_s: float = 60) -> int:
        """Its exit code, once it has ended by itself. Raises subprocess.TimeoutExpired."""
        assert self._running is not None, "it was not started"
        return self._running.wait(timeout_s)

    def ended(self) -> bool:
        """Whether it ended by itself; its log says why."""
        return self._running is not None and self._running.poll() is not None

    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")[-4000:]


@dataclass
class Container:
    """A container that was created but not yet started; it stays until `remove`."""

    name: str

    def start(self) -> None:
        docker("start", self.name)

    def stop(self) -> None:
        docker("stop", self.name)

    def kill(self) -> None:
        docker("kill", self.name)

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "-f", "-v", self.name], check=False, capture_output=True)

    def ended(self) -> bool:
        return False

    def log(self) -> str:
        return subprocess.run(["docker", "logs", "--tail", "50", self.name], check=False, capture_output=True, text=True).stdout


def docker(*arguments: str) -> None:
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


def docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def as_user(user: str | None) -> dict:
    """Popen's arguments to be `user`, if somebody was named."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


@contextlib.contextmanager
def home_for(name: str, user: str | None = None) -> Iterator[Path]:
    """A directory of its own that goes away afterwards, owned by `user` if one is named."""
    home = Path(tempfile.mkdtemp(prefix=f"ledger-{name}-"))
    if user:
        shutil.chown(home, user)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
