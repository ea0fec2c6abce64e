"""Owns how a usage event is read: CloudEvents 1.0, `type: llm.usage.v1`, structured, binary, batched or as lines.

Parsing any bytes gives `RecordUsage` or `Rejected`, never an exception (T4). Prompts and completions are skipped while
decoding and have nowhere to go (S7); secrets are replaced before anything else sees them (S2).
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from ..core.commands import RecordUsage, Rejected, Usage
from ..core.money import AmountError, Nanos, parse_usd
from ..core.window import micros
from .fields import MOST_COUNT
from .identity import identity
from .packed import unpacked
from .secrets import UnfitText, clean_name, clean_text, redact
from .splitting import split_array

USAGE_TYPE = "llm.usage.v1"
MAX_EVENTS = 10_000
MAX_DEPTH = 32

Id = Annotated[str, msgspec.Meta(max_length=128)]
Name = Annotated[str, msgspec.Meta(max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Tags = Annotated[dict[Annotated[str, msgspec.Meta(max_length=128)], Name], msgspec.Meta(max_length=32)]

_ABSENT = msgspec.Raw()


class _Data(msgspec.Struct, gc=False, kw_only=True):
    org: Id | None = None
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    workspace: Id | None = None
    model: Name | None = None
    provider: Name | None = None
    input_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    images: Count | None = None
    searches: Count | None = None
    cost_usd: msgspec.Raw = _ABSENT
    upstream_cost_usd: msgspec.Raw = _ABSENT
    currency: Name | None = None
    byok: bool | None = None
    batch: bool | None = None
    member: Name | None = None
    end_user: Name | None = None
    preset: Name | None = None
    preset_version: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    session: Name | None = None
    tags: Tags | None = None
    hold: Name | None = None
    response_id: Name | None = None
    started_at: Moment | None = None


class _Event(msgspec.Struct, gc=False, kw_only=True):
    specversion: str
    type: str
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    time: Moment
    data: _Data


class _Identity(msgspec.Struct, gc=False):
    source: Any = None
    id: Any = None


class _Traced(msgspec.Struct, gc=False):
    traceparent: str | None = None


class _Timed(msgspec.Struct, gc=False):
    time: str


class EnvelopeError(ValueError):
    """The body as a whole can't be read: nothing of it was recorded."""


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_traced = msgspec.json.Decoder(_Traced).decode
_decode_timed = msgspec.json.Decoder(_Timed).decode
_PATH = re.compile(r" - at (?:`key` in )?`\$\.?([^`]*)`$")
_PLAINER = {
    "Invalid RFC3339 encoded datetime": "is not an RFC 3339 time, such as 2026-03-08T09:00:00Z",
    "Expected `datetime` with a timezone component": "has no zone: add Z or an offset such as -05:00",
}
_ROUNDED_UP = re.compile(r":59\.9{6}[5-9]")


def split_events(body: bytes, content_type: str) -> list[msgspec.Raw] | list[bytes]:
    """The events of a body, not read yet, by its media type. Raises EnvelopeError where there is no telling them apart."""
    if content_type == "application/x-ndjson":
        events: list[msgspec.Raw] | list[bytes] = [line for line in body.split(b"\n") if line.strip()]
    else:
        try:
            events = split_array(body)
        except RecursionError:
            raise EnvelopeError(f"the body is nested deeper than {MAX_DEPTH} levels") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EnvelopeError(f"the body is not a JSON array of events: {_plain(error)}") from None
    if len(events) > MAX_EVENTS:
        raise EnvelopeError(f"{len(events)} events in one body: send at most {MAX_EVENTS}")
    return events


def whole_event(body: bytes) -> bytes:
    """A body that is to be one event. Raises EnvelopeError where it is not a JSON object at all."""
    try:
        _decode_identity(body)
    except msgspec.ValidationError:
        raise EnvelopeError("the body is not a JSON object: an event") from None
    except RecursionError:
        raise EnvelopeError(f"the body is nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EnvelopeError(f"the body is not JSON: {_plain(error)}") from None
    return body


def join_binary(headers: Mapping[str, str], body: bytes) -> bytes:
    """A binary-mode CloudEvent (attributes in `ce-` headers, lower case; data in the body, one JSON value) in structured form.

    Headers as text: HTTP's are percent-encoded, and whoever read them has undone that; Kafka's are not, and their `%` means itself.
    """
    attributes = {name: headers[f"ce-{name}"] for name in ("specversion", "type", "source", "id", "time") if f"ce-{name}" in headers}
    head = msgspec.json.encode(attributes)[:-1]
    return head + (b"," if attributes else b"") + b'"data":' + (body or b"null") + b"}"


def trace_of(event: bytes) -> str | None:
    """The `traceparent` that a structured event carries (CloudEvents' tracing extension), not checked; None for none."""
    try:
        return _decode_traced(event).traceparent if b'"traceparent"' in event else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def parse_usage(raw: bytes | msgspec.Raw, org: str | None = None) -> RecordUsage | Rejected:
    """One event's bytes to a command. `org` stands in for a missing one."""
    text = bytes(raw)
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        return Rejected(detail=f"is nested deeper than {MAX_DEPTH} levels")
    try:
        event = _decode_event(text)
    except msgspec.ValidationError as error:
        return parse_usage(whole, org) if (whole := unpacked(text)) else _rejected(text, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Rejected(detail=f"is not JSON: {_plain(error)}")
    if not event.time.microsecond and not event.time.second:
        event.time = _not_rounded_up(text, event.time)
    try:
        return _command(event, org)
    except UnfitText:
        error = _unfit(event)
    except _Refused as refused:
        error = refused
    return Rejected(detail=str(error), field=error.field, source=_shown(event.source), event_id=_shown(event.id))


def _not_rounded_up(text: bytes, moment: datetime) -> datetime:
    """A time on the minute that was written with more digits than are kept: what was rounded up to it lies before it, and maybe in
    the window before (W2)."""
    return moment - timedelta(microseconds=1) if _ROUNDED_UP.search(_decode_timed(text).time) else moment


class _Refused(ValueError):
    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


def _command(event: _Event, org: str | None) -> RecordUsage:
    if event.type != USAGE_TYPE:
        raise _Refused("type", f"is not {USAGE_TYPE}, the one version this ledger knows")
    if event.specversion != "1.0":
        raise _Refused("specversion", "is not 1.0")
    data = event.data
    if data.currency is not None and data.currency != "USD":
        raise _Refused("data.currency", f"is {data.currency[:8]}: only USD is booked")
    owner, key, workspace = _caller(data.org or org, data.key, data.workspace)
    source, model, provider = _called(event.source, data.model, data.provider)
    if owner is None:
        raise _Refused("data.org", "is missing, and the token is not bound to one")
    cost, cost_text = _amount(data.cost_usd, "data.cost_usd")
    upstream, upstream_text = _amount(data.upstream_cost_usd, "data.upstream_cost_usd")
    event_id = clean_text(event.id)
    # By position, in the order of the fields: a tenth of the time that names take.
    usage = Usage(
        owner, key, workspace, model, provider,
        data.input_tokens or 0, data.cached_input_tokens or 0, data.cache_write_tokens or 0, data.output_tokens or 0,
        data.reasoning_tokens or 0, data.audio_tokens or 0, data.images or 0, data.searches or 0,
        data.byok or False, data.batch or False,
        data.member and clean_name(data.member), data.end_user and clean_name(data.end_user),
        data.preset and clean_name(data.preset), data.preset_version, data.session and clean_name(data.session),
        {clean_name(name): clean_name(value) for name, value in data.tags.items()} if data.tags else None,
        data.hold and clean_text(data.hold), data.response_id and clean_text(data.response_id),
        data.started_at and micros(data.started_at),
    )  # fmt: skip
    digest = identity(owner, source, event_id)
    return RecordUsage(source, event_id, digest, micros(event.time), cost, cost_text, upstream, upstream_text, usage)


@lru_cache(8_192)
def _caller(org: str | None, key: str, workspace: str | None) -> tuple[str | None, str, str | None]:
    """Who called, as it may be kept: the same names come again and again, and together."""
    return clean_text(org) if org else None, clean_text(key), clean_text(workspace) if workspace else None


@lru_cache(16_384)
def _called(source: str, model: str | None, provider: str | None) -> tuple[str, str | None, str | None]:
    """What was called, and by which way, as it may be kept."""
    return clean_text(source), model and clean_text(model), provider and clean_text(provider)


def _amount(raw: msgspec.Raw, field: str) -> tuple[Nanos | None, str | None]:
    """An amount and its text as written: a JSON string or number, read by its digits (M1)."""
    if raw is _ABSENT:
        return None, None
    try:
        text = str(raw, "utf-8")  # type: ignore[call-overload]  # Raw is a buffer
        if text == "null":
            return None, None
        if text[0] == '"':
            text = text[1:-1] if "\\" not in text else _decode_text(text)
        return parse_usd(text), text
    except AmountError as error:
        raise _Refused(field, str(error)) from None
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise _Refused(field, "is not text") from None


def _unfit(event: _Event) -> _Refused:
    """Names the field whose text can't be kept."""
    texts = {"source": event.source, "id": event.id}
    texts |= {f"data.{name}": value for name, value in msgspec.structs.asdict(event.data).items() if isinstance(value, str)}
    return _Refused(next((field for field, value in texts.items() if "\0" in value), "data.tags"), "contains a NUL")


def _plain(error: Exception) -> str:
    """An exception's words without anything of what was sent."""
    return str(error).partition("`$")[0].rstrip(" -at") if isinstance(error, msgspec.DecodeError) else "not UTF-8 text, or nested too deep"


def _rejected(text: bytes, error: msgspec.ValidationError) -> Rejected:
    message = str(error)
    path = _PATH.search(message)
    field = (path[1] if path else "").replace("[...]", "")
    missing = re.search(r"missing required field `(\w+)`", message)
    if missing:
        field, message = ".".join(part for part in (field, missing[1]) if part), "is missing"
    else:
        message = _PLAINER.get(plain := _PATH.sub("", message), plain)
    source, event_id = _identity_of(text)
    return Rejected(detail=f"{field}: {message}" if field else message, field=field or None, source=source, event_id=event_id)


def _identity_of(text: bytes) -> tuple[str | None, str | None]:
    try:
        found = _decode_identity(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return _shown(found.source), _shown(found.id)


def _shown(part: Any) -> str | None:
    """What may be said of an identity that was refused: no secret (S2), nothing that text can't hold."""
    return redact(part)[:512] if isinstance(part, str) and "\0" not in part else None


def _depth(text: bytes) -> int:
    """How deep JSON text is nested, strings skipped."""
    deepest = depth = 0
    in_text = escaped = False
    for byte in text:
        if in_text:
            in_text, escaped = escaped or byte != 0x22, byte == 0x5C and not escaped
        elif byte == 0x22:
            in_text = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest
