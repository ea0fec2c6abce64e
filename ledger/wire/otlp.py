"""Owns how OTLP traces are read: JSON and protobuf to spans that hold only what usage needs, and calls among them to usage.

Attributes that nobody here asked for are skipped while decoding: prompts and completions have nowhere to go (S7). Refuses
a body that can't be read as a whole; a span, a scope or a resource that can't be is `Rejected` in its place (T4): senders do
not send again what was refused, and its neighbours would be lost.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ..core.commands import RecordUsage, Rejected, Usage
from .fields import MOST_ID, Refused, count_of, instant_of, name_of, text_of
from .genai import (
    AUDIO,
    KEY,
    MEMBER,
    MODEL,
    OPENROUTER,
    OUTPUT,
    PRESET,
    PROVIDER,
    REASONING,
    SERVICE,
    SESSION,
    USER,
    VIRTUAL,
    WANTED,
    WORKSPACE,
    Span,
    cost_of,
    first,
    id_of,
    input_of,
    provider_of,
    response_of,
)  # fmt: skip
from .identity import identity
from .splitting import mended
from .usage import EnvelopeError

MOST_SPANS = 20_000
KEYLESS = "unknown"
_FAILED = (2, "2", "STATUS_CODE_ERROR")
_SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})


class _Attribute(msgspec.Struct, gc=False):
    key: str | None = None
    value: msgspec.Raw = msgspec.Raw()


class _Value(msgspec.Struct, gc=False):
    stringValue: str | None = None
    intValue: str | int | None = None
    doubleValue: msgspec.Raw = msgspec.Raw()
    boolValue: bool | None = None


class _Status(msgspec.Struct, gc=False):
    code: str | int | None = None


class _Span(msgspec.Struct, gc=False):
    traceId: str | None = None
    spanId: str | None = None
    parentSpanId: str | None = None
    name: str | None = None
    endTimeUnixNano: str | int | None = None
    startTimeUnixNano: str | int | None = None
    attributes: list[_Attribute] | None = None
    status: _Status | None = None


class _Named(msgspec.Struct, gc=False):
    name: str | None = None


class _Scope(msgspec.Struct, gc=False):
    scope: _Named | None = None
    spans: list[msgspec.Raw] | None = None


class _About(msgspec.Struct, frozen=True, gc=False):
    attributes: list[_Attribute] | None = None


class _Resource(msgspec.Struct, gc=False):
    resource: msgspec.Raw = msgspec.Raw(b"null")
    scopeSpans: list[msgspec.Raw] | None = None


class _Export(msgspec.Struct, gc=False):
    resourceSpans: list[msgspec.Raw] | None = None


_NOT_THAT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_decode_export = msgspec.json.Decoder(_Export).decode
_decode_resource = msgspec.json.Decoder(_Resource).decode
_decode_about = msgspec.json.Decoder(_About | None).decode
_decode_scope = msgspec.json.Decoder(_Scope).decode
_decode_span = msgspec.json.Decoder(_Span).decode
_decode_value = msgspec.json.Decoder(_Value).decode


def spans_of_json(body: bytes) -> list[Span | Rejected]:
    """The spans of an OTLP/JSON export: ids in hex, 64-bit numbers as text; null is nothing. Raises EnvelopeError."""
    try:
        resources = _decode_export(body).resourceSpans or ()
    except _NOT_THAT:
        if whole := mended(body):
            return spans_of_json(whole)
        raise EnvelopeError("the body is not an OTLP export in JSON: {resourceSpans: […]}") from None
    found = list(islice(chain.from_iterable(map(_json_resource, resources)), MOST_SPANS + 1))
    _bounded(len(found))
    return found


def _json_resource(raw: msgspec.Raw) -> Iterator[Span | Rejected]:
    try:
        resource = _decode_resource(raw)
    except _NOT_THAT:
        yield Rejected(detail="is not a resource's spans in OTLP/JSON")
        return
    about, wrong = _json_about(resource.resource)
    for scope in resource.scopeSpans or ():
        try:
            found = _decode_scope(scope)
        except _NOT_THAT:
            yield Rejected(detail="is not a scope's spans in OTLP/JSON")
            continue
        name = (found.scope and found.scope.name) or ""
        for span in found.spans or ():
            yield wrong or _json_span(span, about, name)


def _json_about(raw: msgspec.Raw) -> tuple[dict[str, Any], Rejected | None]:
    """A resource's attributes, or what each of its spans is refused for: whose they are can't be told."""
    try:
        about = _decode_about(raw)
        return (_attributes(about.attributes) if about is not None else {}), None
    except Refused as error:
        return {}, Rejected(detail=f"the resource's {error}", field=error.field)
    except _NOT_THAT:
        return {}, Rejected(detail="is of a resource that is not one in OTLP/JSON")


def _bounded(spans: int) -> None:
    if spans > MOST_SPANS:
        raise EnvelopeError(f"more than {MOST_SPANS} spans in one body: send fewer at a time")


def _json_span(raw: msgspec.Raw, about: dict[str, Any], scope: str) -> Span | Rejected:
    try:
        span = _decode_span(raw)
        own = _attributes(span.attributes)
    except Refused as error:
        return Rejected(detail=str(error), field=error.field)
    except _NOT_THAT:
        return Rejected(detail="is not a span in OTLP/JSON")
    return Span(
        span.traceId or "", span.spanId or "", span.parentSpanId or "", span.name or "",
        span.endTimeUnixNano or 0, span.startTimeUnixNano or 0,
        {**about, **own} if about else own, scope, span.status is not None and span.status.code in _FAILED,
    )  # fmt: skip


def _attributes(attributes: Iterable[_Attribute] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in attributes or ():
        if attribute.key in WANTED:
            try:
                value = _decode_value(attribute.value)
            except _NOT_THAT:
                raise Refused(attribute.key, "is not a text, a number or a truth") from None
            if value.stringValue is not None:
                found[attribute.key] = value.stringValue
            elif value.intValue is not None:
                found[attribute.key] = value.intValue
            elif (double := bytes(value.doubleValue)) and double != b"null":
                found[attribute.key] = double.decode().strip('"')  # by its digits (M1)
            elif value.boolValue is not None:
                found[attribute.key] = value.boolValue
    return found


def spans_of_protobuf(body: bytes) -> list[Span | Rejected]:
    """The spans of an OTLP/protobuf export. Raises EnvelopeError."""
    try:
        export = ExportTraceServiceRequest.FromString(body)
    except (DecodeError, RecursionError):
        raise EnvelopeError("the body is not an OTLP export in protobuf, or cut short") from None
    found: list[Span | Rejected] = []
    for resource in export.resource_spans:
        about = _protobuf_attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            _bounded(len(found) + len(scope.spans))
            name = scope.scope.name
            for span in scope.spans:
                own = _protobuf_attributes(span.attributes)
                found.append(
                    Span(span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name, span.end_time_unix_nano,
                         span.start_time_unix_nano, {**about, **own} if about else own, name, span.status.code in _FAILED)
                )  # fmt: skip
    return found


def _protobuf_attributes(attributes: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in attributes:
        if (key := attribute.key) in WANTED:
            value = attribute.value
            if said := value.string_value or value.int_value:  # most are; asking which it is takes longer
                found[key] = said
            elif (kind := value.WhichOneof("value")) in _SCALARS:
                found[key] = getattr(value, kind)
    return found


def usage_of(span: Span, org: str, source: str, key: Callable[[Span], str | None], member: Any = None) -> RecordUsage | Rejected:
    """A GenAI span as usage of an org. `key` says whose it is; its identity is its response's or its own (J2)."""
    event_id = None
    try:
        event_id = id_of(span)
        return command_of(span, org, source, event_id, key(span) or KEYLESS, member)
    except Refused as error:
        return Rejected(detail=str(error), field=error.field, source=source[:512], event_id=event_id and event_id[:512])


def key_by_attributes(span: Span) -> str | None:
    """Whose a span is by itself: `ledger.key`, else the gateway's own key, else the service's name."""
    return first(span.attributes, (KEY, *VIRTUAL, SERVICE))


def command_of(span: Span, org: str, source: str, event_id: str, key: str, member: Any = None) -> RecordUsage:
    """What a span says it used. Raises fields.Refused."""
    a = span.attributes
    cost, cost_text = cost_of(span)
    incoming, cached, written = input_of(span)
    source, event_id = name_of("source", source, 512) or "", text_of("id", event_id, 512) or ""
    usage = Usage(
        org=org, key=name_of(KEY, key, MOST_ID) or KEYLESS, workspace=name_of(WORKSPACE, a.get(WORKSPACE), MOST_ID),
        model=name_of(MODEL[0], first(a, MODEL)), provider=name_of(PROVIDER[0], provider_of(span)),
        input_tokens=incoming, cached_input_tokens=cached, cache_write_tokens=written, output_tokens=count_of(OUTPUT[0], first(a, OUTPUT)),
        reasoning_tokens=count_of(REASONING[0], first(a, REASONING)), audio_tokens=count_of(AUDIO[0], first(a, AUDIO)),
        byok=str(a.get(OPENROUTER + "is_byok")).lower() == "true",
        member=name_of(MEMBER, member if member is not None else a.get(MEMBER)), end_user=name_of(USER[0], first(a, USER)),
        preset=name_of(PRESET, a.get(PRESET)), session=name_of(SESSION[0], first(a, SESSION)), response_id=response_of(span),
        started_us=instant_of("startTimeUnixNano", span.start_ns, 9) if span.start_ns not in (0, "", "0") else None,
    )  # fmt: skip
    return RecordUsage(
        source=source, event_id=event_id, digest=identity(org, source, event_id), time_us=instant_of("endTimeUnixNano", span.end_ns, 9),
        cost=cost, cost_text=cost_text, upstream=None, upstream_text=None, usage=usage,
    )  # fmt: skip
