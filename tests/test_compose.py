"""docker-compose.yml: Compose itself accepts it, nothing is exposed or guessable, and its commands run against real servers."""

import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import leave_out
from tests.servers.compose import NoCompose, compose
from tests.servers.kafka import Server as Kafka
from tests.servers.ledger import TOKEN, running_consumers, serving_ledger
from tests.servers.postgres import Server
from tests.servers.processes import Process, home_for

HOME = Path(__file__).parent.parent
ONCE = {"migrate", "reader", "topics"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout's files for Compose, and the secrets that `make env` makes."""
    home = tmp_path_factory.mktemp("compose")
    for name in ("docker-compose.yml", "Makefile"):
        shutil.copy(HOME / name, home)
    subprocess.run(["make", "env", f"PYTHON={sys.executable}"], cwd=home, check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def services(secrets: Path) -> dict[str, dict[str, Any]]:
    """Every service, as Compose understands the file."""
    try:
        answer = compose("--profile", "*", "config", "--format", "json", home=secrets)
    except NoCompose as error:
        leave_out(error)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["services"]


def test_compose_names_the_secret_that_is_missing(services: dict[str, Any], secrets: Path, tmp_path: Path) -> None:
    assert services
    names = [line.partition("=")[0] for line in (secrets / ".env").read_text().splitlines()]
    assert len(names) == 4
    shutil.copy(secrets / "docker-compose.yml", tmp_path)
    for missing in names:
        lines = [line for line in (secrets / ".env").read_text().splitlines() if not line.startswith(missing)]
        (tmp_path / ".env").write_text("\n".join(lines))
        answer = compose("--profile", "*", "config", "--quiet", home=tmp_path)
        assert answer.returncode != 0
        assert f"{missing} is missing" in answer.stderr
        assert "make env" in answer.stderr


def test_secrets_are_made_once_and_only_their_owner_reads_them(secrets: Path) -> None:
    before = (secrets / ".env").read_text()
    subprocess.run(["make", "env", f"PYTHON={sys.executable}"], cwd=secrets, check=True, capture_output=True)
    assert (secrets / ".env").read_text() == before
    assert (secrets / ".env").stat().st_mode & 0o077 == 0
    values = [line.partition("=")[2] for line in before.splitlines()]
    assert len(set(values)) == len(values)
    assert min(map(len, values)) >= 32


def test_ports_are_on_loopback_only_and_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) >= 4
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    for name, service in services.items():
        assert "build" in service or re.search(r":v?\d+\.\d+(\.\d+)?[\w.-]*$", service["image"]), name


def test_what_runs_on_is_checked_and_keeps_its_data(services: dict[str, dict[str, Any]]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == ONCE | {"load"}
    assert [name for name in ("postgres", "kafka", "prometheus", "grafana") if not _volumes(services[name])] == []
    assert services["load"]["profiles"] == ["demo"]
    for name, service in services.items():
        assert service["restart"] == ("on-failure:3" if name in ONCE else "unless-stopped")


def _volumes(service: dict[str, Any]) -> list[dict[str, Any]]:
    return [volume for volume in service["volumes"] if volume["type"] == "volume"]


def test_the_ledgers_own_containers_may_do_nothing_but_run(services: dict[str, dict[str, Any]]) -> None:
    own = {name: service for name, service in services.items() if "build" in service}
    assert set(own) == ONCE | {"api", "consumers", "load"}
    for service in own.values():
        assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    last_user = re.findall(r"^USER (\S+)", (HOME / "Dockerfile").read_text(), re.MULTILINE)[-1]
    assert last_user not in ("root", "0")


def test_no_secret_stands_in_the_file(services: dict[str, dict[str, Any]]) -> None:
    text = (HOME / "docker-compose.yml").read_text()
    for service in services.values():
        for name, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|TOKEN|DATABASE_URL", name):
                assert value not in text, name


@pytest.fixture
def empty_database(postgres: Server) -> Iterator[str]:
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


def test_its_commands_bring_a_ledger_up_and_the_demo_load_reaches_it(services: dict[str, dict[str, Any]], empty_database: str) -> None:
    settings = {"LEDGER_DATABASE_URL": empty_database, "LEDGER_READER_PASSWORD": "reader-password-0123456789"}
    with home_for("compose") as home:
        for name in ("migrate", "reader"):
            process = Process([sys.executable, "-m", "ledger", *services[name]["command"]], home, environment=settings)
            process.start()
            assert process.wait() == 0, process.log()
    assert services["api"]["command"] == ["serve"]
    with serving_ledger(empty_database) as serving, home_for("load") as home:
        load = [
            sys.executable,
            *services["load"]["entrypoint"][1:],
            "--url",
            str(serving.client.base_url),
            "--speed",
            "1000",
            "--calls",
            "60",
        ]
        environment = {"LEDGER_ADMIN_TOKEN": TOKEN, "PYTHONPATH": str(HOME)}
        process = Process(load, home, environment=environment)
        process.start()
        assert process.wait() == 0, process.log()
        balance = serving.client.get("/v1/orgs/acme/balances", params={"scope": "org", "period": "day"}).json()["balances"][0]
        assert balance["requests"] == 60


def test_the_health_checks_ask_what_the_processes_answer(services: dict[str, dict[str, Any]], empty_database: str) -> None:
    paths = {
        name: re.findall(r"http://127\.0\.0\.1:(\d+)(/\S+?)'", services[name]["healthcheck"]["test"][-1])[0]
        for name in ("api", "consumers")
    }
    assert paths == {"api": ("8080", "/readyz"), "consumers": ("9464", "/livez")}
    with home_for("migrate") as home:
        process = Process([sys.executable, "-m", "ledger", "migrate"], home, environment={"LEDGER_DATABASE_URL": empty_database})
        process.start()
        assert process.wait() == 0, process.log()
    with serving_ledger(empty_database) as serving:
        assert serving.client.get(paths["api"][1]).status_code == 200
        assert httpx.get(serving.metrics_url).status_code == 200


def test_its_consumers_run_on_the_topics_that_it_creates(services: dict[str, dict[str, Any]], own_database: str, kafka: Kafka) -> None:
    prefix = f"compose-{uuid.uuid4().hex[:8]}."
    settings = {"LEDGER_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "LEDGER_TOPIC_PREFIX": prefix}
    with home_for("topics") as home:
        process = Process([sys.executable, "-m", "ledger", *services["topics"]["command"]], home, environment=settings)
        process.start()
        assert process.wait() == 0, process.log()
    assert services["consumers"]["entrypoint"] == ["python", "-m", "consumers"]
    with running_consumers(own_database, kafka.bootstrap, prefix, services["consumers"]["command"]) as address:
        assert httpx.get(f"http://{address}/livez").status_code == 200
        assert "ledger_journal_entries" in httpx.get(f"http://{address}/metrics", follow_redirects=True).text
