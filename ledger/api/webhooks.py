"""Owns `POST /v1/webhooks/{org}/{connection}` and `POST /v1/traces`: a gateway's own payloads, verified as their sender can be.

A sender shows a token of ours, or the connection's secret in a header where it can send a fixed one, or signs with it by
Standard Webhooks (T2): then a message older or newer than five minutes is refused, and one that is replayed inside them is
a duplicate, since its calls have identities (J2). Whoever is refused learns nothing of what exists here, but for a connection
whose secret we have lost: what its sender shows can't be judged, and is to be sent again.
"""

import hmac
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import APIRouter, Request, Response
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTracePartialSuccess, ExportTraceServiceResponse
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from ..core.commands import RecordUsage, Rejected, Result, Status
from ..core.connections import Connection, Gateway
from ..gateways.inward import JSON, PROTOBUF, TRACES, Parsed, parse_delivery
from ..gateways.references import SecretMissing, secret_at
from ..service import Service
from ..store import heard, observed, reports
from ..store.away import is_away
from ..store.books import connection_of
from ..store.dialect import Database
from ..wire.usage import EnvelopeError
from .auth import Caller, allow
from .bounds import body_of
from .problems import RESPONSES, RETRY_AFTER_S, Problem, media_of
from .values import OrgId, PathId

log = structlog.get_logger()
router = APIRouter(tags=["usage"])
SECRET_HEADER = "x-webhook-secret"
MOST_TOLD = 100
REMEMBERED_S = 2.0
NOTE_EVERY_S = 10.0
MOST_REMEMBERED = 10_000
_encode = msgspec.json.Encoder().encode


class Known:
    """The connections lately asked for: a busy webhook reads its own once in a moment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self._remembered: dict[tuple[str, str], tuple[float, int, Connection]] = {}
        self._heard: dict[tuple[int, str], int] = {}
        self._noted = 0.0

    async def find(self, request: Request, org: str, name: str) -> tuple[int, Connection] | None:
        """An org's id and its connection by name, where usage may come in by it."""
        until, org_id, found = self._remembered.get((org, name), (0.0, 0, None))
        if found is None or until < time.monotonic():
            try:
                fresh = await _connection(request.app.state.service.database, org, name)
            except Exception as error:
                if found is None or not is_away(error):
                    raise
                fresh = (org_id, found)  # as it was known before the database went away
            if fresh is None:
                self._remembered.pop((org, name), None)
                return None
            org_id, found = fresh
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[org, name] = (time.monotonic() + REMEMBERED_S, org_id, found)
        return (org_id, found) if found.inward else None

    async def hear(self, database: Database, org_id: int, name: str, now_us: int) -> None:
        """Notes now and then which connections were heard; what a database that is away does not take is noted later."""
        self._heard[org_id, name] = now_us
        if time.monotonic() - self._noted < NOTE_EVERY_S:
            return
        self._noted = time.monotonic()
        try:
            async with database.writer.begin() as connection:
                await heard.note(connection, self._heard)
            self._heard.clear()
        except Exception as error:
            if not is_away(error):
                raise


async def _connection(database: Database, org: str, name: str) -> tuple[int, Connection] | None:
    async with database.snapshot() as connection:
        head = await reports.head(connection, org)
        row = await reports.connection_row(connection, head, name) if head is not None else None
    return None if head is None or row is None else (head.org_id, connection_of(row))


_UNKNOWN = "send a token that may ingest for this org, the connection's secret, or a valid signature"
_LOST = "the connection's secret can't be read here; the log says why"


_COUNTED = {
    "type": "object",
    "properties": {
        "results": {"type": "object", "additionalProperties": {"type": "integer"}, "description": "how many calls came to which status"},
        "rejected": {"type": "array", "items": {"type": "object"}, "description": "why, by their place in the body; the first of them"},
    },
}
_EXPORTED: dict[str, Any] = {JSON: {"schema": {"type": "object"}}, PROTOBUF: {"schema": {"type": "string", "format": "binary"}}}
_WEBHOOK_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": {"type": ["object", "array"], "items": {"type": "object"}, "description": "as the gateway sends it"}}},
    },
    "responses": {
        "200": {
            "description": "Booked, or kept for reconciliation; to a connection of kind otlp, OTLP's ExportTraceServiceResponse",
            "content": {JSON: {"schema": _COUNTED}, PROTOBUF: _EXPORTED[PROTOBUF]},
        },
        "202": {"description": "Handed to Kafka, to be booked", "content": {JSON: {"schema": _COUNTED}}},
    },
}
_TRACES_DOCS: dict[str, Any] = {
    "requestBody": {"required": True, "content": _EXPORTED, "description": "OTLP's ExportTraceServiceRequest"},
    "responses": {"200": {"description": "OTLP's ExportTraceServiceResponse", "content": _EXPORTED}},
}


@router.post(
    "/v1/webhooks/{org}/{connection}", openapi_extra=_WEBHOOK_DOCS, responses=RESPONSES | {415: RESPONSES[400]}, response_class=Response
)
@router.put("/v1/webhooks/{org}/{connection}", responses=RESPONSES, response_class=Response, include_in_schema=False)
async def post_webhook(request: Request, org: OrgId, connection: PathId) -> Response:
    """Records what a gateway sends in its own form, by the connection's kind; a test of the connection is answered 200."""
    known: Known = request.app.state.known
    stands = await known.find(request, org, connection)
    body = await body_of(request)
    await _verify(request, org, stands[1] if stands else None, body, known.environ)
    if stands is None:
        raise Problem(404, f"there is no connection {connection!r} that usage comes in by")
    org_id, account = stands
    try:
        parsed = parse_delivery(body, org, account, media_of(request))
    except EnvelopeError as error:
        raise Problem(400, str(error)) from None
    commands = [event for event in parsed if isinstance(event, RecordUsage)]
    service: Service = request.app.state.service
    results: Sequence[Result] = ()
    if account.counts:
        results = await service.receive(commands, org)
    else:
        async with service.database.writer.begin() as writer:
            await observed.keep(writer, org_id, account.connection_id, commands)
    if commands:
        await known.hear(service.database, org_id, connection, service.clock())
    if account.gateway is Gateway.OTLP:
        return _exported(media_of(request), parsed, results)
    return _counted(parsed, results, 0 if account.counts else len(commands))


def _counted(parsed: Parsed, results: Sequence[Result], kept_aside: int) -> Response:
    """Our own answer, to what is no OTLP exporter: how many calls came to what."""
    rejected = sum(isinstance(event, Rejected) for event in parsed)
    counts = Counter({str(Status.REJECTED): rejected, "observed": kept_aside}) + Counter(str(result.status) for result in results)
    status = 202 if str(Status.ACCEPTED) in counts else 200
    return Response(_encode({"results": counts, "rejected": _told(parsed)}), status, media_type=JSON)


def _told(parsed: Parsed) -> list[dict[str, Any]]:
    """Why calls were rejected, by their place in the body; the first of them."""
    return [
        {"place": place, "id": event.event_id, "field": event.field, "detail": event.detail}
        for place, event in enumerate(parsed)
        if isinstance(event, Rejected)
    ][:MOST_TOLD]


async def _verify(request: Request, org: str, account: Connection | None, body: bytes, environ: Mapping[str, str]) -> None:
    """Raises Problem unless the sender is who may send here."""
    headers = request.headers
    signed, shown = "webhook-signature" in headers, headers.get(SECRET_HEADER)
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    bearer = bearer.strip() if kind.lower() == "bearer" else ""
    refused = Problem(401, _UNKNOWN, headers={"WWW-Authenticate": "Bearer"})
    if not (signed or shown or bearer):
        raise refused
    secret = None
    if account is not None and account.secret is not None:
        try:
            secret = secret_at(account.secret, environ)
        except SecretMissing as error:  # what was sent may be right: its sender is to try again, unless it has a token of ours
            log.error("webhook_secret_missing", org=org, connection=account.connection_id, why=str(error))
            refused = Problem(503, _LOST, headers={"Retry-After": RETRY_AFTER_S})
    if signed:
        if refused.status_code == 503:
            raise refused
        return _signed(secret, body, headers)
    for given in (shown, bearer):
        if given and secret is not None and hmac.compare_digest(given.encode(), secret.encode()):
            return None
    try:
        token = await request.app.state.gate.enter(bearer) if bearer else None
    except Problem:
        token = None
    if token is None:
        raise refused
    allow(token, "ingest", org)
    return None


def _signed(secret: str | None, body: bytes, headers: Mapping[str, str]) -> None:
    try:
        if secret is None:
            raise WebhookVerificationError("no secret")
        Webhook(secret).verify(body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError, RuntimeError):  # also a signature that is not base64, a body that is not text
        raise Problem(401, "the signature is wrong, or older or newer than five minutes", "webhook-signature") from None
    except Exception as error:
        if type(error).__module__.startswith("standardwebhooks"):
            raise Problem(503, "the connection's secret is empty") from None
        raise


@router.post("/v1/traces", openapi_extra=_TRACES_DOCS, responses=RESPONSES | {415: RESPONSES[400]}, response_class=Response)
async def post_traces(request: Request, caller: Caller) -> Response:
    """Records the calls to models among the spans of an OTLP export, JSON or protobuf. The token's org is the spans'.

    Whose a span is says its attribute `ledger.key`, or its resource's, else the resource's `service.name`.
    """
    allow(caller, "ingest", caller.org)
    if caller.org is None:
        raise Problem(403, "the spans' org is the token's: use a token for one org")
    media = media_of(request)
    if media not in (PROTOBUF, JSON):
        raise Problem(415, f"Content-Type: send {PROTOBUF} or {JSON}", "Content-Type")
    body = await body_of(request)
    try:
        parsed = parse_delivery(body, caller.org, TRACES, media)
    except EnvelopeError as error:
        raise Problem(400, str(error)) from None
    commands = [event for event in parsed if isinstance(event, RecordUsage)]
    return _exported(media, parsed, await request.app.state.service.receive(commands, caller.org))


def _exported(media: str, parsed: Parsed, results: Sequence[Result]) -> Response:
    """OTLP's own answer: a partial success names what was wrong with the first span that was refused."""
    wrong = [event.detail for event in parsed if isinstance(event, Rejected)]
    wrong += [f"{result.reason or result.status}" for result in results if result.status in (Status.REJECTED, Status.PARKED)]
    if media == PROTOBUF:
        partial = ExportTracePartialSuccess(rejected_spans=len(wrong), error_message=wrong[0]) if wrong else None
        return Response(ExportTraceServiceResponse(partial_success=partial).SerializeToString(), media_type=PROTOBUF)
    answer = {"partialSuccess": {"rejectedSpans": str(len(wrong)), "errorMessage": wrong[0]}} if wrong else {}
    return Response(_encode(answer), media_type=JSON)
