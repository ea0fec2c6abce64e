"""Owns LiteLLM, both directions: its callback read as usage; a proxy's keys blocked, unblocked and deleted; its account read.

The callback is `StandardLoggingPayload` as an array, lines, or one object. Messages, response and parameters ride along; they
are skipped while decoding (S7). Fields that a later version adds are ignored; a secondary one of another type is read where it
is plain and else left out, since its call has cost money all the same. What LiteLLM calls cost 0 where it knows no price is
unpriced here (M4).

Keys are commanded by their hash. There is no change mark that only people move: `updated_at` moves with every call's spend. So
a key that was blocked before we came is not ours to unblock, and one that we blocked is; a person who blocks it again after that
is not told apart (K2).
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import msgspec

from ..core.backstop import Backstop
from ..core.commands import RecordUsage, Rejected, Usage
from ..core.connections import Connection
from ..core.money import Nanos, usd_text
from ..core.window import Period
from ..wire.fields import MOST_COUNT, MOST_ID, Refused, amount_of, count_of, instant_of, moment_of, name_of, plain_of, word_of
from ..wire.otlp import KEYLESS
from ..wire.usage import MAX_EVENTS, EnvelopeError, identity
from .account import DAY_S, Spent, nanos, own_limit
from .calling import JSON, Answer, Caller
from .gateway import GatewayKey, GatewayRefused, GatewayUnavailable

BLOCKED = "blocked"
MOST_TAGS = 32
_ABSENT = msgspec.Raw()
_DURATIONS = {None: Period.LIFETIME, "1h": Period.HOUR, "1d": Period.DAY, "7d": Period.WEEK, "30d": Period.MONTH}
_HASH = re.compile(r"[0-9a-f]{64}")
Part = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)] | None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: Part = None
    reasoning_tokens: Part = None
    audio_tokens: Part = None


class _Tokens(msgspec.Struct, gc=False):
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cache_read_input_tokens: Part = None
    cache_creation_input_tokens: Part = None


class _Metadata(msgspec.Struct, gc=False):
    user_api_key_hash: Any = None
    user_api_key_alias: Any = None
    user_api_key_org_id: Any = None
    user_api_key_team_id: Any = None
    user_api_key_team_alias: Any = None
    user_api_key_user_id: Any = None
    user_api_key_end_user_id: Any = None
    spend_logs_metadata: Any = None
    usage_object: msgspec.Raw = _ABSENT


class _Named(msgspec.Struct, gc=False, kw_only=True):
    id: Any = None
    litellm_call_id: Any = None


class _Payload(_Named, gc=False, kw_only=True):
    trace_id: Any = None
    call_type: Any = None
    status: Any = None
    response_cost: msgspec.Raw = _ABSENT
    response_cost_failure_debug_info: msgspec.Raw = _ABSENT
    cost_breakdown: msgspec.Raw = _ABSENT
    prompt_tokens: msgspec.Raw = _ABSENT
    completion_tokens: msgspec.Raw = _ABSENT
    startTime: msgspec.Raw = _ABSENT
    endTime: msgspec.Raw = _ABSENT
    model: str | None = None
    model_id: Any = None
    custom_llm_provider: Any = None
    cache_hit: Any = None
    request_tags: Any = None
    end_user: Any = None
    metadata: _Metadata | None = None


_decode = msgspec.json.Decoder(_Payload).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_tokens = msgspec.json.Decoder(_Tokens).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split_litellm(body: bytes) -> list[bytes]:
    """The payloads of a body that says nothing of its form: an array, one object, or one a line. Raises EnvelopeError."""
    try:
        items = [bytes(item) for item in _decode_array(body)] if body.lstrip()[:1] == b"[" else _objects(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EnvelopeError("the body is not JSON: an array of payloads, one payload, or one a line") from None
    if len(items) > MAX_EVENTS:
        raise EnvelopeError(f"{len(items)} payloads in one body: send at most {MAX_EVENTS}")
    return items


def _objects(body: bytes) -> list[bytes]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) < 2:
        _decode_raw(body)
        return lines
    try:
        _decode_raw(body)
    except msgspec.DecodeError:
        return lines
    return [body]


def parse_litellm(body: bytes, org: str, connection: Connection) -> list[RecordUsage | Rejected]:
    """The calls in one delivery, in order. Raises EnvelopeError."""
    return [parse_payload(item, org, connection) for item in split_litellm(body)]


def parse_payload(item: bytes, org: str, connection: Connection) -> RecordUsage | Rejected:
    """One call. A payload that can't be read is Rejected."""
    source = f"connection/{connection.connection_id}"
    try:
        payload = _decode(item)
        return _command(payload, org, source, _identity(payload), connection)
    except Refused as error:
        return Rejected(detail=str(error), field=error.field, source=source, event_id=_own_id(item))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        place = str(error).partition("`$.")[2].partition("`")[0]
        detail = f"{place}: is not what LiteLLM sends there" if place else "is not JSON"
        return Rejected(detail=detail, field=place or None, source=source, event_id=_own_id(item))


def _own_id(item: bytes) -> str | None:
    """What LiteLLM calls a payload that is rejected, for its sender to find it by."""
    try:
        named = _decode_named(item)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return word_of(named.id) or word_of(named.litellm_call_id)


def _number(raw: msgspec.Raw) -> str | None:
    """A number by its digits, also where it comes as text."""
    text = str(raw, "utf-8")
    return None if text in ("", "null") else text.strip('"')


def _identity(payload: _Payload) -> str:
    """Retries and fallbacks share a call's id, and a client may set it: what tells them apart is taken in."""
    call, own, *more = map(plain_of, (payload.litellm_call_id, payload.id, payload.model_id, payload.status))
    if not call and not own:
        raise Refused("id", "is missing: without it a call sent again could not be told")
    return blake2b("\0".join(part or "" for part in (call, own, *more, _number(payload.startTime))).encode(), digest_size=16).hexdigest()


def _cost(payload: _Payload) -> tuple[Nanos | None, str | None]:
    cost, text = amount_of("response_cost", _number(payload.response_cost))
    if payload.cache_hit in (True, "True", "true"):
        return Nanos(0), "0"
    if _number(payload.response_cost_failure_debug_info) is not None and not cost:
        return None, None
    counted = {_number(payload.prompt_tokens), _number(payload.completion_tokens)} - {None, "0"}
    if cost == 0 and counted and _number(payload.cost_breakdown) is None and payload.status == "success":
        return None, None
    return cost, text


def _tokens(payload: _Payload) -> _Tokens:
    """The classes inside the totals, as far as the provider told them; its shape is the provider's, so oddities are ignored."""
    raw = payload.metadata.usage_object if payload.metadata is not None else _ABSENT
    try:
        return _decode_tokens(raw) if _number(raw) is not None else _Tokens()
    except (msgspec.DecodeError, RecursionError):
        return _Tokens()


def _command(payload: _Payload, org: str, source: str, event_id: str, connection: Connection) -> RecordUsage:
    meta, used = payload.metadata or _Metadata(), _tokens(payload)
    cost, cost_text = _cost(payload)
    into, out = used.prompt_tokens_details or _Details(), used.completion_tokens_details or _Details()
    alias, team = plain_of(meta.user_api_key_alias), plain_of(meta.user_api_key_team_id)
    owner = plain_of(meta.user_api_key_hash) or alias or KEYLESS
    mapped = connection.keys.get(owner) or connection.keys.get(alias or "", owner)
    home = connection.workspaces.get(team or "") or connection.workspaces.get(plain_of(meta.user_api_key_team_alias) or "", team)
    usage = Usage(
        org=org, key=name_of("metadata.user_api_key_hash", mapped, MOST_ID) or KEYLESS,
        workspace=word_of(home, MOST_ID), model=name_of("model", payload.model), provider=word_of(payload.custom_llm_provider),
        input_tokens=count_of("prompt_tokens", _number(payload.prompt_tokens)),
        cached_input_tokens=count_of("cached_tokens", into.cached_tokens or used.cache_read_input_tokens),
        cache_write_tokens=count_of("cache_creation_input_tokens", used.cache_creation_input_tokens),
        output_tokens=count_of("completion_tokens", _number(payload.completion_tokens)),
        reasoning_tokens=count_of("reasoning_tokens", out.reasoning_tokens), audio_tokens=count_of("audio_tokens", into.audio_tokens),
        batch="batch" in (plain_of(payload.call_type) or ""), member=word_of(meta.user_api_key_user_id),
        end_user=word_of(payload.end_user) or word_of(meta.user_api_key_end_user_id), session=word_of(payload.trace_id),
        tags=_tags(payload, meta), response_id=word_of(payload.id) if payload.status == "success" else None,
        started_us=moment_of("startTime", _number(payload.startTime), 0),
    )  # fmt: skip
    return RecordUsage(
        source=name_of("source", source, 512) or "", event_id=event_id, digest=identity(org, source, event_id),
        time_us=instant_of("endTime", _number(payload.endTime), 0), cost=cost, cost_text=cost_text, upstream=None, upstream_text=None,
        usage=usage,
    )  # fmt: skip


def _tags(payload: _Payload, meta: _Metadata) -> dict[str, str] | None:
    """The request's tags, and what its caller noted for the spend logs; what is not a short word or number is left out."""
    asked = payload.request_tags if isinstance(payload.request_tags, list) else [payload.request_tags]
    noted = meta.spend_logs_metadata if isinstance(meta.spend_logs_metadata, dict) else {}
    said: dict[Any, Any] = {plain_of(tag): "true" for tag in asked} | noted
    said |= {"litellm_org": meta.user_api_key_org_id, "key_alias": meta.user_api_key_alias}
    tags: dict[str, str] = {}
    for name, value in said.items():
        name, text = word_of(name, MOST_ID), str(value) if isinstance(value, bool) else word_of(value)
        if name and text and len(tags) < MOST_TAGS:
            tags[name] = text
    return tags or None


class _Info(msgspec.Struct):
    blocked: bool | None = None
    max_budget: Decimal | None = None
    budget_duration: str | None = None

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
        if not _HASH.fullmatch(credential):
            return None
        answer = await self._caller.ask("GET", f"/key/info?key={quote(credential, safe='')}")
        if answer.status == 404:
            return None
        info = answer.done().read(_Answer).info
        return GatewayKey("paused", BLOCKED, info.own()) if info.blocked else GatewayKey("active", None, info.own())

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._block(credential, "block", True)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._block(credential, "unblock", False)

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

    async def _block(self, credential: str, verb: str, blocked: bool) -> GatewayKey:
        said = (await self._caller.ask("POST", f"/key/{verb}", {"key": credential})).done().read(_Info)
        done = blocked if said.blocked is None else said.blocked
        return GatewayKey("paused", BLOCKED) if done else GatewayKey("active", None)


class _Log(msgspec.Struct):
    api_key: str = ""
    spend: Decimal | None = None
    startTime: str | None = None
    endTime: str | None = None


async def litellm_spent(caller: Caller, first_day: int, last_day: int) -> Spent:
    """Spend by key and UTC day, from the proxy's own log of every call."""
    spent: Spent = {}
    start, end = (datetime.fromtimestamp(day * DAY_S, UTC).date().isoformat() for day in (first_day, last_day + 1))
    asked = {"start_date": start, "end_date": end, "summarize": "false"}
    logs = (await caller.ask("GET", f"/spend/logs?{urlencode(asked)}")).done().read(list[_Log])
    for log in logs:
        day = _day(log)
        if day is not None and first_day <= day <= last_day:
            place = (log.api_key or "unknown", day)
            spent[place] = spent.get(place, 0) + (nanos(log.spend) or 0)
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
