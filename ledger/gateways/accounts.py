"""Owns how a gateway's account is read: OpenRouter's keys of all workspaces and its spend by key and day, LiteLLM's spend logs."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec

from ..core.matching import VendorKey
from ..core.money import MAX_AMOUNT_NANOS, AmountError, Nanos, parse_usd
from ..core.window import Period
from .calling import Caller
from .gateway import GatewayUnavailable

MOST_PAGES = 10_000
MOST_ROWS = 100_000
DAY_S = 86_400
_PERIODS = {"daily": Period.DAY, "weekly": Period.WEEK, "monthly": Period.MONTH}
_KEYS, _SPACES, _QUERY, _LOGS = "/api/v1/keys", "/api/v1/workspaces", "/api/v1/analytics/query", "/spend/logs"

Spent = dict[tuple[str, int], int]  # (credential, UTC day) → nano-USD


class _Key(msgspec.Struct):
    hash: str
    name: str = ""
    workspace_id: str | None = None
    disabled: bool = False
    limit: Decimal | None = None
    limit_remaining: Decimal | None = None
    limit_reset: str | None = None
    include_byok_in_limit: bool = False


class _Keys(msgspec.Struct):
    data: list[_Key]


class _Space(msgspec.Struct):
    id: str


class _Spaces(msgspec.Struct):
    data: list[_Space]


class _Metadata(msgspec.Struct):
    truncated: bool = False


class _Rows(msgspec.Struct):
    data: list[dict[str, Any]]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Answer(msgspec.Struct):
    data: _Rows


class _Log(msgspec.Struct):
    api_key: str = ""
    spend: Decimal | None = None
    startTime: str | None = None
    endTime: str | None = None


async def openrouter_keys(caller: Caller) -> list[VendorKey]:
    """Every key of the account, disabled ones too. The list without a workspace is the default one's only, so each is asked."""
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
    return [_vendor_key(key) for key in found.values()]


async def _workspaces(caller: Caller) -> list[str]:
    answer = await caller.ask("GET", f"{_SPACES}?{urlencode({'limit': 100})}")
    listed = [] if answer.status == 404 else [space.id for space in answer.done().read(_Spaces).data]
    return list(dict.fromkeys([*listed, *caller.connection.workspaces]))


def _vendor_key(key: _Key) -> VendorKey:
    period = _PERIODS.get(key.limit_reset or "", Period.LIFETIME)
    return VendorKey(
        credential=key.hash, name=key.name, workspace=key.workspace_id, disabled=key.disabled, limit=_nanos(key.limit),
        left=_nanos(key.limit_remaining), period=period, include_byok=key.include_byok_in_limit,
    )  # fmt: skip


def _nanos(amount: Decimal | None) -> Nanos | None:
    try:
        return None if amount is None else parse_usd(str(max(amount, Decimal(0))), MAX_AMOUNT_NANOS)
    except AmountError:
        raise GatewayUnavailable("the gateway's answer holds an amount that is none") from None


async def openrouter_spent(caller: Caller, first_day: int, last_day: int) -> Spent:
    """Spend by key and UTC day. Raises GatewayUnavailable where the answer was cut: half of it would look like a loss."""
    spent: Spent = {}
    for day in range(first_day, last_day + 1):  # a day at a time: an answer is at most one row a key
        start, end = (datetime.fromtimestamp(d * DAY_S, UTC).isoformat().replace("+00:00", "Z") for d in (day, day + 1))
        body = {
            "dimensions": ["api_key_id"], "metrics": ["total_usage"], "granularity": "day", "time_range": {"start": start, "end": end},
            "limit": MOST_ROWS,
        }  # fmt: skip
        rows = (await caller.ask("POST", _QUERY, body)).done().read(_Answer).data
        if rows.metadata.truncated:
            raise GatewayUnavailable("the gateway cut its answer: ask for fewer days or keys")
        for row in rows.data:
            place = (str(row.get("api_key_id") or "unknown"), day)
            spent[place] = spent.get(place, 0) + (_nanos(Decimal(repr(row.get("total_usage") or 0))) or 0)
    return spent


async def litellm_spent(caller: Caller, first_day: int, last_day: int) -> Spent:
    """Spend by key and UTC day, from the proxy's own log of every call."""
    spent: Spent = {}
    start, end = (datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat() for day in (first_day, last_day + 1))
    asked = {"start_date": start, "end_date": end, "summarize": "false"}
    logs = (await caller.ask("GET", f"{_LOGS}?{urlencode(asked)}")).done().read(list[_Log])
    for log in logs:
        day = _day(log)
        if day is not None and first_day <= day <= last_day:
            place = (log.api_key or "unknown", day)
            spent[place] = spent.get(place, 0) + (_nanos(log.spend) or 0)
    return spent


def _day(log: _Log) -> int | None:
    """The UTC day that a call ended on."""
    text = log.endTime or log.startTime
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise GatewayUnavailable("the gateway's answer holds a time that is none") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // DAY_S)
