"""Owns the choice of the file that reads what comes in by a connection, by the connection's kind. Pure."""

from collections.abc import Callable

from ..core.commands import Reason, RecordUsage, Rejected
from ..core.connections import Connection, Gateway
from ..wire.genai import Span, calls_of
from ..wire.otlp import key_by_attributes, spans_of_json, spans_of_protobuf, usage_of
from ..wire.usage import parse_usage, split_events, whole_event
from .litellm import parse_litellm
from .openrouter import parse_openrouter

PROTOBUF, JSON, LINES, BATCH = "application/x-protobuf", "application/json", "application/x-ndjson", "application/cloudevents-batch+json"
TRACES = Connection(connection_id="traces", gateway=Gateway.OTLP)  # spans that come by no connection: the same ones are the same call (J2)
Parsed = list[RecordUsage | Rejected | None]  # None in the place of something that is no call


def parse_delivery(body: bytes, org: str, connection: Connection, media: str = JSON) -> Parsed:
    """The calls in one body of a connection's kind, each in its place. Raises wire.usage.EnvelopeError."""
    return _KINDS[connection.gateway](body, org, connection, media)


def _cloudevents(body: bytes, org: str, connection: Connection, media: str) -> Parsed:
    events = split_events(body, media) if media in (LINES, BATCH) else [whole_event(body)]
    return [_own(parse_usage(bytes(event), org), org) for event in events]


def _own(event: RecordUsage | Rejected, org: str) -> RecordUsage | Rejected:
    """T1: what comes in by an org's connection is the org's."""
    if isinstance(event, Rejected) or event.usage.org == org:
        return event
    wrong = "data.org: is not the connection's org"
    return Rejected(detail=wrong, field="data.org", reason=Reason.WRONG_ORG, source=event.source, event_id=event.event_id)


def _otlp(body: bytes, org: str, connection: Connection, media: str) -> Parsed:
    def key(span: Span) -> str | None:
        name = key_by_attributes(span)
        return connection.keys.get(name, name) if name is not None else None

    spans = spans_of_protobuf(body) if media == PROTOBUF else spans_of_json(body or b"{}")
    source = f"connection/{connection.connection_id}"
    return [usage_of(span, org, source, key) if isinstance(span, Span) else span for span in calls_of(spans)]


_KINDS: dict[Gateway, Callable[[bytes, str, Connection, str], Parsed]] = {
    Gateway.OPENROUTER: lambda body, org, connection, media: parse_openrouter(body, org, connection),
    Gateway.LITELLM: lambda body, org, connection, media: parse_litellm(body, org, connection),
    Gateway.OTLP: _otlp,
    Gateway.WEBHOOK: _cloudevents,
    Gateway.HTTP: _cloudevents,
}
