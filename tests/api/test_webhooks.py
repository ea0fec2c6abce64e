"""Usage through a gateway's own door: verified as its sender can be, recorded once, or kept aside where it counts nothing (T2, S8)."""

import asyncio
import base64
import gzip
import json
import os
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import uvicorn
from google.rpc import status_pb2
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from prometheus_client import generate_latest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from ledger import gauges
from ledger.api.app import build_app
from ledger.core.commands import SetConnection
from ledger.core.connections import Connection, Direction, Gateway
from ledger.core.window import Period
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import balances, heard, reports, tokens
from ledger.store import tables as t
from ledger.store.dialect import Database, connect
from ledger.store.gauges import read_now
from tests.gateways.payloads import END_US, GENERATION, PROMPT, attributes, litellm, openrouter, openrouter_span, refused
from tests.wire.events import raw

INGEST, OTHERS, READS = "ingest-token-000001", "other-orgs-token-01", "reader-token-00001"
WHSEC = "whsec_" + base64.b64encode(b"k" * 24).decode()
ENVIRON = {"OR_SECRET": "s3cret-of-the-webhook", "SIGNING": WHSEC}
NOW_US = END_US + 60_000_000


def connections() -> list[Connection]:
    return [
        Connection(connection_id="or", gateway=Gateway.OPENROUTER, secret="env:OR_SECRET", keys={"Agentic Coding": "coder"}),
        Connection(connection_id="behind", gateway=Gateway.OPENROUTER, counts=False),
        Connection(connection_id="proxy", gateway=Gateway.LITELLM),
        Connection(connection_id="own", gateway=Gateway.WEBHOOK, secret="env:SIGNING"),
        Connection(connection_id="spans", gateway=Gateway.OTLP, keys={"checkout": "shop"}),
        Connection(connection_id="out", gateway=Gateway.LITELLM, direction=Direction.OUT),
        Connection(connection_id="lost", gateway=Gateway.LITELLM, secret="env:NOWHERE"),
    ]


@pytest.fixture
async def service(database: Database) -> Service:
    async with database.writer.begin() as connection:
        for name, scope, org, text in (("in", "ingest", "acme", INGEST), ("o", "ingest", "other", OTHERS), ("r", "read", "acme", READS)):
            await tokens.create(connection, tokens.Token(name, (scope,), org, None), 1, text)
    service = Service(database, Metrics(), lambda: NOW_US)
    await service.record([SetConnection(org="acme", by="will", connection=connection) for connection in connections()])
    return service


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(build_app(service, ENVIRON))
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        yield client


def bearer(token: str = INGEST, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} | more


def place(connection: str, org: str = "acme") -> str:
    return f"/v1/webhooks/{org}/{connection}"


async def spent(service: Service, scope: str = "org") -> tuple[str, int]:
    async with service.database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        (balance,) = await balances.standing(connection, head, [scope], [Period.LIFETIME], NOW_US)
    return balance["spent_usd"], balance["requests"]


async def test_openrouter_is_recorded_once_however_often_it_sends(client: httpx.AsyncClient, service: Service) -> None:
    body = openrouter(openrouter_span())
    answers = [await client.request(method, place("or"), content=body, headers=bearer()) for method in ("POST", "PUT")]
    assert [answer.json()["results"] for answer in answers] == [{"recorded": 1}, {"duplicate": 1}]
    assert await spent(service, "key:coder") == ("0.00006958", 1)


NOTHING = (
    b"", b"{}", b'{"resourceSpans":[]}', b'{"resourceSpans":null}', b'{"resourceSpans":[{"resource":null,"scopeSpans":null}]}',
    b'{"resourceSpans":[{"resource":{"attributes":null},"scopeSpans":[{"spans":null}]}]}',
)  # fmt: skip


@pytest.mark.parametrize("nothing", NOTHING)
async def test_a_test_of_the_connection_is_answered_however_it_writes_nothing(client: httpx.AsyncClient, nothing: bytes) -> None:
    answer = await client.post(place("or"), content=nothing, headers=bearer() | {"X-Test-Connection": "true"})
    assert (answer.status_code, answer.json()) == (200, {"results": {}, "rejected": []})


async def test_litellm_needs_no_content_type_and_a_bad_payload_leaves_its_neighbours(client: httpx.AsyncClient, service: Service) -> None:
    body = litellm() + b"\n" + litellm(prompt_tokens=-1) + b"\n" + litellm(id="2")
    answer = (await client.post(place("proxy"), content=gzip.compress(body), headers=bearer() | {"Content-Encoding": "gzip"})).json()
    assert answer["results"] == {"rejected": 1, "recorded": 2}
    (rejected,) = answer["rejected"]
    assert (rejected["place"], rejected["field"]) == (1, "prompt_tokens")
    assert await spent(service) == ("0.000027", 2)


async def test_a_rejected_call_is_told_by_its_place_among_all_that_was_sent(client: httpx.AsyncClient) -> None:
    """T4: its sender has to find it, and what is no call was sent too."""
    away = refused("", "Exception")
    lines = b"\n".join([away, litellm(), away, litellm(prompt_tokens=-1)])
    said = (await client.post(place("proxy"), content=lines, headers=bearer())).json()
    assert (said["results"], [one["place"] for one in said["rejected"]]) == ({"recorded": 1, "rejected": 1}, [3])
    attempt, bad = openrouter_span(name="Provider Attempt"), openrouter_span(endTimeUnixNano="0")
    said = (await client.post(place("or"), content=openrouter(attempt, bad), headers=bearer())).json()
    assert (said["results"], [one["place"] for one in said["rejected"]]) == ({"rejected": 1}, [1])


async def test_what_a_connection_reports_that_counts_nothing_is_kept_aside(client: httpx.AsyncClient, service: Service) -> None:
    body = openrouter(openrouter_span(), openrouter_span())
    for _ in range(2):
        assert (await client.post(place("behind"), content=body, headers=bearer())).json()["results"] == {"observed": 2}
    assert await spent(service) == ("0", 0)
    async with service.database.snapshot() as connection:
        (row,) = (await connection.execute(t.observed.select())).all()
    assert (row.connection_id, row.key, row.cost, row.response_id) == ("behind", "Agentic Coding", 69_580, GENERATION)


async def test_a_connection_that_was_heard_every_hour_and_is_not_any_more_is_silent(client: httpx.AsyncClient, service: Service) -> None:
    hour_us = 3_600_000_000
    async with service.database.writer.begin() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        for n in range(24 * 20, 1, -1):
            await heard.note(connection, {(head.org_id, "or"): NOW_US - n * hour_us})
    await client.post(place("or"), content=openrouter(openrouter_span()), headers=bearer())
    async with service.database.snapshot() as connection:
        assert await heard.silent(connection, NOW_US + 2 * hour_us) == {}
        since = NOW_US - NOW_US % hour_us + hour_us
        assert await heard.silent(connection, NOW_US + 5 * hour_us, head.org_id) == {("acme", "or"): since}
        assert len((await connection.execute(t.heard.select())).all()) < 24 * 16, "what is long ago is forgotten"
    service.clock = lambda: NOW_US + 5 * hour_us
    shown = (await client.get("/v1/orgs/acme/connections/or", headers=bearer(READS))).json()
    assert shown["silent_since"] == "2026-07-05T04:00:00Z"
    async with gauges.showing_gauges(service):
        text = generate_latest(service.metrics.registry).decode()
    assert 'ledger_connection_silence_seconds{connection="or",org="acme"}' in text and "ledger_silent_connections 1.0" in text


async def test_of_very_many_silent_connections_the_32_silent_the_longest_are_named(service: Service) -> None:
    hour_us = 3_600_000_000
    names = [f"or-{n:02}" for n in range(40)]
    accounts = [Connection(connection_id=name, gateway=Gateway.OPENROUTER) for name in names]
    await service.record([SetConnection(org="acme", by="will", connection=account) for account in accounts])
    async with service.database.writer.begin() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        for at, name in enumerate(names):
            for n in range(100, 60, -1):
                await heard.note(connection, {(head.org_id, name): NOW_US - (n + at) * hour_us})
    async with service.database.snapshot() as connection:
        now = await read_now(connection, NOW_US)
    assert now.silent == 40
    assert sorted(now.silences) == [("acme", name) for name in names[-32:]]


@pytest.mark.parametrize("headers", [bearer("s3cret-of-the-webhook"), {"X-Webhook-Secret": "s3cret-of-the-webhook"}, bearer()])
async def test_a_sender_shows_a_token_or_the_connections_secret(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    assert (await client.post(place("or"), content=openrouter(openrouter_span()), headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (place("or"), {}, 401), (place("or"), bearer("wrong-token-0000001"), 401), (place("or"), {"X-Webhook-Secret": "wrong"}, 401),
        (place("or"), bearer(OTHERS), 403), (place("or"), bearer(READS), 403), (place("none"), {}, 401),
        (place("none"), bearer(OTHERS), 403),
        (place("none"), bearer(), 404), (place("out"), bearer(), 404), (place("or", "nobody"), bearer(), 403),
        (place("proxy"), {"X-Webhook-Secret": ""}, 401), (place("lost"), {"X-Webhook-Secret": "x"}, 503),
        (place("proxy"), {"webhook-signature": "v1,x"}, 401),
    ],
)  # fmt: skip
async def test_whoever_may_not_send_is_refused_and_nothing_is_recorded(
    client: httpx.AsyncClient, service: Service, path: str, headers: dict[str, str], status: int
) -> None:
    answer = await client.post(path, content=openrouter(openrouter_span()), headers=headers)
    assert answer.status_code == status
    assert await spent(service) == ("0", 0)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic eA=="}, {"X-Webhook-Secret": ""}])
async def test_a_connection_whose_secret_is_not_set_looks_like_one_that_is_not_there_to_who_shows_none(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    lost, none = [await client.post(place(name), content=litellm(), headers=headers) for name in ("lost", "none")]
    assert (lost.status_code, lost.json()) == (none.status_code, none.json()) and lost.status_code == 401


@pytest.mark.parametrize("headers", [bearer("the-secret-itself-01"), {"X-Webhook-Secret": "x"}, {"webhook-signature": "v1,x"}])
async def test_who_shows_a_secret_that_is_not_set_here_is_to_send_again_and_the_operator_is_told_which(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    """T2: a 401 would have it give up, and what OpenRouter and LiteLLM do not send again is lost."""
    with capture_logs() as logs:
        answer = await client.post(place("lost"), content=litellm(), headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "env:NOWHERE" not in answer.text
    (line,) = logs
    assert (line["org"], line["connection"]) == ("acme", "lost") and line["why"].startswith("env:NOWHERE: the variable is not set")


async def test_a_token_is_taken_where_the_connections_secret_is_not_set(client: httpx.AsyncClient) -> None:
    assert (await client.post(place("lost"), content=litellm(), headers=bearer())).json()["results"] == {"recorded": 1}
    both = await client.post(place("lost"), content=litellm(), headers=bearer() | {"X-Webhook-Secret": "x"})
    assert both.json()["results"] == {"duplicate": 1}
    signed_for_it = await client.post(place("lost"), content=litellm(), headers={"webhook-signature": "v1,x"})
    assert signed_for_it.status_code == 503, "a sender that signs is to try again"


def signed(body: bytes, at: datetime, message: str = "msg_1", secret: str = WHSEC) -> dict[str, str]:
    signature = Webhook(secret).sign(message, at, body.decode())
    return {"webhook-id": message, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature,
            "Content-Type": "application/cloudevents+json"}  # fmt: skip


async def test_a_signed_webhook_is_taken_and_a_replayed_one_is_a_duplicate(client: httpx.AsyncClient, service: Service) -> None:
    body, now = raw(time="2026-07-05T03:09:54Z"), datetime.now(UTC)
    assert (await client.post(place("own"), content=body, headers=signed(body, now))).json()["results"] == {"recorded": 1}
    assert (await client.post(place("own"), content=body, headers=signed(body, now))).json()["results"] == {"duplicate": 1}
    assert await spent(service) == ("1.25", 1)


@pytest.mark.parametrize("fault", ["body", "old", "new", "secret", "garbage", "version", "missing"])
async def test_a_wrong_old_or_early_signature_is_refused(client: httpx.AsyncClient, service: Service, fault: str) -> None:
    body, now = raw(time="2026-07-05T03:09:54Z"), datetime.now(UTC)
    at = now + {"old": -timedelta(minutes=6), "new": timedelta(minutes=6)}.get(fault, timedelta())
    headers = signed(body, at, secret="whsec_" + base64.b64encode(b"x" * 24).decode() if fault == "secret" else WHSEC)
    if fault in ("garbage", "version"):
        headers["webhook-signature"] = "nonsense" if fault == "garbage" else headers["webhook-signature"].replace("v1", "v9")
    if fault == "missing":
        del headers["webhook-id"]
    answer = await client.post(place("own"), content=body + b" " if fault == "body" else body, headers=headers)
    assert (answer.status_code, await spent(service)) == (401, ("0", 0))


async def test_events_of_another_org_do_not_come_in_by_this_ones_connection(client: httpx.AsyncClient, service: Service) -> None:
    body = raw({"org": "other"}, time="2026-07-05T03:09:54Z")
    answer = await client.post(place("own"), content=body, headers=signed(body, datetime.now(UTC)))
    assert answer.json()["results"] == {"rejected": 1}


def export(values: dict[str, Any], service_name: str = "checkout", **span: Any) -> dict[str, Any]:
    ids = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "chat", "endTimeUnixNano": str(END_US * 1000)}
    whole = ids | {"attributes": attributes(values)} | span
    about = {"attributes": attributes({"service.name": service_name})}
    return {"resourceSpans": [{"resource": about, "scopeSpans": [{"spans": [whole]}]}]}


TOKENS: dict[str, Any] = {
    "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5, "gen_ai.request.model": "m", "gen_ai.operation.name": "chat",
}  # fmt: skip


async def traces(client: httpx.AsyncClient, body: Any, media: str = "application/json", **more: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/v1/traces", content=content, headers=bearer() | {"Content-Type": media} | more)


async def test_a_genai_span_in_json_is_usage_of_its_service_or_the_key_it_names(client: httpx.AsyncClient, service: Service) -> None:
    assert (await traces(client, export(TOKENS))).json() == {}
    assert (await traces(client, export(TOKENS | {"ledger.key": "crawler", "ledger.cost_usd": "0.5"}, spanId="ef" * 8))).json() == {}
    assert (await spent(service, "key:checkout"), await spent(service, "key:crawler")) == (("0", 1), ("0.50", 1))
    assert (await client.post(place("spans"), json=export(TOKENS), headers=bearer())).json() == {}
    assert await spent(service, "key:shop") == ("0", 1)


@pytest.mark.parametrize("media", ["application/json", "application/x-protobuf"])
async def test_spans_that_came_and_are_imported_from_a_collectors_file_are_booked_once(
    client: httpx.AsyncClient, service: Service, database_url: str, media: str
) -> None:
    """J2: the file's identity is the door's."""
    body = export(TOKENS | {"ledger.key": "crawler"})
    await traces(client, body if media == "application/json" else protobuf(body), media)
    words, environ = ("import", "-", "--format", "otlp", "--org", "acme"), os.environ | {"LEDGER_DATABASE_URL": database_url}
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "ledger", *words, env=environ, stdin=PIPE, stdout=PIPE)
    out, _ = await child.communicate(json.dumps(body).encode())
    assert (child.returncode, out.decode().partition("\n")[0]) == (0, "1 duplicate")
    assert await spent(service, "key:crawler") == ("0", 1)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("media", ["application/json", "application/x-protobuf"])
async def test_an_exporter_is_answered_in_otlp_at_a_connections_door_too(
    client: httpx.AsyncClient, service: Service, media: str, counts: bool
) -> None:
    """OTLP/HTTP: an ExportTraceServiceResponse in the form of the request, and 200; a partial success says what was refused."""
    spans = Connection(connection_id="spans", gateway=Gateway.OTLP, counts=counts)
    await service.record([SetConnection(org="acme", by="will", connection=spans)])
    good, bad = {"ledger.key": "k"}, {"ledger.key": "k" * 129}
    for said, count in ((good, 0), (bad, 1)):
        body = export(TOKENS | said)
        content = protobuf(body) if media == "application/x-protobuf" else json.dumps(body).encode()
        answer = await client.post(place("spans"), content=content, headers=bearer() | {"Content-Type": media})
        assert (answer.status_code, answer.headers["content-type"]) == (200, media)
        told = ExportTraceServiceResponse.FromString(answer.content) if media == "application/x-protobuf" else answer.json()
        if isinstance(told, dict):
            assert told == ({"partialSuccess": {"rejectedSpans": "1", "errorMessage": LONG}} if count else {})
        else:
            assert (told.partial_success.rejected_spans, told.partial_success.error_message) == (count, LONG if count else "")


LONG = "ledger.key: is longer than 128 characters"


def protobuf(body: dict[str, Any]) -> bytes:
    """An export of text attributes and the like, as an exporter packs it."""
    message = ExportTraceServiceRequest()
    (span,) = body["resourceSpans"][0]["scopeSpans"][0]["spans"]
    packed = message.resource_spans.add().scope_spans.add().spans.add()
    packed.trace_id, packed.span_id = bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"])
    packed.end_time_unix_nano = int(span["endTimeUnixNano"])
    for attribute in span["attributes"]:
        value = attribute["value"]
        kept = packed.attributes.add(key=attribute["key"]).value
        if "stringValue" in value:
            kept.string_value = value["stringValue"]
        elif "intValue" in value:
            kept.int_value = int(value["intValue"])
    return message.SerializeToString()


@pytest.mark.parametrize("operation", ["invoke_agent", "execute_tool", "create_agent"])
async def test_an_agents_sum_of_its_calls_and_spans_without_usage_count_nothing(
    client: httpx.AsyncClient, service: Service, operation: str
) -> None:
    assert (await traces(client, export(TOKENS | {"gen_ai.operation.name": operation}))).json() == {}
    assert (await traces(client, export({"http.method": "GET"}))).json() == {}
    assert await spent(service) == ("0", 0)


@pytest.mark.parametrize(
    "wrong", [{"gen_ai.usage.input_tokens": "many"}, {"gen_ai.usage.output_tokens": -1}, {"gen_ai.usage.input_tokens": 1e300}]
)
async def test_a_bad_span_is_a_partial_success_that_names_its_field(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    answer = (await traces(client, export(TOKENS | wrong))).json()["partialSuccess"]
    assert answer["rejectedSpans"] == "1" and next(iter(wrong)) in answer["errorMessage"]


BAD_ABOUT = {"attributes": [{"key": "user.id", "value": 5}]}
ONE_SPAN: list[dict[str, Any]] = [{"spans": [{}]}]


@pytest.mark.parametrize(
    ("bad", "count", "why"),
    [
        ({"resource": BAD_ABOUT, "scopeSpans": [{"spans": [{}, {}]}]}, 2, "the resource's user.id: is not a text"),
        ({"resource": 5, "scopeSpans": ONE_SPAN}, 1, "resource"),
        ({"resource": {"attributes": [5]}, "scopeSpans": ONE_SPAN}, 1, "resource"),
        (5, 1, "resource"), (None, 1, "resource"), ({"scopeSpans": 5}, 1, "resource"), ({"scopeSpans": [5]}, 1, "scope"),
        ({"scopeSpans": [{"spans": 5}, {"spans": [5]}]}, 2, "scope"), ({"resource": BAD_ABOUT}, 0, ""),
    ],
)  # fmt: skip
async def test_what_can_not_be_read_of_an_export_leaves_its_neighbours(
    client: httpx.AsyncClient, service: Service, bad: Any, count: int, why: str
) -> None:
    good = export(TOKENS | {"ledger.cost_usd": "0.5"})["resourceSpans"]
    answer = await traces(client, {"resourceSpans": [bad, *good]})
    partial = answer.json().get("partialSuccess", {"rejectedSpans": "0", "errorMessage": ""})
    assert (answer.status_code, partial["rejectedSpans"]) == (200, str(count)) and why in partial["errorMessage"], partial
    assert await spent(service) == ("0.50", 1)


@pytest.mark.parametrize(
    ("body", "media", "more", "status"),
    [
        (b"{", "application/json", {}, 400), (b'{"resourceSpans":5}', "application/json", {}, 400),
        (b"\x0a\xff\xff\xff\x7f", "application/x-protobuf", {}, 400), (b"", "text/plain", {}, 415),
        (gzip.compress(b"0" * 40_000_000), "application/json", {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(b"{}")[:-4], "application/json", {"Content-Encoding": "gzip"}, 400),
        (b"{}", "application/json", {"Content-Encoding": "br"}, 415),
    ],
)  # fmt: skip
async def test_a_body_that_can_not_be_read_is_refused_as_a_whole(
    client: httpx.AsyncClient, body: bytes, media: str, more: dict[str, str], status: int
) -> None:
    assert (await traces(client, body, media, **more)).status_code == status


async def test_protobuf_cut_in_half_is_refused_and_whole_is_answered_in_protobuf(client: httpx.AsyncClient, service: Service) -> None:
    body = protobuf(export({"gen_ai.usage.input_tokens": 7, "ledger.key": "k"}))
    assert (await traces(client, body[: len(body) // 2], "application/x-protobuf")).status_code == 400
    answer = await traces(client, body, "application/x-protobuf")
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert not ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans
    assert await spent(service, "key:k") == ("0", 1)


@pytest.mark.parametrize(
    ("path", "more", "status", "why"),
    [
        ("/v1/traces", bearer(), 400, "the body is not an OTLP export in protobuf, or cut short"),
        (place("spans"), bearer(), 400, "the body is not an OTLP export in protobuf, or cut short"),
        ("/v1/traces", bearer("nobody's"), 401, "the token is not known, or was revoked"),
        ("/v1/traces", bearer() | {"Content-Encoding": "zstd"}, 415, "Content-Encoding: send gzip, deflate, zlib or nothing"),
        (
            "/v1/traces",
            bearer() | {"Content-Length": "99999999"},
            413,
            "the body is longer than 16777216 bytes: send fewer events at a time",
        ),
        ("/v1/metrics", bearer(), 404, "Not Found"),
    ],
)
async def test_who_sends_protobuf_is_told_in_protobuf_why_it_is_refused(
    client: httpx.AsyncClient, path: str, more: dict[str, str], status: int, why: str
) -> None:
    """A Collector shows nothing of an answer that is no google.rpc.Status, and drops the spans."""
    answer = await client.post(path, content=b"xyz", headers=more | {"Content-Type": "application/x-protobuf"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/x-protobuf")
    assert status_pb2.Status.FromString(answer.content) == status_pb2.Status(message=why)


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
async def test_the_opentelemetry_sdk_exports_here_as_it_is(database_url: str, service: Service, compression: Compression) -> None:
    served = Service(connect(database_url), Metrics())  # its engine belongs to the server's own loop
    server = uvicorn.Server(uvicorn.Config(build_app(served, ENVIRON), port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", headers=bearer(), compression=compression)
    provider = TracerProvider(resource=Resource.create({"service.name": "checkout"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("app")
    for _ in range(3):
        with tracer.start_as_current_span("chat gpt-5", attributes=TOKENS | {"gen_ai.prompt": PROMPT, "ledger.cost_usd": 0.25}):
            pass
    await asyncio.to_thread(provider.shutdown)
    server.should_exit = True
    await asyncio.to_thread(thread.join, 10)
    assert await spent(service, "key:checkout") == ("0.75", 3)
