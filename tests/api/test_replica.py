"""A replica (LEDGER_READ_DATABASE_URL) may lag or be away: people's questions bear that, and nothing else is asked of it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from ledger.api.auth import Gate
from ledger.core.caps import Action, Rule
from ledger.core.commands import SetCap, SetOrg
from ledger.core.keys import State
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.doctor import Level, Patient, examine
from ledger.gateways.outward import open_gateway
from ledger.keycheck import check_org
from ledger.metrics import Metrics
from ledger.relay import relay_once
from ledger.service import Service
from ledger.store.dialect import Database, connect
from tests.api.asking import Api, event, moment, problem
from tests.servers.postgres import Server
from tests.servers.processes import free_port
from tests.stage import Stage, staged
from tests.store.events import NOW_US

DAY_CAP = Rule(period=Period.DAY, limit=Nanos(5 * USD), action=Action.PAUSE)


@pytest.fixture
async def far_behind(postgres: Server, own_database: str) -> AsyncIterator[Stage]:
    """An org whose replica shows one entry for ever: a copy that was made then, the furthest that a replica can lag."""
    first = connect(own_database)
    await Service(first, Metrics(), lambda: NOW_US).record([SetOrg(org="acme", by="will", time_zone="America/New_York")])
    await first.close()  # PostgreSQL copies no database that is in use
    copy = await asyncio.to_thread(postgres.create_database, own_database.rsplit("/", 1)[1])
    database = connect(own_database, copy)
    async with staged(database) as stage:
        await stage.order(SetCap(org="acme", by="will", cap="day", scope="key:k", rule=DAY_CAP))
        yield stage
    await database.close()
    await asyncio.to_thread(postgres.drop_database, copy)


async def _let_in(app: FastAPI, stage: Stage, client: httpx.AsyncClient) -> Api:
    app.state.service, app.state.gate = stage.service, Gate(stage.service)
    api = Api(client, stage.service, [stage.clock.now_us])
    await api.let_in("admin", "admin")
    return api


async def test_a_breach_pauses_its_key_at_once_however_far_the_replica_is_behind(app: FastAPI, far_behind: Stage) -> None:
    """The token, the books, the outbox, the inbox and the state to be compared are all read where every commit is seen (K3, J5); a
    balance and a report say the seq that they are true for, which is the replica's."""
    stage = far_behind
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        api = await _let_in(app, stage, client)
        assert (await api.use(event("e1", "6.00", key="k", time=moment())))[0]["status"] == "recorded"
        await relay_once(stage.service)
        await stage.try_once()
        assert stage.api.keys["k"].state == "paused"
        assert (await api.get("/v1/orgs/acme/keys/k"))["confirmed"] == State.PAUSED
        assert [breach["cap"] for breach in (await api.get("/v1/orgs/acme/breaches"))["breaches"]] == ["day"]
        for path in ("balances", "report"):
            assert (await api.get(f"/v1/orgs/acme/{path}"))["seq"] == 1
    async with stage.service.database.snapshot() as connection:
        head = await stage.head(connection)
    assert await check_org(stage.service, head, lambda way: open_gateway(way, stage.environ, stage.timeout_s)) == []
    assert stage.api.turned == [("k", "paused")]


async def test_doctor_says_how_far_the_replica_is_behind(far_behind: Stage, own_database: str) -> None:
    database = far_behind.service.database
    async with database.snapshot() as connection:
        behind = (await far_behind.head(connection)).seq - 1
    assert await _said(far_behind, database) == (Level.WARN, f"is {behind} entries behind")
    abreast = connect(own_database, own_database)
    assert await _said(far_behind, abreast) == (Level.WELL, "shows every entry")
    await abreast.close()


async def test_a_replica_that_is_away_stops_nothing_but_the_questions_it_would_answer(app: FastAPI, own_database: str) -> None:
    database = connect(own_database, f"postgresql://postgres@127.0.0.1:{free_port()}/ledger")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with staged(database) as stage, httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        api = await _let_in(app, stage, client)
        assert (await api.use(event("e1", "6.00", key="k", time=moment())))[0]["status"] == "recorded"
        await api.put("/v1/orgs/acme/caps/day", {"scope": "key:k", "period": "day", "limit_usd": "5", "action": "pause"}, 201)
        await relay_once(stage.service)
        await stage.try_once()
        assert stage.api.keys["k"].state == "paused"
        assert (await client.get("/readyz")).status_code == 200
        assert "does not answer" in problem(await api.ask("GET", "/v1/orgs/acme/report"), 503)
        level, said = await _said(stage, database)
        assert level is Level.WRONG and "does not answer" in said
    await database.close()


async def _said(stage: Stage, database: Database) -> tuple[Level, str]:
    found = [finding async for finding in examine(Patient(database, None, {}, stage.clock)) if finding.about == "replica"]
    return found[0].level, found[0].said
