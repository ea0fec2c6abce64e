"""Compose v2 for the tests, without a daemon: `config` needs none. Docker's own where it is, else the one that compose.sh built."""

import os
import shutil
import subprocess
from pathlib import Path

BUILT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledger-tests" / "compose"


class NoCompose(Exception):
    """None could be had; the message says what was tried."""


def compose(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs Compose v2 on the files of a directory. Raises NoCompose."""
    built = sorted(BUILT.glob("docker-compose-*"))
    docker = shutil.which("docker")
    if built:
        command = [str(built[-1])]
    elif docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        command = [docker, "compose"]
    else:
        raise NoCompose("no Compose v2: `docker compose` is not there, and `make servers` has not built it (that takes Go)")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEDGER_", "POSTGRES_", "GRAFANA_"))}
    return subprocess.run([*command, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False)
