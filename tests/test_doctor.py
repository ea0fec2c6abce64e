"""`ledger doctor` finds what is wrong, one illness at a time, and says what to do; it finds nothing where nothing is."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from ledger.core.caps import Action, Rule
from ledger.core.commands import SetCap, SetConnection
from ledger.core.connections import Connection, Gateway
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.doctor import Finding, Level, Patient, examine
from ledger.kafka import TOPICS, Kafka, create_topics
from ledger.metrics import Metrics
from ledger.relay import relay_once
from ledger.service import Service, system_clock
from ledger.store import tables as t
from ledger.store import tokens
from ledger.store.dialect import Database, connect
from tests.servers.kafka import Server
from tests.servers.processes import free_port
from tests.store.events import NOW_US, usage

CAP = SetCap(org="acme", by="will", cap="all", scope="org", rule=Rule(period=Period.DAY, limit=Nanos(90 * USD), action=Action.ALERT))


@pytest.fixture
async def healthy(database: Database) -> AsyncIterator[Database]:
    """A ledger with a token, an entry and a cap over it."""
    async with database.writer.begin() as connection:
        await tokens.create(connection, tokens.Token("will", ("admin",), None, None), NOW_US)
    await Service(database, Metrics(), lambda: NOW_US).record([CAP, usage("e1", 1)])
    yield database


async def found(
    database: Database, kafka: Kafka | None = None, environ: Mapping[str, str] | None = None, now_us: int | None = None
) -> dict[str, Finding]:
    """Findings by what they are about. The clock is the database's where nothing else is asked for."""
    clock = system_clock if now_us is None else lambda: now_us
    return {finding.about: finding async for finding in examine(Patient(database, kafka, environ or {}, clock))}


async def test_a_healthy_ledger_has_nothing_wrong(healthy: Database) -> None:
    findings = await found(healthy)
    assert {finding.about for finding in findings.values() if finding.level is not Level.WELL} == {"rate card"}
    assert {"database", "schema", "clock", "tokens", "books", "kafka"} <= set(findings)
    assert "of 1 orgs, 1 keys; today adds up" in findings["books"].said


async def test_a_clock_behind_the_books_is_wrong(healthy: Database) -> None:
    clock = (await found(healthy, now_us=NOW_US - 3_600_000_000))["clock"]
    assert (clock.level, "60 minutes from now" in clock.said, "NTP" in clock.do) == (Level.WRONG, True, True)


async def test_a_ledger_without_an_admin_token_is_wrong(healthy: Database) -> None:
    async with healthy.writer.begin() as connection:
        await tokens.revoke(connection, "will", NOW_US)
    finding = (await found(healthy))["tokens"]
    assert (finding.level, finding.do) == (Level.WRONG, "`ledger tokens create NAME --scope admin`")


async def test_keys_under_no_cap_are_a_warning(healthy: Database) -> None:
    await Service(healthy, Metrics(), lambda: NOW_US).record([usage("e2", 1, org="other")])
    assert (await found(healthy))["caps"].said == "1 keys are under no cap: nothing stops them"


async def test_a_balance_that_was_tampered_with_is_wrong(healthy: Database) -> None:
    async with healthy.writer.begin() as connection:
        await connection.execute(update(t.days).where(t.days.c.scope == "key:k").values(spent=5))
    finding = (await found(healthy, now_us=NOW_US))["books"]
    assert (finding.level, "ledger verify" in finding.do) == (Level.WRONG, True)


async def test_a_message_that_nobody_fetches_is_wrong(healthy: Database) -> None:
    async with healthy.writer.begin() as connection:
        await connection.execute(insert(t.outbox).values(org_id=1, seq=1, topic="ledger.breaches", key="acme", payload="{}"))
    finding = (await found(healthy, now_us=NOW_US + 600_000_000))["outbox"]
    assert (finding.level, finding.said) == (Level.WRONG, "1 messages wait, the oldest for 10 minutes")


async def test_keys_that_are_not_as_they_should_be_are_told_with_their_orgs(healthy: Database) -> None:
    """K3, K6: the alerts count over all orgs, and `ledger get` asks for one."""
    service = Service(healthy, Metrics(), lambda: NOW_US)
    way = Connection(connection_id="gateway", gateway=Gateway.HTTP, address="http://127.0.0.1:9")
    await service.record([usage("e2", 1, org="beta"), SetConnection(org="acme", by="will", connection=way)])
    async with healthy.writer.begin() as connection:
        row = {"credential": "k", "connection": "gateway", "revision": 0, "state": "paused", "reasons": "", "attempts": 1}
        row |= {"key": "k", "created_us": NOW_US, "next_us": NOW_US}
        await connection.execute(insert(t.commands).values(org_id=1, delivery="failed", **row))
        await connection.execute(insert(t.commands).values(org_id=2, delivery="pending", **row))
        await connection.execute(update(t.keys).where(t.keys.c.org_id == 2).values(leaking=True))
    patient = Patient(healthy, None, {}, lambda: NOW_US + 600_000_000)
    said = [finding.said async for finding in examine(patient) if finding.level is Level.WRONG]
    assert "one is unconfirmed for 10 minutes; orgs: beta" in said
    assert "1 were refused, and are not tried again; orgs: acme" in said
    assert "1 spend though their pause was confirmed; orgs: beta" in said


async def test_a_command_that_only_the_gateway_itself_can_confirm_waits_and_is_not_called_failed(healthy: Database) -> None:
    """K3: where a gateway has no connection, nothing is sent to it."""
    stop = SetCap(org="acme", by="will", cap="low", scope="org", rule=Rule(period=Period.DAY, limit=Nanos(0), action=Action.PAUSE))
    service = Service(healthy, Metrics(), lambda: NOW_US)
    await service.record([stop])
    await relay_once(service)
    finding = (await found(healthy, now_us=NOW_US + 600_000_000))["key commands"]
    said = "one is unconfirmed for 10 minutes by a gateway that the ledger has no connection to; orgs: acme"
    assert (finding.level, finding.said, "`connections`" in finding.do) == (Level.WARN, said, True)


async def test_a_gateway_without_its_secret_or_its_address_is_wrong(healthy: Database) -> None:
    def connection(name: str, **more: Any) -> SetConnection:
        return SetConnection(org="acme", by="will", connection=Connection(connection_id=name, gateway=Gateway.HTTP, **more))

    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    here = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    orders = [
        connection("well", address=here, token="env:THERE"),
        connection("poor", address=here, token="env:NOT_THERE"),
        connection("lost", address=f"http://127.0.0.1:{free_port()}"),
    ]
    await Service(healthy, Metrics(), lambda: NOW_US).record(orders)
    async with server:
        findings = await found(healthy, environ={"THERE": "s"})
    assert findings["gateway acme/well"].level is Level.WELL
    assert "env:NOT_THERE" in findings["gateway acme/poor"].said
    assert "can't be reached" in findings["gateway acme/lost"].said


async def test_a_database_that_is_away_is_all_that_is_said_of_it() -> None:
    database = connect(f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    findings = await found(database)
    assert set(findings) == {"database", "kafka"}
    assert (findings["database"].level, "does not answer" in findings["database"].said) == (Level.WRONG, True)
    await database.close()


async def test_a_file_that_is_not_there_is_wrong_and_is_not_made_by_looking(tmp_path: Path) -> None:
    database = connect(f"sqlite:///{tmp_path / 'none.db'}")
    findings = await found(database)
    assert set(findings) == {"database", "kafka"} and not (tmp_path / "none.db").exists()
    assert (findings["database"].level, findings["database"].said) == (Level.WRONG, f"{tmp_path / 'none.db'} is not there")
    assert "`ledger migrate`" in findings["database"].do
    await database.close()


async def test_topics_that_are_missing_or_changed_are_named(healthy: Database, kafka: Server) -> None:
    prefix = f"doctor-{uuid.uuid4().hex[:8]}."
    cluster = Kafka(kafka.bootstrap, prefix)
    missing = (await found(healthy, cluster))["topics"]
    assert (missing.level, missing.do) == (Level.WRONG, "`ledger topics create`")
    await create_topics(cluster, partitions=1, replication=1)
    findings = await found(healthy, cluster)
    assert (findings["kafka"].level, findings["topics"].level) == (Level.WELL, Level.WELL), findings
    await kafka.alter_topic(prefix + TOPICS[0].name, retention_ms="1000")
    changed = (await found(healthy, cluster))["topics"]
    assert (changed.level, f"{prefix}usage: retention.ms is 1000" in changed.said) == (Level.WARN, True)


async def test_a_kafka_that_is_away_is_wrong(healthy: Database) -> None:
    finding = (await found(healthy, Kafka(f"127.0.0.1:{free_port()}")))["kafka"]
    assert (finding.level, "LEDGER_KAFKA_BOOTSTRAP_SERVERS" in finding.do) == (Level.WRONG, True)


@pytest.mark.parametrize("shown", [[], ["--json"]], ids=["lines", "json"])
def test_the_command_says_it_in_words_and_its_exit_code(database_url: str, shown: list[str]) -> None:
    environment = os.environ | {"LEDGER_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "ledger"]
    sick = subprocess.run([*command, "doctor", *shown], env=environment, capture_output=True, text=True, check=False)
    assert sick.returncode == 1
    told = next(one for one in json.loads(sick.stdout) if one["about"] == "tokens")["do"] if shown else sick.stdout
    assert "ledger tokens create NAME --scope admin" in told
    subprocess.run([*command, "tokens", "create", "will", "--scope", "admin"], env=environment, check=True, capture_output=True)
    well = subprocess.run([*command, "doctor", *shown], env=environment, capture_output=True, text=True, check=False)
    assert (well.returncode, well.stderr) == (0, "")
