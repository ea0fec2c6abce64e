"""Owns the binary form in which PostgreSQL's COPY takes rows of the journal: the hot path's, packed field by field.

A row is its number of fields, then each field as its length and its bytes; -1 for null (PostgreSQL, "COPY", Binary Format).
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from struct import Struct
from typing import Any

import msgspec

from ..core.entries import UsageRecorded

PIECE_BYTES = 256 * 1024
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_FIELDS, _LENGTH, _BIG = Struct(">h").pack, Struct(">i").pack, Struct(">iq").pack
_KIND = b"UsageRecorded"
_HEAD = Struct(f">hiqiqi{len(_KIND)}siqiq").pack  # org_id, seq, kind, recorded_us, day
_FLAGS = Struct(">ibib").pack
_COUNTS = Struct(">" + "iq" * 8).pack
_KNOWN = Struct(">hiqi16siq").pack
_JOURNAL_FIELDS = 42
_NOTHING_MORE = _NULL * 11  # member … data, of a call that says nothing of them
_DATA_ONLY = _NULL * 37  # day … corrects
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
    """A usage entry as `journal.row_of` gives it, in the journal's column order."""
    c, key = entry.command, entry.key
    u = c.usage
    cost, event_id = c.cost, c.event_id.encode()
    if cost is not None and c.upstream is None and c.computed is None and c.upstream_text is None and c.card is None:
        money = _BIG(8, cost) + _text(c.cost_text) + _NULL * 4
    else:
        booked = _big(c.computed if cost is None else cost)
        money = booked + _text(c.cost_text) + _big(c.upstream) + _text(c.upstream_text) + _big(c.computed) + _big(c.card)
    if u.member is u.end_user is u.preset is u.preset_version is u.session is u.tags is u.hold is u.response_id is u.started_us is None:
        more = _NOTHING_MORE
    else:
        tags = _NULL if u.tags is None else _text(_encode(u.tags).decode())
        more = (
            _name(u.member) + _name(u.end_user) + _name(u.preset) + _big(u.preset_version) + _name(u.session) + tags + _text(u.hold)
            + _text(u.response_id) + _big(u.started_us) + _NULL + _NULL
        )  # fmt: skip
    return b"".join((
        _HEAD(_JOURNAL_FIELDS, 8, org_id, 8, entry.seq, len(_KIND), _KIND, 8, entry.recorded_us, 8, entry.day),
        _NULL if entry.hour_us is None else _BIG(8, entry.hour_us), _place(entry.workspace, key, u.key, u.workspace),
        _BIG(8, c.time_us), _name(c.source), _LENGTH(len(event_id)), event_id, money, _kind(u.byok, u.batch, u.model, u.provider),
        _COUNTS(8, u.input_tokens, 8, u.cached_input_tokens, 8, u.cache_write_tokens, 8, u.output_tokens, 8, u.reasoning_tokens,
                8, u.audio_tokens, 8, u.images, 8, u.searches),
        more,
    ))  # fmt: skip


@lru_cache(262_144)
def _place(workspace: str, key: str, sent_key: str, sent_workspace: str | None) -> bytes:
    return _text(workspace) + _text(key) + (_NULL if sent_key == key else _text(sent_key)) + _text(sent_workspace)


@lru_cache(4_096)
def _kind(byok: bool, batch: bool, model: str | None, provider: str | None) -> bytes:
    return _FLAGS(1, byok, 1, batch) + _text(model) + _text(provider)


def pack_fact(org_id: int, seq: int, kind: str, recorded_us: int, data: str) -> bytes:
    """An entry that has nothing in the journal's columns but what every entry has, and its data."""
    return _FIELDS(_JOURNAL_FIELDS) + _BIG(8, org_id) + _BIG(8, seq) + _name(kind) + _BIG(8, recorded_us) + _DATA_ONLY + _text(data)


def pack_known(org_id: int, digest: bytes, seq: int) -> bytes:
    """An identity of 16 bytes."""
    return _KNOWN(3, 8, org_id, 16, digest, 8, seq)


def pack_row(values: tuple[Any, ...]) -> bytes:
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
    piece, size = [_SIGNATURE], len(_SIGNATURE)
    for row in rows:
        piece.append(row)
        size += len(row)
        if size >= PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece) + _TRAILER
