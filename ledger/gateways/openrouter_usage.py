"""Owns how OpenRouter's Broadcast is read: OTLP JSON, of which only the span `LLM Generation` is a call (its attempts at
providers have spans too). Pure.

Of the key only its name arrives: the connection's map says whose it is. A name that the map does not have is booked under
itself, as a key that nobody declared (S3): to show, not to guess.
"""

from ..core.commands import RecordUsage, Rejected
from ..core.connections import Connection
from ..wire.fields import Refused
from ..wire.otlp import KEYLESS, OPENROUTER, OPENROUTER_TRACE, RESPONSE, Span, command_of, first, spans_of_json

GENERATION = "LLM Generation"
NAME, MEMBERS = OPENROUTER + "api_key_name", (OPENROUTER + "creator_user_id", OPENROUTER + "entity_id")


def parse_openrouter(body: bytes, org: str, connection: Connection) -> list[RecordUsage | Rejected]:
    """The calls in one delivery, in order; none for a test of the connection. Raises EnvelopeError."""
    source = f"connection/{connection.connection_id}"
    found: list[RecordUsage | Rejected] = []
    for span in spans_of_json(body or b"{}"):
        if isinstance(span, Rejected):
            found.append(span)
        elif span.name == GENERATION:
            found.append(_call(span, org, source, connection))
    return found


def _call(span: Span, org: str, source: str, connection: Connection) -> RecordUsage | Rejected:
    """The generation's id is the call's identity: a caller may set the trace id, so it is not unique."""
    generation = first(span.attributes, (RESPONSE, OPENROUTER_TRACE))
    try:
        if generation is None:
            raise Refused(RESPONSE, "is missing: without it a call sent again could not be told")
        name = str(span.attributes.get(NAME) or KEYLESS)
        command = command_of(span, org, source, str(generation), connection.keys.get(name, name), first(span.attributes, MEMBERS))
    except Refused as error:
        return Rejected(detail=str(error), field=error.field, source=source, event_id=str(generation)[:512] if generation else None)
    command.usage.response_id = command.event_id
    return command
