"""With Kafka, what comes in by HTTP is handed to the topic: durable there when answered, booked by the consumers, and a database
that is away holds up no sender."""

import asyncio
import gc
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from aiokafka.errors import KafkaConnectionError

from ledger.api.app import build_app
from ledger.core.commands import SetConnection
from ledger.core.connections import Connection, Gateway
from ledger.kafka import Kafka, door, producing
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import tokens
from ledger.store.dialect import connect
from ledger.store.schema import migrate
from tests.consumers.harness import Stage, staged
from tests.gateways.payloads import litellm
from tests.servers.kafka import Server as KafkaServer
from tests.servers.postgres import Server, own_postgres
from tests.servers.processes import free_port
from tests.wire.events import raw

HEADERS = {"Authorization": "Bearer ingest-token-000001"}
ONE = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server that the test may stop."""
    with own_postgres() as server:
        yield server


@pytest.fixture
async def stage(kafka: KafkaServer, mortal: Server, tmp_path: Path) -> AsyncIterator[Stage]:
    url = await asyncio.to_thread(mortal.create_database)
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
        await tokens.create(connection, tokens.Token("in", ("ingest",), "acme", None), 1, "ingest-token-000001")
    await database.close()
    async with staged(kafka.bootstrap, url, tmp_path) as stage:
        yield stage


async def until_requests(stage: Stage, count: int) -> None:
    """Until so many calls of acme are booked."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for process in stage.processes:
            process.check()
        found = await stage.usage_of("acme")
        if found == count:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{found} of {count} booked\n" + stage.logs())


async def test_usage_by_http_is_accepted_and_booked_though_the_database_went_away(stage: Stage, mortal: Server) -> None:
    service = Service(stage.database, Metrics())
    await service.record([SetConnection(org="acme", by="will", connection=Connection(connection_id="proxy", gateway=Gateway.LITELLM))])
    async with producing(stage.kafka) as producer:
        service.hand_over = door(producer, stage.kafka)
        transport = httpx.ASGITransport(build_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=HEADERS, timeout=60) as client:
            first = await client.post("/v1/usage", content=raw(id="e1"), headers=ONE)
            assert (first.status_code, first.json()["results"][0]["status"]) == (202, "accepted")
            hook = await client.post("/v1/webhooks/acme/proxy", content=litellm())
            assert (hook.status_code, hook.json()["results"]) == (202, {"accepted": 1})
            wrong = await client.post("/v1/usage", content=raw({"input_tokens": -1}), headers=ONE)
            assert (wrong.status_code, wrong.json()["results"][0]["status"]) == (200, "rejected")
            stage.start("usage")
            await until_requests(stage, 2)
            await asyncio.to_thread(mortal.stop)
            try:
                await asyncio.sleep(2.1)  # what was remembered for a moment is looked up anew
                away = await client.post("/v1/usage", content=raw(id="e2"), headers=ONE)
                hook = await client.post("/v1/webhooks/acme/proxy", content=litellm(id="2"))
                assert (away.status_code, hook.status_code) == (202, 202)
                unknown = await client.post("/v1/usage", content=raw(id="e3"), headers=ONE | {"Authorization": "Bearer never-seen-0000001"})
                assert unknown.status_code == 503
            finally:
                await asyncio.to_thread(mortal.start)
            await until_requests(stage, 4)


async def test_a_broker_that_does_not_answer_is_a_503_and_nothing_was_taken(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(stage.database, Metrics())
    monkeypatch.setattr("ledger.kafka.HAND_OVER_S", 1.0)
    elsewhere = stage.kafka._replace(prefix="nowhere.")  # a topic that is not there and that nobody may make
    async with producing(stage.kafka) as producer:
        service.hand_over = door(producer, elsewhere)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(service)), base_url="http://t", headers=HEADERS) as client:
            answer = await client.post("/v1/usage", content=raw(), headers=ONE)
    assert answer.status_code == 503 and "nothing was taken" in answer.json()["detail"]


async def test_a_broker_that_is_not_there_leaves_nothing_open_behind_the_error() -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(KafkaConnectionError):
            async with producing(Kafka(f"127.0.0.1:{free_port()}", "")):
                pass
        gc.collect()
    assert [str(warning.message) for warning in warned if warning.category is ResourceWarning and "Kafka" in str(warning.message)] == []


async def test_sigterm_at_any_step_of_a_consumers_start_exits_well(stage: Stage) -> None:
    for step in ("missing_topics", "connect", "not_current", "Consumers", "producing", "serving", "spare_the_collector"):
        process = stage.start("usage", "pulse", STOP_AT=step)
        code = await asyncio.to_thread(process.popen.wait, 30)
        process.stopped = True
        assert code == 0 and "Traceback" not in process.log(), (step, code, process.log())
