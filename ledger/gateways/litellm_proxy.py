"""Owns a LiteLLM proxy's keys, blocked, unblocked and deleted, and its log of every call, read as its account.

Keys are commanded by their hash. What tells a person's change is `settings_updated_at`: `updated_at` moves with every call's
spend. Proxies from before August 2026 have no such mark: there, a key that was blocked before we came is not ours to unblock, and
one that we blocked is; a person who blocks it again after that is not told apart (K2).

The log is read by pages: the whole of it, in one answer, is cut after ten thousand calls by newer proxies, and holds what was
said. Older ones have no pages and do not cut.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from ..core.backstop import Backstop
from ..core.connections import is_hash
from ..core.money import usd_text
from ..core.window import Period
from .account import DAY_S, Spent, nanos, own_limit
from .calling import JSON, Answer, Caller
from .gateway import GatewayKey, GatewayRefused, GatewayUnavailable

BLOCKED = "blocked"
PAGE = 1_000  # the most that a proxy gives
LONGEST = timedelta(hours=1)  # the log is asked for by when a call began, and a call counts on the day it ended
_NO_PAGES = (404, 422)
_DURATIONS = {None: Period.LIFETIME, "1h": Period.HOUR, "1d": Period.DAY, "7d": Period.WEEK, "30d": Period.MONTH}


class _Info(msgspec.Struct):
    blocked: bool | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    settings_updated_at: Any = None
    status: Any = None

    def mark(self) -> str:
        """As of when the key is blocked, if it tells: one call says the same moment with a `Z`, another with its offset."""
        try:
            moment = datetime.fromisoformat(self.settings_updated_at)
            return f"{BLOCKED} {(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()}"
        except (TypeError, ValueError, OverflowError):  # the last for a moment that is before all time in UTC
            return BLOCKED

    def own(self) -> Backstop | None:
        period = _DURATIONS.get(self.budget_duration)
        return None if period is None else own_limit(self.max_budget, period)


class _Answer(msgspec.Struct):
    info: _Info


class LiteLLM:
    """One LiteLLM proxy."""

    reads = True
    periods = tuple(_DURATIONS.values())

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.aclose = caller.aclose

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """See `Gateway.read`."""
        if not is_hash(credential):
            return None
        answer = await self._info(credential)
        if answer.status == 404:
            return None
        info = answer.done().read(_Answer).info
        if info.status == "deleted":  # newer proxies go on telling what they have archived
            return None
        return GatewayKey("paused", info.mark(), info.own()) if info.blocked else GatewayKey("active", None, info.own())

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._block(credential, "block")

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._block(credential, "unblock")

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`. A key that is not there any more is what was wanted."""
        answer: Answer = await self._caller.ask("POST", "/key/delete", {"keys": [credential]})
        if answer.status != 404:
            answer.done()
        return GatewayKey("revoked", None)

    async def keep(self, credential: str, backstop: Backstop) -> None:
        """See `Gateway.keep`. Its windows begin at midnight in the proxy's time zone, its months on the first."""
        if not backstop.limit:
            raise GatewayRefused("a limit of nothing is no limit to LiteLLM: it was not set")
        duration = next(name for name, period in _DURATIONS.items() if period is backstop.period)
        limit = {"key": credential, "max_budget": msgspec.Raw(usd_text(backstop.limit).encode()), "budget_duration": duration}
        (await self._caller.ask("POST", "/key/update", raw=msgspec.json.encode(limit), more=JSON)).done()

    async def _block(self, credential: str, verb: str) -> GatewayKey:
        said = (await self._caller.ask("POST", f"/key/{verb}", {"key": credential})).done().read(_Info)
        if said.blocked is None:  # it has not said what it did, nor since when
            said = (await self._info(credential)).done().read(_Answer).info
        return GatewayKey("paused", said.mark()) if said.blocked else GatewayKey("active", None)

    async def _info(self, credential: str) -> Answer:
        return await self._caller.ask("GET", f"/key/info?key={quote(credential, safe='')}")


class _Log(msgspec.Struct):
    request_id: str | None = None
    api_key: str = ""
    spend: Decimal | None = None
    startTime: str | None = None
    endTime: str | None = None


class _Page(msgspec.Struct):
    data: list[_Log]


async def litellm_spent(caller: Caller, first_day: int, last_day: int) -> Spent:
    """Spend by key and UTC day. What cost nothing is left out: keys that were turned away are in the log, and not in our books."""
    spent: Spent = {}
    begin, end = (datetime.fromtimestamp(day * DAY_S, UTC) for day in (first_day, last_day + 1))
    async for log in _logs(caller, begin - LONGEST, end):
        day, cost = _day(log), nanos(log.spend)
        if day is not None and first_day <= day <= last_day and cost:
            place = (log.api_key or "unknown", day)
            spent[place] = spent.get(place, 0) + cost
    return spent


async def _logs(caller: Caller, begin: datetime, end: datetime) -> AsyncIterator[_Log]:
    """The oldest first, so that what is logged meanwhile moves no page."""
    window = {"start_date": f"{begin:%Y-%m-%d %H:%M:%S}", "end_date": f"{end:%Y-%m-%d %H:%M:%S}", "sort_order": "asc"}
    page, full, last = 0, True, set[str | None]()
    while full:
        page += 1
        answer = await caller.ask("GET", f"/spend/logs/v2?{urlencode(window | {'page': page, 'page_size': PAGE})}")
        if page == 1 and answer.status in _NO_PAGES:
            asked = {"start_date": f"{begin:%Y-%m-%d}", "end_date": f"{end:%Y-%m-%d}", "summarize": "false"}
            for log in (await caller.ask("GET", f"/spend/logs?{urlencode(asked)}")).done().read(list[_Log]):
                yield log
            return
        logs: list[_Log] = answer.done().read(_Page).data
        for log in logs:
            if log.request_id is None or log.request_id not in last:
                yield log
        full, last = len(logs) == PAGE, {log.request_id for log in logs}


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
