"""Owns LiteLLM's callback, read as usage; `litellm_proxy.py` has the other direction.

The callback is `StandardLoggingPayload` as an array, lines, or one object. Messages, response and parameters ride along; they
are skipped while decoding (S7). Fields that a later version adds are ignored; a secondary one of another type is read where it
is plain and else left out, since its call has cost money all the same. What LiteLLM calls cost 0 where it knows no price is
unpriced here (M4). What the proxy turned away itself, a blocked key's call above all, never was a call: it is left out, since
it would be taken for a leak of the key that was stopped (K6), and would register every key that anybody tries at the proxy.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Any

import msgspec

from ..core.commands import RecordUsage, Rejected, Usage
from ..core.connections import Connection
from ..core.money import Nanos
from ..wire.fields import MOST_COUNT, MOST_ID, Refused, amount_of, count_of, instant_of, moment_of, name_of, plain_of, word_of
from ..wire.identity import identity
from ..wire.otlp import KEYLESS
from ..wire.splitting import mended
from ..wire.usage import MAX_EVENTS, EnvelopeError

MOST_TAGS = 32
_ABSENT = msgspec.Raw()
Part = Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNT)] | None


class _Details(msgspec.Struct, gc=False):
    cached_tokens: Part = None
    cache_write_tokens: Part = None
    reasoning_tokens: Part = None
    audio_tokens: Part = None


class _Tokens(msgspec.Struct, gc=False):
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cache_read_input_tokens: Part = None
    cache_creation_input_tokens: Part = None
    output_image_count: Part = None


class _Price(msgspec.Struct, gc=False):
    key: Any = None
    max_tokens: Any = None
    max_input_tokens: Any = None
    input_cost_per_token: Any = None


class _Known(msgspec.Struct, gc=False):
    model_map_value: _Price | None = None


class _Error(msgspec.Struct, gc=False):
    llm_provider: Any = None


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
    session_id: Any = None
    call_type: Any = None
    status: Any = None
    response_cost: msgspec.Raw = _ABSENT
    response_cost_failure_debug_info: msgspec.Raw = _ABSENT
    cost_breakdown: msgspec.Raw = _ABSENT
    model_map_information: msgspec.Raw = _ABSENT
    error_information: msgspec.Raw = _ABSENT
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
_decode_known = msgspec.json.Decoder(_Known).decode
_decode_error = msgspec.json.Decoder(_Error).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def split_litellm(body: bytes) -> list[bytes]:
    """The payloads of a body that says nothing of its form: an array, one object, or one a line. Raises EnvelopeError."""
    try:
        items = [bytes(item) for item in _decode_array(body)] if body.lstrip()[:1] == b"[" else _objects(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if whole := mended(body):
            return split_litellm(whole)
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


def parse_litellm(body: bytes, org: str, connection: Connection) -> list[RecordUsage | Rejected | None]:
    """The calls in one delivery, each in its place. Raises EnvelopeError."""
    return [parse_payload(item, org, connection) for item in split_litellm(body)]


def parse_payload(item: bytes, org: str, connection: Connection) -> RecordUsage | Rejected | None:
    """One call; None for one that was turned away. A payload that can't be read is Rejected."""
    source = f"connection/{connection.connection_id}"
    try:
        payload = _decode(item)
        return None if _turned_away(payload) else _command(payload, org, source, _identity(payload), connection)
    except Refused as error:
        return Rejected(detail=str(error), field=error.field, source=source, event_id=_own_id(item))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if whole := mended(item):
            return parse_payload(whole, org, connection)
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
    if cost == 0 and payload.status == "success" and _counted(payload) and not _has_price(payload):
        return None, None
    return cost, text


def _counted(payload: _Payload) -> bool:
    return bool({_number(payload.prompt_tokens), _number(payload.completion_tokens)} - {None, "0"})


def _has_price(payload: _Payload) -> bool:
    """Whether a cost of 0 is a price. A model that a deployment names and LiteLLM's list does not has an entry too, of zeros; but
    one that its owner has priced stands under the deployment's own id, or has 0.0 where LiteLLM itself puts 0 for none; and the list
    knows how long its models' inputs are."""
    if _number(payload.cost_breakdown) is None:
        return False
    known = _part(_decode_known, payload.model_map_information)
    price = known.model_map_value if known is not None else None
    if known is None or price is None:
        return known is None  # a version that does not tell
    own = type(price.input_cost_per_token) is float or (price.key is not None and price.key == payload.model_id)
    return own or price.max_tokens is not None or price.max_input_tokens is not None


def _turned_away(payload: _Payload) -> bool:
    """Whether a failure cost nothing, counted nothing, and came from no provider."""
    if payload.status != "failure" or _counted(payload) or amount_of("response_cost", _number(payload.response_cost))[0]:
        return False
    error = _part(_decode_error, payload.error_information)
    return error is not None and error.llm_provider == ""


def _part(decode: Callable[[msgspec.Raw], Any], raw: msgspec.Raw) -> Any:
    """A part whose shape is not LiteLLM's own: oddities are ignored. None for none."""
    try:
        return decode(raw) if _number(raw) is not None else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _command(payload: _Payload, org: str, source: str, event_id: str, connection: Connection) -> RecordUsage:
    meta = payload.metadata or _Metadata()
    used: _Tokens = _part(_decode_tokens, meta.usage_object) or _Tokens()
    cost, cost_text = _cost(payload)
    into, out = used.prompt_tokens_details or _Details(), used.completion_tokens_details or _Details()
    alias, team = plain_of(meta.user_api_key_alias), plain_of(meta.user_api_key_team_id)
    owner = plain_of(meta.user_api_key_hash) or alias or KEYLESS
    mapped = connection.keys.get(owner) or connection.keys.get(alias or "", owner)
    home = connection.workspaces.get(team or "") or connection.workspaces.get(plain_of(meta.user_api_key_team_alias) or "", team)
    usage = Usage(
        org=org, key=name_of("metadata.user_api_key_hash", mapped, MOST_ID) or KEYLESS,
        workspace=word_of(home, MOST_ID), model=name_of("model", _model(payload)), provider=word_of(payload.custom_llm_provider),
        input_tokens=count_of("prompt_tokens", _number(payload.prompt_tokens)),
        cached_input_tokens=count_of("cached_tokens", into.cached_tokens or used.cache_read_input_tokens),
        cache_write_tokens=count_of("cache_creation_input_tokens", used.cache_creation_input_tokens or into.cache_write_tokens),
        output_tokens=count_of("completion_tokens", _number(payload.completion_tokens)),
        reasoning_tokens=count_of("reasoning_tokens", out.reasoning_tokens), audio_tokens=count_of("audio_tokens", into.audio_tokens),
        images=count_of("output_image_count", used.output_image_count),
        batch="batch" in (plain_of(payload.call_type) or ""), member=word_of(meta.user_api_key_user_id),
        end_user=word_of(payload.end_user) or word_of(meta.user_api_key_end_user_id),
        session=word_of(payload.session_id) or word_of(payload.trace_id),
        tags=_tags(payload, meta), response_id=word_of(payload.id) if payload.status == "success" else None,
        started_us=moment_of("startTime", _number(payload.startTime), 0),
    )  # fmt: skip
    return RecordUsage(
        source=name_of("source", source, 512) or "", event_id=event_id, digest=identity(org, source, event_id),
        time_us=instant_of("endTime", _number(payload.endTime), 0), cost=cost, cost_text=cost_text, upstream=None, upstream_text=None,
        usage=usage,
    )  # fmt: skip


def _model(payload: _Payload) -> str | None:
    """The model as its provider calls it: some versions put the provider before it, as the proxy's configuration does."""
    return payload.model and payload.model.removeprefix(f"{plain_of(payload.custom_llm_provider)}/")


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
