"""Owns OpenRouter, both directions: its Broadcast read as usage; its keys disabled, enabled and deleted; its account read.

Broadcast is OTLP JSON, of which only the span `LLM Generation` is a call (its attempts at providers have spans too). Of the key
only its name arrives: the connection's map says whose it is. A name that the map does not have is booked under itself, as a key
that nobody declared (S3): to show, not to guess.

Keys are commanded with a management key, by their hash; `updated_at` is their change mark (K2). What is not a hash is no key
there, and is not asked for.
"""

import time
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ..core.backstop import Backstop
from ..core.commands import RecordUsage, Rejected
from ..core.connections import Connection, is_hash
from ..core.matching import VendorKey
from ..core.money import usd_text
from ..core.window import Period
from ..wire.fields import MOST_ID, Refused
from ..wire.genai import OPENROUTER, OPENROUTER_TRACE, RESPONSE, Span, first
from ..wire.otlp import KEYLESS, command_of, spans_of_json
from .account import DAY_S, Spent, nanos, own_limit
from .calling import JSON, Answer, Caller
from .gateway import GatewayKey, GatewayRefused, GatewayUnavailable

GENERATION = "LLM Generation"
NAME, MEMBERS = OPENROUTER + "api_key_name", (OPENROUTER + "creator_user_id", OPENROUTER + "entity_id")
MOST_PAGES = 10_000
MOST_ROWS = 100_000
_PERIODS = {"daily": Period.DAY, "weekly": Period.WEEK, "monthly": Period.MONTH}
_KEYS, _SPACES, _QUERY = "/api/v1/keys", "/api/v1/workspaces", "/api/v1/analytics/query"


def parse_openrouter(body: bytes, org: str, connection: Connection) -> list[RecordUsage | Rejected | None]:
    """The calls in one delivery, each in its span's place; none for a test of the connection. Raises EnvelopeError."""
    source = f"connection/{connection.connection_id}"
    found: list[RecordUsage | Rejected | None] = []
    for span in spans_of_json(body or b"{}"):
        if isinstance(span, Rejected):
            found.append(span)
        else:
            found.append(_call(span, org, source, connection) if span.name == GENERATION else None)
    return found


def _call(span: Span, org: str, source: str, connection: Connection) -> RecordUsage | Rejected:
    """The generation's id is the call's identity: a caller may set the trace id, so it is not unique."""
    generation = first(span.attributes, (RESPONSE, OPENROUTER_TRACE))
    try:
        if generation is None:
            raise Refused(RESPONSE, "is missing: without it a call sent again could not be told")
        name = _short(str(span.attributes.get(NAME) or KEYLESS))
        command = command_of(span, org, source, str(generation), connection.keys.get(name, name), first(span.attributes, MEMBERS))
    except Refused as error:
        return Rejected(detail=str(error), field=error.field, source=source, event_id=str(generation)[:512] if generation else None)
    command.usage.response_id = command.event_id
    return command


def _short(name: str) -> str:
    """A key's name as it can be an id or a credential here, the same for its usage and for the key itself."""
    return name if len(name) <= MOST_ID else f"{name[: MOST_ID - 9]}-{sha256(name.encode()).hexdigest()[:8]}"


class _Key(msgspec.Struct):
    hash: str
    disabled: bool
    name: str = ""
    updated_at: str | None = None
    workspace_id: str | None = None
    limit: Decimal | None = None
    limit_remaining: Decimal | None = None
    limit_reset: str | None = None
    usage_daily: Decimal | None = None
    include_byok_in_limit: bool = False

    def shown(self) -> GatewayKey:
        return GatewayKey("paused" if self.disabled else "active", self.updated_at, own_limit(self.limit, _period(self.limit_reset)))


def _period(limit_reset: str | None) -> Period:
    return _PERIODS.get(limit_reset or "", Period.LIFETIME)


class _OneKey(msgspec.Struct):
    data: _Key


class _Keys(msgspec.Struct):
    data: list[_Key]


class _Space(msgspec.Struct):
    id: str


class _Spaces(msgspec.Struct):
    data: list[_Space]


class _Metadata(msgspec.Struct):
    truncated: bool = False


class _Row(msgspec.Struct):
    api_key_id: str | None = None
    total_usage: Decimal | None = None  # a number or text, by its digits


class _Rows(msgspec.Struct):
    data: list[_Row]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Analytics(msgspec.Struct):
    data: _Rows


class OpenRouter:
    """One OpenRouter account."""

    reads = True
    periods = (*_PERIODS.values(), Period.LIFETIME)

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.aclose = caller.aclose

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """See `Gateway.read`."""
        if not is_hash(credential):
            return None
        answer = await self._ask("GET", credential)
        return None if answer.status == 404 else answer.done().read(_OneKey).data.shown()

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._disable(credential, True)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._disable(credential, False)

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`. A key that is not there any more is what was wanted."""
        answer = await self._ask("DELETE", credential)
        if answer.status != 404:
            answer.done()
        return GatewayKey("revoked", None)

    async def keep(self, credential: str, backstop: Backstop) -> None:
        """See `Gateway.keep`. Its days and months are UTC's, its weeks begin on Mondays."""
        resets = {period: name for name, period in _PERIODS.items()}
        limit = {"limit": msgspec.Raw(usd_text(backstop.limit).encode()), "limit_reset": resets.get(backstop.period)}
        (await self._caller.ask("PATCH", f"{_KEYS}/{quote(credential, safe='')}", raw=msgspec.json.encode(limit), more=JSON)).done()

    async def _disable(self, credential: str, disabled: bool) -> GatewayKey:
        return (await self._ask("PATCH", credential, {"disabled": disabled})).done().read(_OneKey).data.shown()

    async def _ask(self, method: str, credential: str, body: Any = None) -> Answer:
        return await self._caller.ask(method, f"{_KEYS}/{quote(credential, safe='')}", body)


async def openrouter_keys(caller: Caller) -> list[VendorKey]:
    """Every key of the account, disabled ones too."""
    return [_vendor_key(key) for key in await _keys(caller)]


async def _keys(caller: Caller) -> list[_Key]:
    """The list without a workspace is the default one's only, so each is asked."""
    found: dict[str, _Key] = {}
    for space in (None, *await _workspaces(caller)):
        offset, pages = 0, 0
        while pages < MOST_PAGES:
            asked = {"offset": offset, "include_disabled": "true"} | ({"workspace_id": space} if space else {})
            page = (await caller.ask("GET", f"{_KEYS}?{urlencode(asked)}")).done().read(_Keys).data
            news = {key.hash: key for key in page if key.hash not in found}
            if not news:
                break
            found |= news
            offset, pages = offset + len(page), pages + 1
    return list(found.values())


async def _workspaces(caller: Caller) -> list[str]:
    """Those that are listed there, page by page, and those that the connection names."""
    found: dict[str, None] = {}
    for _ in range(MOST_PAGES):
        answer = await caller.ask("GET", f"{_SPACES}?{urlencode({'limit': 100, 'offset': len(found)})}")
        page = [] if answer.status == 404 else [space.id for space in answer.done().read(_Spaces).data]
        if found.keys() >= set(page):
            break
        found |= dict.fromkeys(page)
    return list(found | dict.fromkeys(caller.connection.workspaces))


def _vendor_key(key: _Key) -> VendorKey:
    return VendorKey(
        credential=key.hash, name=_short(key.name), workspace=key.workspace_id, disabled=key.disabled, limit=nanos(key.limit),
        left=nanos(key.limit_remaining), period=_period(key.limit_reset), include_byok=key.include_byok_in_limit,
    )  # fmt: skip


async def openrouter_spent(caller: Caller, first_day: int, last_day: int) -> Spent:
    """Spend by key and UTC day, by the account's analytics; where it has none, its keys' own counters tell of today.

    Raises GatewayUnavailable where an answer was cut: half of it would look like a loss.
    """
    spent: Spent = {}
    for day in range(first_day, last_day + 1):  # a day at a time: an answer is at most one row a key
        try:
            spent |= await _analysed(caller, day)
        except GatewayRefused:
            if day != int(time.time() // DAY_S):
                raise
            spent |= {(key.hash, day): nanos(key.usage_daily) or 0 for key in await _keys(caller) if key.usage_daily}
    return spent


async def _analysed(caller: Caller, day: int) -> Spent:
    spent: Spent = {}
    start, end = (datetime.fromtimestamp(d * DAY_S, UTC).isoformat().replace("+00:00", "Z") for d in (day, day + 1))
    body = {
        "dimensions": ["api_key_id"], "metrics": ["total_usage"], "granularity": "day", "time_range": {"start": start, "end": end},
        "limit": MOST_ROWS,
    }  # fmt: skip
    rows = (await caller.ask("POST", _QUERY, body)).done().read(_Analytics).data
    if rows.metadata.truncated:
        raise GatewayUnavailable("the gateway cut its answer: ask for fewer days or keys")
    for row in rows.data:
        place = (row.api_key_id or "unknown", day)
        spent[place] = spent.get(place, 0) + (nanos(row.total_usage) or 0)
    return spent
