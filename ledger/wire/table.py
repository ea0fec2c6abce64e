"""Owns how a CSV of usage is read: columns by a mapping to the fields of an event. Refuses by name what it would have to
guess: a byte order mark, semicolons, decimal commas, a column that is not there.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from ..core.commands import RecordUsage, Rejected
from .fields import Refused, count_of
from .usage import USAGE_TYPE, parse_usage

COUNTS = (
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "audio_tokens", "images", "searches",
    "preset_version",
)  # fmt: skip
TEXTS = (
    "org", "key", "workspace", "model", "provider", "cost_usd", "upstream_cost_usd", "currency", "member", "end_user", "preset", "session",
    "hold", "response_id", "started_at",
)  # fmt: skip
FLAGS = ("byok", "batch")
ENVELOPE = ("id", "source", "time")
FIELDS = (*ENVELOPE, *TEXTS, *COUNTS, *FLAGS)
_TRUE, _FALSE = frozenset({"true", "yes", "1", "t"}), frozenset({"false", "no", "0", "f", ""})
_COMMA = re.compile(r"-?[\d.]*,\d+")
_encode = msgspec.json.Encoder().encode


class TableError(ValueError):
    """A file that can't be read as a table; nothing of it was recorded."""


class Columns(NamedTuple):
    """The place of each field's column, and how many columns a row has."""

    places: dict[str, int]
    width: int


def columns_of(header: bytes, mapping: Mapping[str, str]) -> Columns:
    """The columns of a file, from its first line. `mapping`: field → column; a field that it does not name has
    the column of its own name, if there is one; `tag.NAME` is a tag. Raises TableError."""
    if header.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise TableError("begins with a byte order mark: save it as plain UTF-8")
    try:
        text = header.decode()
    except UnicodeDecodeError:
        raise TableError("is not UTF-8 text") from None
    if ";" in text and "," not in text:
        raise TableError("is separated by semicolons: save it with commas, and amounts with points")
    try:
        names = [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error as error:  # as of lines that end in a carriage return alone
        raise TableError(f"line 1: {error}") from None
    wanted = {name: name for name in FIELDS if name in names} | dict(mapping)
    for field, column in wanted.items():
        if field not in FIELDS and not field.startswith("tag."):
            raise TableError(f"{field!r} is not a field of usage: {', '.join(FIELDS)}, tag.NAME")
        if names.count(column) != 1:
            raise TableError(f"there {'is no' if column not in names else 'are several'} column {column!r}, which is to be {field}")
    for field in ("id", "time", "key"):
        if field not in wanted:
            raise TableError(f"no column is the {field}: say which with --map {field}=COLUMN; the columns are {', '.join(names)}")
    return Columns({field: names.index(column) for field, column in wanted.items()}, len(names))


def rows_of(lines: Iterable[str], columns: Columns, org: str, source: str) -> Iterator[tuple[int, RecordUsage | Rejected]]:
    """Usage with its line number (the header is line 1). `lines` come after the header. Raises TableError for broken quoting."""
    reader = csv.reader(lines, strict=True)
    while True:
        begins = reader.line_num + 2
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TableError(f"line {begins}: {error}; nothing was read from there on") from None
        if row:
            yield reader.line_num + 1, _event(row, columns, org, source)


def _event(row: list[str], columns: Columns, org: str, source: str) -> RecordUsage | Rejected:
    places, width = columns
    if len(row) <= max(places.values()):
        return Rejected(detail="has fewer columns than the first line")
    if any(row[width:]):  # as 0,25 has, which would be read as 0
        return Rejected(detail="has more columns than the first line: quote what has a comma, and write amounts with a point")
    said = {field: row[place].strip() for field, place in places.items() if row[place].strip()}
    try:
        data = _data(said)
    except Refused as error:
        return Rejected(detail=str(error), field=error.field, source=said.get("source", source), event_id=said.get("id"))
    event = {
        "specversion": "1.0", "type": USAGE_TYPE, "source": said.get("source", source), "id": said.get("id", ""),
        "time": said.get("time", ""), "data": data,
    }  # fmt: skip
    return parse_usage(_encode(event), org)


def _data(said: Mapping[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for field, text in said.items():
        if field in COUNTS:
            data[field] = count_of(field, text)
        elif field in FLAGS:
            if text.lower() not in _TRUE | _FALSE:
                raise Refused(field, "is neither true nor false")
            data[field] = text.lower() in _TRUE
        elif field.startswith("tag."):
            data.setdefault("tags", {})[field[4:]] = text
        elif field in TEXTS:
            if field.endswith("_usd") and _COMMA.fullmatch(text):
                raise Refused(field, "has a decimal comma: write amounts with a point")
            data[field] = text
    return data
