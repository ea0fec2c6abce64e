"""Owns `POST /v1/usage`: raw bytes to commands to one status per event, in order. What was answered is on disk.

A fault of the envelope refuses the whole body; a fault of one event is `rejected` in its place, and its neighbours are
recorded (T4).
"""

import asyncio
import time
from typing import Any
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Request, Response

from ..core.commands import Reason, RecordUsage, Rejected, Result, Status
from ..metrics import exemplar
from ..service import Service
from ..store.tokens import Token
from ..wire.fields import MOST_COUNT
from ..wire.usage import EnvelopeError, join_binary, parse_usage, split_events, trace_of, whole_event
from .auth import Caller, allow
from .bounds import body_of
from .problems import RESPONSES, Problem, media_of

router = APIRouter(tags=["usage"])
ONE, BATCH, LINES, BINARY = "application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson", "application/json"
AT_ONCE = 50  # events read between two turns of the event loop: a transaction under way has many short steps there
_encode = msgspec.json.Encoder().encode

_NAME: dict[str, Any] = {"type": ["string", "null"], "maxLength": 256}
_COUNT: dict[str, Any] = {"type": ["integer", "null"], "minimum": 0, "maximum": MOST_COUNT}
_MONEY: dict[str, Any] = {"type": ["string", "number", "null"]}
_COUNTS = (
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_tokens", "images", "searches"
)  # fmt: skip
_NAMES = ("model", "provider", "member", "end_user", "preset", "session", "hold", "response_id")
DATA: dict[str, Any] = {
    "type": "object",
    "required": ["key"],
    "properties": {
        "org": {"type": ["string", "null"], "maxLength": 128, "description": "the token's own org stands in for a missing one"},
        "workspace": {"type": ["string", "null"], "maxLength": 128, "description": "where a key that is new here belongs"},
        "key": {"type": "string", "minLength": 1, "maxLength": 128, "description": "a key's id, or a credential of it"},
        **{name: _NAME for name in _NAMES},
        **{name: _COUNT for name in _COUNTS},
        "cached_input_tokens": _COUNT | {"description": "part of `input_tokens`; so is `cache_write_tokens`"},
        "reasoning_tokens": _COUNT | {"description": "part of `output_tokens`"},
        "cost_usd": _MONEY | {"description": "US dollars, decimal text; missing: the rate card's price, or unpriced"},
        "upstream_cost_usd": _MONEY | {"description": "what the customer's own provider key was charged (`byok`)"},
        "currency": _NAME | {"description": "USD, or the event is rejected"},
        "byok": {"type": ["boolean", "null"]},
        "batch": {"type": ["boolean", "null"], "description": "priced by the rate card's batch rates"},
        "preset_version": _COUNT | {"maximum": 2**31 - 1},
        "tags": {"type": ["object", "null"], "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 256}},
        "started_at": {"type": ["string", "null"], "format": "date-time"},
    },
}
_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["specversion", "type", "source", "id", "time", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "type": {"const": "llm.usage.v1"},
        "source": {"type": "string", "minLength": 1, "maxLength": 512},
        "id": {
            "type": "string", "minLength": 1, "maxLength": 512,
            "description": "with `source`, the event's identity: sent again, it is a duplicate",
        },
        "time": {"type": "string", "format": "date-time", "description": "when the call ended"},
        "subject": {"type": "string", "description": "for people; it decides nothing"},
        "data": DATA,
    },
}  # fmt: skip
_RESULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["status"],
                "properties": {
                    "source": {"type": ["string", "null"]},
                    "id": {"type": ["string", "null"]},
                    "status": {"enum": [status.value for status in Status]},
                    "reason": {"enum": [reason.value for reason in Reason]},
                    "detail": {"type": "string"},
                    "field": {"type": "string"},
                },
            },
        }
    },
}
_DOCS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            ONE: {"schema": _EVENT},
            BATCH: {"schema": {"type": "array", "maxItems": 10_000, "items": _EVENT}},
            LINES: {"schema": {"type": "string", "description": "one event a line"}},
            BINARY: {"schema": DATA},
        },
    },
    "responses": {
        "200": {"description": "One status per event, in order: booked", "content": {"application/json": {"schema": _RESULT}}},
        "202": {"description": "Handed to Kafka, to be booked", "content": {"application/json": {"schema": _RESULT}}},
    },
}


class _Answer(msgspec.Struct, gc=False, omit_defaults=True):
    source: str | None
    id: str | None
    status: Status
    reason: Reason | None = None
    detail: str | None = None
    field: str | None = None


@router.post("/v1/usage", openapi_extra=_DOCS, responses=RESPONSES | {415: RESPONSES[400]}, response_class=Response)
async def post_usage(request: Request, caller: Caller) -> Response:
    """Records usage events: one, a batch, lines, or one in binary mode."""
    allow(caller, "ingest", caller.org)
    began = time.perf_counter()
    events = await _events(request)
    answers: list[_Answer] = []
    commands: list[RecordUsage] = []
    places: list[int] = []
    for place, raw in enumerate(events):
        if place % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
        event = _of_caller(parse_usage(raw, caller.org), caller)
        if isinstance(event, Rejected):
            answers.append(_Answer(event.source, event.event_id, Status.REJECTED, event.reason, event.detail, event.field))
        else:
            answers.append(_Answer(event.source, event.event_id, Status.RECORDED))
            commands.append(event)
            places.append(place)
    service: Service = request.app.state.service
    trace = request.headers.get("traceparent") or request.headers.get("ce-traceparent") or next(map(trace_of, events), None)
    results = await service.receive(commands, caller.org, trace)
    for place, result in zip(places, results, strict=True):
        if result.status is not Status.RECORDED:
            _tell(answers[place], result)
    service.metrics.request_seconds.observe(time.perf_counter() - began, exemplar(trace))
    accepted = any(result.status is Status.ACCEPTED for result in results)
    return Response(_encode({"results": answers}), 202 if accepted else 200, media_type="application/json")


def _tell(answer: _Answer, result: Result) -> None:
    answer.status, answer.reason, answer.detail = result.status, result.reason, result.detail


def _of_caller(event: RecordUsage | Rejected, caller: Token) -> RecordUsage | Rejected:
    """T1: a token's org must be the event's."""
    if isinstance(event, Rejected) or caller.org is None or event.usage.org == caller.org:
        return event
    return Rejected(
        detail="data.org: is not the token's org", field="data.org", reason=Reason.WRONG_ORG, source=event.source, event_id=event.event_id
    )


async def _events(request: Request) -> list[bytes]:
    media = media_of(request)
    binary = any(name.startswith("ce-") for name in request.headers)
    if media not in (ONE, BATCH, LINES) and not (binary and media in (BINARY, "")):  # CloudEvents' Python library names none
        raise Problem(415, f"Content-Type: send {ONE}, {BATCH}, {LINES}, or {BINARY} with ce- headers", "Content-Type")
    body = await body_of(request)
    try:
        if media in (BINARY, ""):
            return [join_binary({name: unquote(value) for name, value in request.headers.items()}, whole_event(body))]
        if media == ONE:
            return [whole_event(body)]
        return [bytes(event) for event in split_events(body, media)]
    except EnvelopeError as error:
        raise Problem(400, str(error)) from None
