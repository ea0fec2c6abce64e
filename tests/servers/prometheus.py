"""A real Prometheus for the tests, and promtool: this machine's binaries, which can scrape
its loopback, else Docker's on the host's network."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers.processes import Container, Process, docker, docker_answers, free_port, home_for

IMAGE = "prom/prometheus:v3.5.0"
START_S = 30


class NoPrometheus(Exception):
    """None could be had; the message says what was tried."""


@dataclass
class Server:
    """A running Prometheus at `url`; `how` says where it came from."""

    url: str
    how: str

    def query(self, promql: str, at_s: float | None = None) -> list[tuple[dict[str, str], float]]:
        """An instant query's answer: (labels, value) pairs. Raises ValueError with Prometheus's own words."""
        given = {"query": promql} | ({} if at_s is None else {"time": str(at_s)})
        found = self._get("query", given)
        scalar = found["resultType"] == "scalar"
        rows = [({}, found["result"])] if scalar else [(series["metric"], series["value"]) for series in found["result"]]
        return [(labels, float(value[1])) for labels, value in rows]

    def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """A range query's answer: `metric` and `values` of each series. Raises ValueError with Prometheus's own words."""
        span = {"start": str(start_s), "end": str(end_s), "step": str(step_s)}
        return self._get("query_range", {"query": promql} | span)["result"]

    def await_query(self, promql: str, wait_s: float = 20) -> list[tuple[dict[str, str], float]]:
        """The answer once there is one. Raises TimeoutError, naming the query."""
        until = time.monotonic() + wait_s
        while not (found := self.query(promql)):
            if time.monotonic() > until:
                raise TimeoutError(f"Prometheus had no answer within {wait_s} s to: {promql}")
            time.sleep(0.2)
        return found

    def families(self) -> set[str]:
        """The names of every metric that a scraped process declares, also those without a series yet."""
        with urllib.request.urlopen(f"{self.url}/api/v1/metadata", timeout=20) as answer:
            return set(json.load(answer)["data"])

    def _get(self, call: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        body = urllib.parse.urlencode(parameters).encode()
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{call}", body, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{json.load(error)['error']}: {parameters['query']}") from None


@contextlib.contextmanager
def running_prometheus(config: Mapping[str, Any], rules: Path | None = None) -> Iterator[Server]:
    """A Prometheus with this configuration and the rule files of a directory. Raises NoPrometheus."""
    port = free_port()
    with home_for("prometheus") as home:
        whole = dict(config) | ({} if rules is None else {"rule_files": ["rules/*.yml"]})
        (home / "prometheus.yml").write_text(yaml.safe_dump(whole))
        if rules is not None:
            shutil.copytree(rules, home / "rules")
        flags = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", f"--web.listen-address=127.0.0.1:{port}"]
        flags.append("--enable-feature=exemplar-storage")
        if binary := shutil.which("prometheus"):
            node, how = Process([binary, *flags], home), f"the binary {binary}"
        elif docker_answers():
            node, how = Container(f"ledger-test-{uuid.uuid4().hex[:8]}"), f"Docker, {IMAGE}"
            docker("create", "--name", node.name, "--network=host", f"-v{home}:/here", "-w/here", "--user=0", IMAGE, *flags)
        else:
            raise NoPrometheus("no Prometheus: it is not installed (`make servers`), and no Docker daemon answers")
        try:
            node.start()
            yield _ready(Server(f"http://127.0.0.1:{port}", how), node)
        finally:
            node.stop() if isinstance(node, Process) else node.remove()


def promtool(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs promtool in a directory. Raises NoPrometheus."""
    if binary := shutil.which("promtool"):
        command = [binary]
    elif docker_answers():
        command = ["docker", "run", "--rm", f"-v{home}:/here", "-w/here", "--entrypoint=promtool", IMAGE]
    else:
        raise NoPrometheus("no promtool: Prometheus is not installed (`make servers`), and no Docker daemon answers")
    return subprocess.run([*command, *arguments], cwd=home, capture_output=True, text=True, check=False)


def _ready(server: Server, node: Process | Container) -> Server:
    until = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{server.url}/-/ready", timeout=2):
                return server
        except OSError as error:
            if node.ended() or time.monotonic() > until:
                raise RuntimeError(f"Prometheus did not start: {node.log()}") from error
            time.sleep(0.1)
