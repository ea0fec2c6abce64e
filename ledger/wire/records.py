"""Owns how a Kafka record is read as a usage event, structured or binary CloudEvent, and what is said of one that can't be.

A dead letter holds why, where the record lies, its digest and its length, never its body (T5): replay reads it again there.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol
from urllib.parse import quote

import msgspec

from ..core.commands import RecordUsage, Rejected
from .times import moment_text
from .usage import join_binary, parse_usage, trace_of

MOST_RECORD_BYTES = 1024 * 1024
STRUCTURED = "application/cloudevents+json"
_DATA = ("application/json", "text/json", "")
_TRACES = ("ce_traceparent", "ce-traceparent", "traceparent")

Headers = Sequence[tuple[str, bytes]]  # names as `rawrecords` gives them: what is not UTF-8 is escaped by surrogates


class Lying(Protocol):
    """A record as the client gives it: its bytes, and where it lies."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class DeadLetter(msgspec.Struct, frozen=True):
    """What is kept of a record that could not be booked. `key` is as received, where it is text."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    digest: str
    length: int
    key: str | None = None


def read_record(record: Lying) -> RecordUsage | Rejected:
    """A record as a command; anything that can't be read is Rejected, never an exception."""
    value = record.value
    if not value:
        return Rejected(detail="the record is a tombstone: it has no value" if value is None else "the value is empty")
    if len(value) > MOST_RECORD_BYTES:
        return Rejected(detail=f"the value is longer than {MOST_RECORD_BYTES} bytes")
    return parse_usage(value) if not record.headers else _with_headers(value, record.headers)


def _with_headers(value: bytes, headers: Headers) -> RecordUsage | Rejected:
    for name, _ in headers:
        if not name.isascii() and (raw := name.encode(errors="surrogateescape")) != name.encode(errors="replace"):
            return Rejected(detail=f"the name of a header is not UTF-8: {raw[:100]!r}", field="headers")
    try:
        named = {name.lower().replace("ce_", "ce-", 1): text.decode() for name, text in headers if _ours(name) and text is not None}
    except UnicodeDecodeError:
        return Rejected(detail="a CloudEvents header is not UTF-8")
    media = named.pop("content-type", "").partition(";")[0].strip().lower()
    if media == STRUCTURED or (not named and media in _DATA):
        return parse_usage(value)
    if not named or media not in _DATA:
        wrong = "content-type: is neither application/cloudevents+json nor, with ce_ headers, application/json"
        return Rejected(detail=wrong, field="content-type")
    return parse_usage(join_binary(named, value))


def _ours(name: str) -> bool:
    return name.lower() == "content-type" or name.lower().startswith(("ce_", "ce-"))


def record_trace(record: Lying) -> str | None:
    """The `traceparent` that a record carries: in its event, or in its headers as a binary event or a tracing client has it."""
    found = next((text for name, text in record.headers if name.lower() in _TRACES and text), None)
    return trace_of(record.value or b"") if found is None else found.decode(errors="replace")


def dead_letter(record: Lying, reason: str, detail: str) -> DeadLetter:
    """What is kept of a record that could not be booked."""
    value = record.value or b""
    key = None if record.key is None else record.key[:256].decode(errors="replace")
    return DeadLetter(reason, detail, record.topic, record.partition, record.offset, sha256(value).hexdigest(), len(value), key)


def encode_dead_letter(letter: DeadLetter, now_us: int) -> bytes:
    """A dead letter as a CloudEvent, whose id is the place of the record."""
    place = f"{quote(letter.topic, safe='')}/{letter.partition}/{letter.offset}"
    return msgspec.json.encode({
        "specversion": "1.0", "type": "ledger.usage.dead.v1", "source": "ledger", "id": place, "time": moment_text(now_us),
        "data": letter,
    })  # fmt: skip


class _Envelope(msgspec.Struct, frozen=True):
    data: DeadLetter
    time: str = ""


_decode = msgspec.json.Decoder(_Envelope).decode


def decode_dead_letter(value: bytes) -> tuple[DeadLetter, str]:
    """A dead letter and when it was written. Raises msgspec.DecodeError for anything else."""
    found = _decode(value)
    return found.data, found.time
