"""Owns the rate card: dated prices per provider and model, and what a call costs by them (M3). It guesses no price: a class
that was used and has none makes the call unpriced (M4).

A price is a Decimal of dollars for one token, image, request or search, finer than a nano. Cached and cache-write and audio
tokens are inside input, reasoning inside output: each class prices its own part, input and output price what remains; a part
whose class has no price of its own stays in the remainder. The sum is exact, and rounded once (M2).
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from .commands import Command, RecordUsage, Usage
from .money import MAX_EVENT_NANOS, Nanos

FINEST = 24  # decimals of a price; finer is no price that anybody charges
HIGHEST = Decimal(10_000)  # dollars for one of anything
MOST_REMEMBERED = 20_000


BY_THE_PIECE = ("image", "request", "search")  # the other classes are tokens


class Origin(StrEnum):
    """Who says a rate, in order of precedence."""

    OPERATOR = "operator"
    GENAI_PRICES = "genai-prices"
    LITELLM = "litellm"


class Prices(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars for one of each class; None: no price of its own."""

    input: Decimal | None = None
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    output: Decimal | None = None
    reasoning: Decimal | None = None
    audio: Decimal | None = None
    image: Decimal | None = None
    request: Decimal | None = None
    search: Decimal | None = None

    def over(self, base: "Prices") -> "Prices":
        """These prices, and the base's where there is none here."""
        said = {name: value for name in Prices.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(base, **said)


class Tier(msgspec.Struct, frozen=True):
    """Prices of the whole call where it has more input tokens than `above`."""

    above: int
    prices: Prices


class Schedule(msgspec.Struct, frozen=True):
    """The prices of a call, by its length. `tiers` ascend."""

    base: Prices
    tiers: tuple[Tier, ...] = ()

    def prices_for(self, input_tokens: int) -> Prices:
        """The prices that a call of this many input tokens has."""
        for tier in reversed(self.tiers):
            if input_tokens > tier.above:
                return tier.prices
        return self.base

    def over(self, base: "Schedule") -> "Schedule":
        """These prices, and the base's where there is none here, of a call of any length."""
        bounds = sorted({tier.above for tier in (*base.tiers, *self.tiers)})
        tiers = (Tier(above, self.prices_for(above + 1).over(base.prices_for(above + 1))) for above in bounds)
        return Schedule(self.base.over(base.base), tuple(tiers))


def schedule_of(base: Prices, above: Mapping[int, Prices]) -> Schedule:
    """A schedule whose tiers, by where they begin, say only what differs from the one before."""
    tiers: list[Tier] = []
    for start in sorted(above):
        tiers.append(Tier(start, above[start].over(tiers[-1].prices if tiers else base)))
    return Schedule(base, tuple(tiers))


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What one model costs at one provider from an instant on.

    Attributes:
      provider: in lower case; None for a rate of the model wherever it runs. model: in lower case.
      starts_us: a call that ended before has another rate. 0: from the beginning.
      batch: what a batch call costs; None: not known.
      version: of the card that first had it.
    """

    provider: str | None
    model: str
    origin: Origin
    standard: Schedule
    batch: Schedule | None = None
    starts_us: int = 0
    version: int = 0


def fault_of(prices: Prices) -> str | None:
    """Why prices can't stand on a card, naming the class; None if they can. Zero is a price."""
    if prices == Prices():
        return "there is no price in it"
    for name in Prices.__struct_fields__:
        price: Decimal | None = getattr(prices, name)
        if price is None:
            continue
        if not price.is_finite():
            return f"{name}: is not a number"
        if price < 0:
            return f"{name}: is negative"
        if price > HIGHEST or (price and price.adjusted() < -FINEST) or _decimals(price) > FINEST or price.normalize() != price:
            return f"{name}: is no price for one: over {HIGHEST} dollars, or finer than {FINEST} decimals"
    return None


def _decimals(price: Decimal) -> int:
    """Without zeros at the end, in what is left of 28 digits."""
    return -int(price.normalize().as_tuple().exponent)


class _Scaled(msgspec.Struct, frozen=True, gc=False):
    """Prices as integers of one unit, `per_nano` of which are a nano-USD: exact, and quick to multiply."""

    per_nano: int
    input: int | None
    cached: int | None
    cache_write: int | None
    output: int | None
    reasoning: int | None
    audio: int | None
    image: int | None
    request: int | None
    search: int | None


def _scaled(prices: Prices) -> _Scaled:
    values: list[Decimal | None] = [getattr(prices, name) for name in Prices.__struct_fields__]
    digits = max([9, *(_decimals(value) for value in values if value is not None)])
    return _Scaled(10 ** (digits - 9), *(None if value is None else int(value.scaleb(digits)) for value in values))


def cost_of(prices: Prices, usage: Usage) -> Nanos | None:
    """What a call costs by these prices; None where something that was used has no price (M4)."""
    return _cost(_scaled(prices), usage)


def _cost(p: _Scaled, usage: Usage) -> Nanos | None:
    """See `cost_of`. Written out, not looped: every event of every batch comes by here."""
    incoming, outgoing, audio = usage.input_tokens, usage.output_tokens, usage.audio_tokens
    if p.request is None and not (incoming or outgoing or audio or usage.images or usage.searches):
        return None
    if audio > incoming and p.audio is None:
        return None
    total = p.request or 0
    if usage.cached_input_tokens and p.cached is not None:
        total += usage.cached_input_tokens * p.cached
        incoming -= usage.cached_input_tokens
    if usage.cache_write_tokens and p.cache_write is not None:
        total += usage.cache_write_tokens * p.cache_write
        incoming -= usage.cache_write_tokens
    if audio and p.audio is not None:
        total += audio * p.audio
        incoming -= audio
    if usage.reasoning_tokens and p.reasoning is not None:
        total += usage.reasoning_tokens * p.reasoning
        outgoing -= usage.reasoning_tokens
    if incoming > 0:
        if p.input is None:
            return None
        total += incoming * p.input
    if outgoing > 0:
        if p.output is None:
            return None
        total += outgoing * p.output
    if usage.searches or usage.images:
        extras = _extras(p, usage)
        if extras is None:
            return None
        total += extras
    return _rounded(total, p.per_nano)


def _extras(p: _Scaled, usage: Usage) -> int | None:
    if usage.searches and p.search is None:
        return None
    if usage.images and p.image is None and not (usage.input_tokens or usage.output_tokens):  # else they are inside the tokens
        return None
    return usage.searches * (p.search or 0) + usage.images * (p.image or 0)


def _rounded(total: int, per_nano: int) -> Nanos | None:
    """Half to even (M2); None for more than one event may cost (T4)."""
    nanos, rest = divmod(total, per_nano)
    if 2 * rest > per_nano or (2 * rest == per_nano and nanos & 1):
        nanos += 1
    return Nanos(nanos) if nanos <= MAX_EVENT_NANOS else None


# What OpenTelemetry and gateways call providers that the price lists know by another name.
_ALIASES = {
    "aws.bedrock": "aws", "bedrock": "aws", "bedrock_converse": "aws", "amazon bedrock": "aws", "amazon-bedrock": "aws",
    "azure.ai.openai": "azure", "azure.ai.inference": "azure", "azure_ai": "azure", "az.ai.openai": "azure",
    "azure-openai": "azure", "togetherai": "together",
    "gcp.gemini": "google", "gcp.vertex_ai": "google", "gcp.gen_ai": "google", "vertex_ai": "google", "gemini": "google",
    "google vertex": "google", "google ai studio": "google", "google-vertex": "google", "google-ai-studio": "google",
    "x_ai": "x-ai", "xai": "x-ai", "mistral_ai": "mistral", "moonshot_ai": "moonshotai", "moonshot": "moonshotai",
    "together_ai": "together", "fireworks_ai": "fireworks",
}  # fmt: skip


def provider_id(name: str) -> str:
    """A provider's name as the card has it."""
    small = name.lower()
    return _ALIASES.get(small, small)


def names_of(provider: str | None, model: str) -> list[tuple[str | None, str]]:
    """The names under which a call's rate is looked for, nearest first; `vendor/model` with no provider means the vendor's own."""
    small = model.lower()
    vendor, slash, rest = small.partition("/")
    if provider is None:
        return [(None, small), *([(provider_id(vendor), rest)] if slash else [])]
    host = provider_id(provider)
    own = [(host, rest)] if slash and provider_id(vendor) == host else []
    return [(host, small), *own, (None, small)]


class _Dated(msgspec.Struct, frozen=True, gc=False):
    starts_us: int
    rate: Rate
    standard: tuple[tuple[int, _Scaled], ...]
    batch: tuple[tuple[int, _Scaled], ...] | None


def _lengths(schedule: Schedule) -> tuple[tuple[int, _Scaled], ...]:
    """(above how many input tokens, prices), longest first; the last holds for every length."""
    tiers = [(tier.above, _scaled(tier.prices)) for tier in reversed(schedule.tiers)]
    return (*tiers, (-1, _scaled(schedule.base)))


class Card:
    """One version of the rate card, made for looking up."""

    def __init__(self, version: int, rates: Iterable[Rate]) -> None:
        self.version = version
        self._rates: dict[tuple[Origin, str | None, str], list[_Dated]] = {}
        self._chains: dict[tuple[str | None, str | None], tuple[list[_Dated], ...]] = {}
        for rate in sorted(rates, key=lambda rate: -rate.starts_us):
            batch = None if rate.batch is None else _lengths(rate.batch)
            dated = _Dated(rate.starts_us, rate, _lengths(rate.standard), batch)
            self._rates.setdefault((rate.origin, rate.provider, rate.model), []).append(dated)

    def apply(self, commands: Iterable[Command]) -> None:
        """Writes what the card makes of each call into its command, reported cost or not."""
        version = self.version
        for command in commands if self._rates else ():
            if isinstance(command, RecordUsage) and command.usage.model is not None:
                command.computed = self.price(command.usage, command.time_us)
                command.card = None if command.computed is None else version

    def price(self, usage: Usage, at_us: int) -> Nanos | None:
        """What a call that ended at an instant costs; None where the card can't say."""
        dated = self._find(usage.provider, usage.model, at_us)
        if dated is None:
            return None
        lengths = dated.batch if usage.batch else dated.standard
        if lengths is None:
            return None
        for above, prices in lengths:
            if usage.input_tokens > above:
                return _cost(prices, usage)
        return None

    def find(self, provider: str | None, model: str, at_us: int) -> Rate | None:
        """The rate of a model at an instant: an operator's before any list's, the nearest name first."""
        dated = self._find(provider, model, at_us)
        return None if dated is None else dated.rate

    def _find(self, provider: str | None, model: str | None, at_us: int) -> _Dated | None:
        chains = self._chains.get((provider, model))
        if chains is None:
            chains = self._chain(provider, model)
        for chain in chains:
            for dated in chain:
                if dated.starts_us <= at_us:
                    return dated
        return None

    def _chain(self, provider: str | None, model: str | None) -> tuple[list[_Dated], ...]:
        names = [] if model is None else names_of(provider, model)
        places = [(origin, *name) for origin in Origin for name in names]
        chains = tuple(self._rates[place] for place in places if place in self._rates)
        if len(self._chains) >= MOST_REMEMBERED:  # names come from outside
            self._chains.clear()
        self._chains[provider, model] = chains
        return chains
