"""Owns the binary form in which PostgreSQL's COPY takes rows of the journal: the hot path's, packed field by field.

A row is its number of fields, then each field as its length and its bytes; -1 for null (PostgreSQL, "COPY", Binary Format).
The fields of an entry are sent in an order of their own: what is the same from call to call stands together and is packed once,
what is different in each is packed at one go.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice, repeat
from struct import Struct
from typing import Any

import msgspec

from ..core.entries import UsageRecorded

JOURNAL_ORDER = (
    "org_id", "kind", "recorded_us", "day", "hour_us",
    "workspace", "key", "sent_key", "sent_workspace", "source", "byok", "batch", "model", "provider",
    "upstream", "upstream_text", "computed", "card",
    "member", "end_user", "preset", "preset_version", "session", "tags", "hold", "response_id", "started_us", "corrects", "data",
    "seq", "time_us", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_tokens",
    "images", "searches", "cost", "cost_text", "event_id",
)  # fmt: skip
_PIECE_ROWS = 500
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_FIELDS, _LENGTH, _BIG = Struct(">h").pack, Struct(">i").pack, Struct(">iq").pack
_FLAGS = Struct(">ibib").pack
_COUNTS = Struct(">" + "iq" * 10).pack
_KNOWN = Struct(">hiqi16siq").pack
_NO_MONEY, _NOTHING_MORE = _NULL * 4, _NULL * 11  # upstream … card, member … data: of a call that says nothing of them
_NO_CALL = _NULL * 25  # day … corrects
_NO_COUNTS = _NULL * 12  # time_us … event_id
_encode = msgspec.json.encode


def _text(text: str | None) -> bytes:
    if text is None:
        return _NULL
    raw = text.encode()
    return _LENGTH(len(raw)) + raw


_name = lru_cache(262_144)(_text)  # names come again and again


def _big(number: int | None) -> bytes:
    return _NULL if number is None else _BIG(8, number)


def pack_usage(org_id: int, entry: UsageRecorded) -> bytes:
    """A usage entry as `journal.row_of` gives it, in JOURNAL_ORDER."""
    c = entry.command
    u = c.usage
    cost, cost_text, event_id = c.cost, c.cost_text, c.event_id.encode()
    if c.upstream is c.upstream_text is c.computed is c.card is None:
        money = _NO_MONEY
    else:
        money = _big(c.upstream) + _text(c.upstream_text) + _big(c.computed) + _big(c.card)
        cost = c.computed if cost is None else cost
    if u.member is u.end_user is u.preset is u.preset_version is u.session is u.tags is u.hold is u.response_id is u.started_us is None:
        more = _NOTHING_MORE
    else:
        tags = _NULL if u.tags is None else _text(_encode(u.tags).decode())
        more = (
            _name(u.member) + _name(u.end_user) + _name(u.preset) + _big(u.preset_version) + _name(u.session) + tags + _text(u.hold)
            + _text(u.response_id) + _big(u.started_us) + _NULL + _NULL
        )  # fmt: skip
    text = None if cost_text is None else cost_text.encode()
    head = _head(org_id, entry.recorded_us, entry.day, entry.hour_us)
    place, called = _place(entry.workspace, entry.key, u.key, u.workspace), _called(c.source, u.byok, u.batch, u.model, u.provider)
    counts = (
        8, entry.seq, 8, c.time_us, 8, u.input_tokens, 8, u.cached_input_tokens, 8, u.cache_write_tokens, 8, u.output_tokens,
        8, u.reasoning_tokens, 8, u.audio_tokens, 8, u.images, 8, u.searches,
    )  # fmt: skip
    if cost is None or text is None:
        return b"".join((head, place, called, money, more, _COUNTS(*counts), _big(cost), _text(cost_text), _text(c.event_id)))
    tail = _tail(len(text), len(event_id))(*counts, 8, cost, len(text), text, len(event_id), event_id)
    return b"".join((head, place, called, money, more, tail))


@lru_cache(4_096)
def _head(org_id: int, recorded_us: int, day: int, hour_us: int | None) -> bytes:
    return _FIELDS(len(JOURNAL_ORDER)) + _BIG(8, org_id) + _name("UsageRecorded") + _BIG(8, recorded_us) + _BIG(8, day) + _big(hour_us)


@lru_cache(8_192)
def _place(workspace: str, key: str, sent_key: str, sent_workspace: str | None) -> bytes:
    return _text(workspace) + _text(key) + (_NULL if sent_key == key else _text(sent_key)) + _text(sent_workspace)


@lru_cache(16_384)
def _called(source: str, byok: bool, batch: bool, model: str | None, provider: str | None) -> bytes:
    return _text(source) + _FLAGS(1, byok, 1, batch) + _text(model) + _text(provider)


@lru_cache(4_096)
def _tail(text: int, event_id: int) -> Callable[..., bytes]:
    """Packs seq … event_id, where the texts have these lengths."""
    return Struct(f">{'iq' * 11}i{text}si{event_id}s").pack


def pack_fact(org_id: int, seq: int, kind: str, recorded_us: int, data: str) -> bytes:
    """An entry that has nothing in the journal's columns but what every entry has, and its data; in JOURNAL_ORDER."""
    head = _FIELDS(len(JOURNAL_ORDER)) + _BIG(8, org_id) + _name(kind) + _BIG(8, recorded_us)
    return head + _NO_CALL + _text(data) + _BIG(8, seq) + _NO_COUNTS


def pack_known(org_id: int, known: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
    """Identities of 16 bytes, each with its seq."""
    digests, seqs = zip(*known, strict=True) if known else ((), ())
    return map(_KNOWN, repeat(3), repeat(8), repeat(org_id), repeat(16), digests, repeat(8), seqs)


def pack_row(values: Sequence[Any]) -> bytes:
    """Any row of bigints, texts, bytes, booleans and nulls."""
    return _FIELDS(len(values)) + b"".join([_field(value) for value in values])


def _field(value: Any) -> bytes:
    if value is None:
        return _NULL
    if isinstance(value, bool):
        return b"\0\0\0\1" + bytes([value])
    if isinstance(value, bytes):
        return _LENGTH(len(value)) + value
    return _BIG(8, value) if isinstance(value, int) else _text(value)


def pieces(rows: Iterable[bytes]) -> Iterator[bytes]:
    """A whole COPY stream, in pieces."""
    rows, piece = iter(rows), _SIGNATURE
    while more := b"".join(islice(rows, _PIECE_ROWS)):
        yield piece + more
        piece = b""
    yield piece + _TRAILER
