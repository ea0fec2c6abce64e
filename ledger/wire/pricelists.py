"""Owns how price lists are read: LiteLLM's JSON, and the models of `genai-prices`. Refuses a list that can't be read as a
whole; of a list that can, it leaves out single models that it would have to guess, and says why.
"""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from ..core.rates import Origin, Prices, Rate, Schedule, fault_of, provider_id, schedule_of
from ..core.window import micros

MOST_NAME = 256


class PriceListError(ValueError):
    """A list that can't be read; the card stays as it is."""


class PriceList(NamedTuple):
    """What a list says, and the models it was not taken for, with the reason."""

    rates: list[Rate]
    left_out: dict[str, str]


_LITELLM = {
    "input_cost_per_token": "input", "output_cost_per_token": "output", "cache_read_input_token_cost": "cached",
    "cache_creation_input_token_cost": "cache_write", "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio", "output_cost_per_image": "image", "input_cost_per_request": "request",
    "input_cost_per_query": "request",
}  # fmt: skip
_ABOVE = re.compile(r"(.+)_above_(\d{1,9})k_tokens")
_SEARCH, _MEDIUM = "search_context_cost_per_query", "search_context_size_medium"


def parse_litellm(text: str | bytes) -> PriceList:
    """LiteLLM's `model_prices_and_context_window.json`. Raises PriceListError."""
    try:
        models = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        raise PriceListError(f"is not JSON: {str(error)[:200]}") from None
    if not isinstance(models, dict):
        raise PriceListError("is not a JSON object of models")
    rates: list[Rate] = []
    left_out: dict[str, str] = {}
    for name, model in models.items():
        if name == "sample_spec":
            continue
        try:
            rates += _litellm_rates(name, model)
        except _LeftOut as error:
            left_out[name[:MOST_NAME]] = str(error)
    return _whole(rates, left_out)


class _LeftOut(ValueError):
    pass


def _not_a_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _whole(rates: list[Rate], left_out: dict[str, str]) -> PriceList:
    if not rates:
        reason = next((f": {name}: {why}" for name, why in left_out.items()), "")
        raise PriceListError(f"holds no price that can be used{reason}")
    return PriceList(rates, left_out)


def _litellm_rates(name: str, model: Any) -> Iterator[Rate]:
    """A model at its provider; and where its name alone means it, wherever the provider is not said."""
    if not isinstance(model, dict) or not isinstance(model.get("litellm_provider"), str):
        raise _LeftOut("is not a model with a litellm_provider")
    vendor = model["litellm_provider"]
    standard, batch = _litellm_schedule(model, ""), _litellm_schedule(model, "_batches")
    if standard is None:
        raise _LeftOut("has no price by the token, image or request")
    if batch is not None:
        batch = batch.over(standard)  # what has no batch price of its own costs the same
    own = name.removeprefix(f"{vendor}/").lower()
    _name(own)
    yield Rate(provider=provider_id(vendor), model=own, origin=Origin.LITELLM, standard=standard, batch=batch)
    if own == name.lower():
        yield Rate(provider=None, model=own, origin=Origin.LITELLM, standard=standard, batch=batch)


def _litellm_schedule(model: dict[str, Any], suffix: str) -> Schedule | None:
    base: dict[str, Decimal] = {}
    above: dict[int, dict[str, Decimal]] = {}
    for field, value in model.items():
        if not field.endswith(suffix):
            continue
        plain = field.removesuffix(suffix)
        tier = _ABOVE.fullmatch(plain)
        kind = _LITELLM.get(tier[1] if tier else plain)
        if kind is not None and value is not None:
            place = above.setdefault(int(tier[2]) * 1000, {}) if tier else base
            place.setdefault(kind, _decimal(kind, value))
    search = model.get(_SEARCH)
    if not suffix and isinstance(search, dict) and search.get(_MEDIUM) is not None:
        base["search"] = _decimal("search", search[_MEDIUM])
    return _schedule(base, above) if base else None


def _decimal(kind: str, value: Any) -> Decimal:
    try:
        if isinstance(value, Decimal) or (isinstance(value, str) and len(value) < 64):
            return Decimal(value)
    except InvalidOperation:
        pass
    raise _LeftOut(f"{kind}: is not a number")


def _name(text: str) -> None:
    if not 1 <= len(text) <= MOST_NAME or not text.isprintable():
        raise _LeftOut("its name can't be one of an event's")


def _schedule(base: dict[str, Decimal], above: dict[int, dict[str, Decimal]]) -> Schedule:
    """A schedule of prices that can stand on a card. Raises _LeftOut."""
    schedule = schedule_of(Prices(**base), {start: Prices(**prices) for start, prices in above.items()})
    for part in (schedule.base, *(tier.prices for tier in schedule.tiers)):
        if fault := fault_of(part):
            raise _LeftOut(fault)
    return schedule


_GENAI = {
    "input_mtok": ("input", 6), "output_mtok": ("output", 6), "cache_read_mtok": ("cached", 6), "cache_write_mtok": ("cache_write", 6),
    "output_reasoning_mtok": ("reasoning", 6), "input_audio_mtok": ("audio", 6), "requests_kcount": ("request", 3),
    "web_searches_kcount": ("search", 3),
}  # fmt: skip


def convert_genai(providers: Iterable[Any]) -> PriceList:
    """The providers of the `genai-prices` package. Models that it knows by a pattern are taken under their own id and every
    name that the pattern spells out. Raises PriceListError."""
    rates: list[Rate] = []
    left_out: dict[str, str] = {}
    for provider in providers:
        for model in provider.models:
            try:
                for name in dict.fromkeys([model.id.lower(), *_names(model.match)]):
                    _name(name)
                    rates += _genai_rates(provider_id(provider.id), name, model)
            except (_LeftOut, AttributeError, TypeError) as error:
                left_out[f"{provider.id}/{model.id}"] = str(error)
    return _whole(rates, left_out)


def _names(match: Any) -> list[str]:
    """The names that a pattern spells out in full."""
    if (equals := getattr(match, "equals", None)) is not None:
        return [equals.lower()]
    return [name for clause in getattr(match, "or_", ()) for name in _names(clause)]


def _genai_rates(provider: str, name: str, model: Any) -> Iterator[Rate]:
    """A model's rates, one from each date on which its standard or its batch prices change."""
    prices = model.prices if isinstance(model.prices, list) else [model]  # a model's own prices hold from the beginning
    standard = {_starts(part): part.prices for part in prices}
    batches = {
        _starts(variant): variant.prices
        for variant in getattr(model, "price_variants", None) or ()
        if variant.when == {"processing": "batch"}
    }  # fmt: skip
    for start in sorted({*standard, *batches}):
        then = _newest(standard, start)
        if then is None:
            continue
        less = _newest(batches, start)
        yield Rate(
            provider=provider, model=name, origin=Origin.GENAI_PRICES, standard=_genai_schedule(then),
            batch=None if less is None else _genai_schedule(then, less), starts_us=start,
        )  # fmt: skip


def _newest(dated: dict[int, Any], start: int) -> Any:
    return next((dated[at] for at in sorted(dated, reverse=True) if at <= start), None)


def _starts(part: Any) -> int:
    constraint = getattr(part, "constraint", None)
    if constraint is None:
        return 0
    if (day := getattr(constraint, "start_date", None)) is None:
        raise _LeftOut("its price depends on the time of day")
    return micros(datetime.combine(day, time(), UTC))


def _genai_schedule(*layers: Any) -> Schedule:
    """Prices of several layers, a later one in the place of an earlier; each of them one number or in tiers."""
    base: dict[str, Decimal] = {}
    above: dict[int, dict[str, Decimal]] = {}
    for layer in layers:
        for field, value in vars(layer).items():
            kind, digits = _GENAI.get(field, ("", 0))
            if not kind or value is None:
                continue
            for tier in above.values():
                tier.pop(kind, None)
            base[kind] = getattr(value, "base", value).scaleb(-digits)
            for tier in getattr(value, "tiers", ()):
                above.setdefault(tier.start, {})[kind] = tier.price.scaleb(-digits)
    if not base:
        raise _LeftOut("has no price by the token, request or search")
    return _schedule(base, {start: prices for start, prices in above.items() if prices})
