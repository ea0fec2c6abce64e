"""What is answered while the database does not: in words, and nothing that was not recorded is said to be."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI

from ledger.api.auth import Gate
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store.dialect import Database, connect
from ledger.store.schema import downgrade, migrate
from tests.api.asking import BATCH, NOW_US, Api, event, problem
from tests.servers.postgres import Server


@pytest.fixture
def doomed(postgres: Server, postgres_template: str) -> str:
    """The URL of a PostgreSQL database that the test takes away itself."""
    return postgres.create_database(postgres_template)


async def test_a_schema_of_another_version_is_not_ready_and_says_what_to_do(api: Api, database: Database) -> None:
    async with database.writer.begin() as connection:
        await downgrade(connection)
    assert "ledger migrate" in problem(await api.client.get("/readyz"), 503)
    assert (await api.client.get("/livez")).status_code == 200
    async with database.writer.begin() as connection:
        await migrate(connection)
    assert (await api.client.get("/readyz")).status_code == 200


async def test_a_database_that_is_gone_is_a_503_with_a_time_to_try_again(app: FastAPI, postgres: Server, doomed: str) -> None:
    database = connect(doomed)
    service = Service(database, Metrics(), lambda: NOW_US)
    app.state.service, app.state.gate = service, Gate(service)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger") as client:
        api = Api(client, service, [NOW_US])
        await api.let_in("admin", "admin")
        assert (await api.use(event("before")))[0]["status"] == "recorded"
        await asyncio.to_thread(postgres.drop_database, doomed)
        for method, path, body in (("GET", "/v1/orgs/acme", None), ("PUT", "/v1/orgs/acme", {}), ("POST", "/v1/usage", [event("after")])):
            answer = await api.ask(method, path, body, headers={"Content-Type": BATCH} if method == "POST" else None)
            assert "nothing was recorded" in problem(answer, 503)
            assert answer.headers["Retry-After"]
        assert "does not answer" in problem(await client.get("/readyz"), 503)
        assert (await client.get("/livez")).status_code == 200
    await database.close()
