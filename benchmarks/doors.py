"""Figures of usage that comes in by gateways' own doors: `ledger serve` as one process on PostgreSQL, pricing included, durable when
answered; and `ledger import`."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import func, select

from benchmarks.events import KEYS, MODELS, ORG, START_US, caps, events
from benchmarks.figures import Figure
from benchmarks.kafka import events_count
from benchmarks.serving import CONNECTIONS, serving
from ledger.core.commands import SetConnection
from ledger.core.connections import Connection, Gateway
from ledger.core.rates import Origin, Prices, Rate, Schedule
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import rates, tokens
from ledger.store.dialect import connect
from ledger.store.schema import migrate
from ledger.store.tables import journal
from tests.gateways.payloads import litellm_payload
from tests.servers.postgres import running_postgres

PER_CALLBACK, PER_EXPORT = 100, 1000
INGEST = "bench-ingest-0123456789"
Body = tuple[bytes, dict[str, str]]


async def _prepare(url: str) -> None:
    """Caps that nobody reaches, a rate card, a connection, a token for one org."""
    database = connect(url)
    async with database.writer.begin() as connection:
        await migrate(connection)
        await tokens.create(connection, tokens.Token("bench", ("ingest",), ORG, None), START_US, INGEST)
        schedule = Schedule(Prices(input=Decimal("0.00000125"), output=Decimal("0.00001"), cached=Decimal("0.000000125")))
        card = [Rate(provider=None, model=model, origin=Origin.OPERATOR, standard=schedule) for model in (*MODELS, "gpt-4o-mini")]
        await rates.put(connection, await rates.changes(connection, card, Origin.OPERATOR, START_US), Origin.OPERATOR, "bench", START_US)
    proxy = Connection(connection_id="proxy", gateway=Gateway.LITELLM)
    await Service(database, Metrics()).record([*caps(), SetConnection(org=ORG, by="bench", connection=proxy)])
    await database.close()


def _callbacks(seed: int, count: int) -> list[Body]:
    """LiteLLM's callbacks: 9 KB an item, messages and response along with it."""
    said = "All happy families are alike; each unhappy family is unhappy in its own way. " * 45
    made = []
    for n in range(count):
        key, _ = KEYS[n % len(KEYS)]
        item = litellm_payload({"user_api_key_hash": key}, id=f"chatcmpl-{seed}-{n}", litellm_call_id=f"{seed}-{n}",
                               messages=[{"role": "user", "content": said}], response={"choices": [said]},
                               endTime=(START_US + n * 1000) / 1e6, startTime=(START_US + n * 1000) / 1e6 - 1)  # fmt: skip
        made.append(json.dumps(item))
    return [(f"[{','.join(made[at : at + PER_CALLBACK])}]".encode(), {}) for at in range(0, count, PER_CALLBACK)]


def _exports(seed: int, count: int) -> list[Body]:
    """OTLP in protobuf: whole GenAI spans, prompts and all."""
    made: list[Body] = []
    for at in range(0, count, PER_EXPORT):
        message = ExportTraceServiceRequest()
        spans = message.resource_spans.add().scope_spans.add().spans
        for n in range(at, min(at + PER_EXPORT, count)):
            span = spans.add(name="chat", trace_id=(seed + 1).to_bytes(8, "big") + n.to_bytes(8, "big"), span_id=(n + 1).to_bytes(8, "big"))
            span.start_time_unix_nano, span.end_time_unix_nano = (START_US + n) * 1000, (START_US + n * 1000) * 1000
            texts = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": MODELS[n % 3],
                     "gen_ai.response.model": MODELS[n % 3], "gen_ai.response.id": f"r-{seed}-{n}", "ledger.key": KEYS[n % len(KEYS)][0],
                     "gen_ai.conversation.id": f"run-{n % 99}", "server.address": "api.openai.com",
                     "gen_ai.input.messages": "What is love? " * 40, "gen_ai.output.messages": "Baby, don't hurt me. " * 40}  # fmt: skip
            for name, text in texts.items():
                span.attributes.add(key=name).value.string_value = text
            for name, number in (("gen_ai.usage.input_tokens", n % 9000), ("gen_ai.usage.output_tokens", n % 3000), ("server.port", 443)):
                span.attributes.add(key=name).value.int_value = number
            span.attributes.add(key="gen_ai.request.temperature").value.double_value = 0.7
        made.append((message.SerializeToString(), {"Content-Type": "application/x-protobuf"}))
    return made


async def _post_all(address: str, path: str, sent: Sequence[Body]) -> float:
    waiting = list(reversed(sent))
    began = time.perf_counter()

    async def sender(client: httpx.AsyncClient) -> None:
        while waiting:
            body, headers = waiting.pop()
            answer = await client.post(path, content=body, headers=headers)
            assert answer.status_code == 200, answer.text[:300]

    headers = {"Authorization": f"Bearer {INGEST}"}
    async with httpx.AsyncClient(base_url=address, timeout=60, headers=headers) as client:
        await asyncio.gather(*(sender(client) for _ in range(CONNECTIONS)))
    return time.perf_counter() - began


async def _booked(url: str) -> int:
    database = connect(url)
    async with database.snapshot() as connection:
        count = await connection.scalar(select(func.count()).where(journal.c.kind == "UsageRecorded"))
    await database.close()
    return int(count or 0)


def _ingest(name: str, path: str, made: Callable[[int, int], list[Body]], rounds: int, count: int, unit: str, target: str) -> Figure:
    runs: list[float] = []
    with running_postgres() as server:
        for seed in range(rounds):
            url, sent = server.create_database(), made(seed, count)
            asyncio.run(_prepare(url))
            with tempfile.TemporaryDirectory() as folder, serving(Path(folder) / "unused", LEDGER_DATABASE_URL=url) as (address, _):
                runs.append(count / asyncio.run(_post_all(address, path, sent)))
            assert asyncio.run(_booked(url)) == count
            server.drop_database(url)
    return Figure(name, unit, runs, target=target)


def litellm_http_ingest(rounds: int, count: int = 20_000) -> Figure:
    """LiteLLM's payloads a second, a hundred a callback."""
    return _ingest("litellm_http_ingest", f"/v1/webhooks/{ORG}/proxy", _callbacks, rounds, count, "payloads/s", "≥ 8k")


def otlp_http_ingest(rounds: int, count: int = 50_000) -> Figure:
    """GenAI spans a second, in protobuf."""
    return _ingest("otlp_http_ingest", "/v1/traces", _exports, rounds, count, "spans/s", "≥ 20k")


def import_rate(rounds: int) -> Figure:
    """Events a second by `ledger import`, from a file of lines, the start of the command included."""
    runs, count = list[float](), events_count()
    with running_postgres() as server, tempfile.TemporaryDirectory() as folder:
        for seed in range(rounds):
            url, path = server.create_database(), Path(folder) / "usage.jsonl"
            with path.open("wb") as file:
                file.writelines(json.dumps(event).encode() + b"\n" for event in events(seed, count))
            asyncio.run(_prepare(url))
            environment = os.environ | {"LEDGER_DATABASE_URL": url}
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "ledger", "import", str(path)], env=environment, check=True, stdout=subprocess.DEVNULL)
            runs.append(count / (time.perf_counter() - began))
            assert asyncio.run(_booked(url)) == count
            server.drop_database(url)
    return Figure("import_rate", "events/s", runs, target="≥ half of kafka_postgres_fold")
