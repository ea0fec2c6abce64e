"""Owns how ids, amounts, times and versions are read from a request. Ids are the caller's own strings: percent-decoded once,
secrets in them replaced (S2)."""

import base64
import binascii
import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Header, Path, Query, Request
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from ..core.money import MAX_AMOUNT_NANOS, AmountError, parse_usd
from ..core.window import day_number
from ..wire.fields import can_be_kept
from ..wire.secrets import redact
from ..wire.times import parse_moment
from .problems import Problem

MOST_LISTED = 1000
MOST_NAMED = 64  # characters of a parameter that is not known


def checked_id(text: str) -> str:
    """An id within its bounds (S1, T4), secrets replaced: whatever usage may name can be asked for."""
    return redact(_held(text, 128))


def _held(text: str, most: int) -> str:
    """Text that is not empty, not too long, and that the databases can hold."""
    if not 1 <= len(text) <= most:
        raise ValueError(f"is not 1 to {most} characters")
    if not can_be_kept(text):
        raise ValueError("contains a NUL or half a surrogate pair")
    return text


def _from_path(text: str) -> str:
    try:
        return checked_id(unquote(text, errors="strict"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None


Id = Annotated[str, AfterValidator(checked_id)]
CapId = Annotated[str, AfterValidator(lambda text: _held(text, 512))]  # those that guardrails make hold two ids
PathId = Annotated[str, Path(description="percent-encoded"), AfterValidator(_from_path)]
OrgId = PathId
CommandId = Annotated[str, Path(description="percent-encoded"), AfterValidator(lambda text: _held(unquote(text), 1_000))]  # holds ids


def checked_scope(text: str) -> str:
    """`org`, `workspace:ID` or `key:ID`."""
    kind, colon, subject = text.partition(":")
    if text == "org":
        return text
    if kind not in ("workspace", "key") or not colon:
        raise ValueError("is not org, workspace:ID or key:ID")
    return f"{kind}:{checked_id(subject)}"


Scope = Annotated[str, AfterValidator(checked_scope)]


def read_usd(value: Any) -> int:
    """An amount in US dollars, not below zero, to nano-USD. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError("is not an amount: send decimal text in US dollars")
    try:
        return parse_usd(str(value), MAX_AMOUNT_NANOS)
    except AmountError as error:
        raise ValueError(str(error)) from None


def _limit(value: Any) -> int:
    """A limit; one that is not zero stays so: a limit of zero means that nothing may be spent (C1)."""
    nanos = read_usd(value)
    if not nanos and Decimal(str(value)):
        raise ValueError("is less than a limit can be, 0.000000001 dollars, and not 0")
    return nanos


_USD = WithJsonSchema(
    {"type": "string", "description": "US dollars, decimal text; a JSON number is read by its digits", "example": "10.00"}
)
Usd = Annotated[int, BeforeValidator(read_usd), _USD]
LimitUsd = Annotated[int, BeforeValidator(_limit), _USD]


def _moment(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("is not a time")
    return parse_moment(value.replace(" ", "+"))  # a plus sign that arrived as a space


Moment = Annotated[int, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]


def _day(value: Any) -> int:
    try:
        day = date.fromisoformat(value) if isinstance(value, str) and len(value) == 10 else None
    except ValueError:
        day = None
    if day is None:
        raise ValueError("is not a date, such as 2026-03-08")
    if not 2000 <= day.year < 9000:
        raise ValueError("is not between the years 2000 and 9000")
    return day_number(day)


Day = Annotated[int, BeforeValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED, description="how many at most")]
Cursor = Annotated[str | None, Query(description="from the answer before, for what comes after it")]


def encode_cursor(place: Any) -> str:
    """Where a list goes on, as opaque text."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, shape: type | tuple[type, ...]) -> Any:
    """What `encode_cursor` was given; None for no cursor. Raises Problem 422."""
    if cursor is None:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        place = ...
    parts, shapes = (place, shape) if isinstance(shape, tuple) else ([place], (shape,))
    if not isinstance(parts, list) or len(parts) != len(shapes) or not all(map(_is_place, parts, shapes)):
        raise Problem(422, "cursor: is not one that this list gave out", "cursor")
    return place


def _is_place(part: Any, shape: type) -> bool:
    if type(part) is not shape:
        return False
    return abs(part) < 2**63 if shape is int else can_be_kept(part)


def version_of(
    if_match: Annotated[str | None, Header(description='the ETag that the change is based on, such as "17"')] = None,
    if_none_match: Annotated[str | None, Header(description="* to make it only if it is not there yet")] = None,
) -> int | None:
    """The version that an order is based on: None any, 0 none yet."""
    if if_none_match == "*":
        return 0
    if if_match is None or if_match == "*":
        return None
    tag = if_match.strip().removeprefix("W/").strip('"')
    if not (tag.isascii() and tag.isdigit()) or len(tag) > 18:
        raise Problem(412, "If-Match: is not an ETag of this thing", "If-Match")
    return int(tag)


async def _known_query(request: Request) -> None:
    """A misspelt parameter would be passed over, and another question answered than was asked. Waits for nothing, but what is not
    `async` would be run in a thread of its own."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            which = f"which knows {', '.join(known)}" if known else "which takes none"
            raise Problem(422, f"{name[:MOST_NAMED]}: is not a parameter of this call, {which}", name[:MOST_NAMED])


KNOWN_QUERY = Depends(_known_query)
