"""The rate card: exact, classes nested, a missing price never zero (M2, M3, M4)."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.commands import RecordUsage, SetOrg, Usage
from ledger.core.rates import Card, Origin, Prices, Rate, Schedule, Tier, cost_of, fault_of, names_of

MTOK = Decimal("1e-6")
PRICES = Prices(
    input=3 * MTOK, cached=Decimal("0.3") * MTOK, cache_write=Decimal("3.75") * MTOK, output=15 * MTOK, reasoning=20 * MTOK,
    audio=40 * MTOK, image=Decimal("0.04"), request=Decimal("0.001"), search=Decimal("0.01"),
)  # fmt: skip
DAY = 86_400_000_000


def call(**said: Any) -> Usage:
    return Usage(org="acme", key="k", **({"model": "m", "provider": "p"} | said))


def rate(price: str = "1e-6", **said: Any) -> Rate:
    schedule = Schedule(Prices(input=Decimal(price), output=Decimal(price)))
    return Rate(**({"provider": "p", "model": "m", "origin": Origin.LITELLM, "standard": schedule} | said))


def test_each_class_prices_its_own_part_and_input_and_output_the_remainder() -> None:
    usage = call(
        input_tokens=1000, cached_input_tokens=400, cache_write_tokens=100, audio_tokens=50, output_tokens=200, reasoning_tokens=150,
        images=2, searches=3,
    )  # fmt: skip
    right = 450 * 3_000 + 400 * 300 + 100 * 3_750 + 50 * 40_000 + 50 * 15_000 + 150 * 20_000 + 2 * 40_000_000 + 1_000_000 + 3 * 10_000_000
    assert cost_of(PRICES, usage) == right


def test_a_class_without_a_price_of_its_own_stays_in_the_remainder() -> None:
    plain = Prices(input=3 * MTOK, output=15 * MTOK)
    usage = call(input_tokens=1000, cached_input_tokens=400, cache_write_tokens=9, audio_tokens=9, output_tokens=20, reasoning_tokens=15)
    assert cost_of(plain, usage) == 1000 * 3_000 + 20 * 15_000
    assert cost_of(plain, call(input_tokens=10, images=2)) == 30_000, "pictures that a model reads are inside its tokens"


@pytest.mark.parametrize(
    ("prices", "used"),
    [
        (Prices(input=MTOK), {"output_tokens": 1}),
        (Prices(output=MTOK), {"input_tokens": 1}),
        (Prices(input=MTOK), {"input_tokens": 1, "searches": 1}),
        (Prices(input=MTOK, output=MTOK), {"images": 1}),
        (Prices(input=MTOK), {"audio_tokens": 1}),
        (Prices(input=MTOK, output=MTOK), {}),
        (Prices(cached=MTOK), {"input_tokens": 2, "cached_input_tokens": 1}),
    ],
)
def test_what_was_used_and_has_no_price_makes_the_call_unpriced_never_free(prices: Prices, used: dict[str, int]) -> None:
    assert cost_of(prices, call(**used)) is None


@pytest.mark.parametrize(
    ("used", "nanos"),
    [
        ({"input_tokens": 1}, 3_000),
        ({"output_tokens": 1}, 15_000),
        ({"audio_tokens": 2}, 80_000),
        ({"images": 1}, 40_000_000),
        ({"searches": 1}, 10_000_000),
        ({"input_tokens": 1, "audio_tokens": 2}, 80_000),
    ],
)
def test_a_call_that_used_one_thing_only_needs_the_price_of_that(used: dict[str, int], nanos: int) -> None:
    """M3, M4: what was not used is not missing."""
    known = msgspec.structs.replace(PRICES, request=None)
    for name in ("image", "search", "audio", "cached", "reasoning"):
        if f"{name}s" not in used and f"{name}es" not in used and f"{name}_tokens" not in used:
            known = msgspec.structs.replace(known, **{name: None})
    assert cost_of(known, call(**used)) == nanos


def test_pictures_that_a_model_makes_are_inside_its_tokens_too() -> None:
    assert cost_of(Prices(output=15 * MTOK), call(output_tokens=10, images=2)) == 150_000


@pytest.mark.parametrize("price", ["2", "0.5", "0.00000005", "0.000000005", "2E+3"])
def test_prices_in_whole_dollars_or_nanos_are_exact_integers_too(price: str) -> None:
    """M1."""
    cost = cost_of(Prices(request=Decimal(price)), call())
    assert cost == Decimal(price) * 10**9 and type(cost) is int


def test_a_call_that_would_cost_more_than_a_million_dollars_has_no_price() -> None:
    """T4: by the card a million is a price, and a dollar more is a fault of it. A call of no input at all has one too."""
    card = Card(1, [rate("1")])
    assert [card.price(call(output_tokens=1_000_000 + more), DAY) for more in (0, 1)] == [10**15, None]


def test_a_model_that_nobody_prices_and_a_call_that_names_none_have_no_rate() -> None:
    """M4."""
    card = Card(1, [rate()])
    assert card.find("p", "other", DAY) is None and card.price(call(model=None, input_tokens=1), DAY) is None


def test_a_card_remembers_a_bounded_number_of_names_and_says_the_same_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """T4: names come from outside."""
    monkeypatch.setattr("ledger.core.rates.MOST_REMEMBERED", 2)
    card = Card(1, [rate()])
    for remembered, model in enumerate(("m", "a", "b", "c", "m")):
        assert card.price(call(input_tokens=1, model=model), DAY) == (1_000 if model == "m" else None)
        assert len(card._chains) == remembered % 2 + 1


def test_prices_stand_over_others_where_they_say_something_and_zero_is_something() -> None:
    base = Prices(input=MTOK, output=MTOK)
    assert Prices(input=Decimal(0), search=MTOK).over(base) == Prices(input=Decimal(0), output=MTOK, search=MTOK)


def test_zero_is_a_price_and_a_call_may_cost_by_the_request_alone() -> None:
    assert cost_of(Prices(input=Decimal(0), output=Decimal(0)), call(input_tokens=5)) == 0
    assert cost_of(Prices(request=Decimal("0.005")), call()) == 5_000_000


def test_parts_larger_than_what_they_are_inside_of_never_make_a_negative_remainder() -> None:
    assert cost_of(Prices(input=MTOK, cached=MTOK, output=MTOK), call(input_tokens=1, cached_input_tokens=5)) == 5_000


@pytest.mark.parametrize(("tokens", "nanos"), [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1)])
def test_a_call_is_rounded_once_half_to_even(tokens: int, nanos: int) -> None:
    assert cost_of(Prices(input=Decimal("0.5e-9")), call(input_tokens=tokens)) == nanos


def test_more_than_one_event_may_cost_is_no_price() -> None:
    assert cost_of(Prices(input=Decimal(1000)), call(input_tokens=2**53)) is None


prices = st.decimals(0, "0.001", places=15) | st.none()
counts = st.integers(0, 10**7)


@given(st.tuples(*[prices] * 5), st.tuples(counts, counts, counts, counts, counts))
def test_the_sum_is_the_exact_one_rounded(given_prices: Any, given_counts: Any) -> None:
    p = Prices(**dict(zip(("input", "cached", "cache_write", "output", "reasoning"), given_prices, strict=True)))
    cached, written, fresh, said, thought = given_counts
    used = call(
        input_tokens=cached + written + fresh, cached_input_tokens=cached, cache_write_tokens=written, output_tokens=said + thought,
        reasoning_tokens=thought,
    )  # fmt: skip
    exact = Fraction(0)
    for count, own, rest in ((cached, p.cached, p.input), (written, p.cache_write, p.input), (fresh, p.input, None),
                             (said, p.output, None), (thought, p.reasoning, p.output)):  # fmt: skip
        price = own if own is not None else rest
        if count and price is None:
            assert cost_of(p, used) is None
            return
        exact += count * Fraction(price or 0)
    if not any(given_counts):
        assert cost_of(p, used) is None
    else:
        assert cost_of(p, used) == round(exact * 10**9), "round() of a fraction is half to even"


def test_a_longer_call_costs_its_tiers_price_for_all_of_it() -> None:
    tiers = (Tier(1000, Prices(input=2 * MTOK)), Tier(2000, Prices(input=3 * MTOK)))
    card = Card(7, [rate(standard=Schedule(Prices(input=MTOK), tiers))])
    for tokens, nanos in ((1000, 1_000_000), (1001, 2_002_000), (2000, 4_000_000), (2001, 6_003_000)):
        assert card.price(call(input_tokens=tokens), DAY) == nanos
        found = card.find("p", "m", DAY)
        assert found is not None and cost_of(found.standard.prices_for(tokens), call(input_tokens=tokens)) == nanos


def test_a_batch_call_has_batch_prices_or_none() -> None:
    half = Schedule(Prices(input=Decimal("0.5") * MTOK))
    assert Card(1, [rate(batch=half)]).price(call(input_tokens=1000, batch=True), DAY) == 500_000
    assert Card(1, [rate()]).price(call(input_tokens=1000, batch=True), DAY) is None, "the full price would be a guess"


def test_the_rate_of_a_call_is_the_one_in_force_when_it_ended() -> None:
    card = Card(3, [rate("1e-6"), rate("2e-6", starts_us=10 * DAY), rate("9e-6", starts_us=99 * DAY)])
    at = [card.price(call(input_tokens=1), us) for us in (0, 10 * DAY - 1, 10 * DAY, 98 * DAY, 99 * DAY)]
    assert at == [1_000, 1_000, 2_000, 2_000, 9_000]
    assert Card(1, [rate(starts_us=DAY)]).price(call(input_tokens=1), DAY - 1) is None, "a price of the future is none yet"


def test_an_operators_rate_stands_before_any_list_and_the_nearest_name_comes_first() -> None:
    lists = [rate("1e-6"), rate("2e-6", origin=Origin.GENAI_PRICES), rate("3e-6", provider=None)]
    assert Card(1, lists).price(call(input_tokens=1), DAY) == 2_000
    assert Card(1, lists).price(call(input_tokens=1, provider=None), DAY) == 3_000
    assert Card(1, lists).price(call(input_tokens=1, provider="q"), DAY) == 3_000
    assert Card(1, [*lists, rate("7e-6", provider=None, origin=Origin.OPERATOR)]).price(call(input_tokens=1), DAY) == 7_000
    assert Card(1, lists[:2]).price(call(input_tokens=1, provider="q"), DAY) is None, "another host's price is not this one's"


@pytest.mark.parametrize(
    ("provider", "model", "names"),
    [
        ("OpenAI", "GPT-5", [("openai", "gpt-5"), (None, "gpt-5")]),
        ("openai", "openai/gpt-5", [("openai", "openai/gpt-5"), ("openai", "gpt-5"), (None, "openai/gpt-5")]),
        ("Novita", "deepseek/v4", [("novita", "deepseek/v4"), (None, "deepseek/v4")]),
        ("openai", "openai", [("openai", "openai"), (None, "openai")]),
        (None, "gpt-5", [(None, "gpt-5")]),
        (None, "openai/gpt-5", [(None, "openai/gpt-5"), ("openai", "gpt-5")]),
        ("gcp.vertex_ai", "gemini-3", [("google", "gemini-3"), (None, "gemini-3")]),
    ],
)
def test_a_rate_is_looked_for_by_names_that_mean_it(provider: str | None, model: str, names: list[Any]) -> None:
    assert names_of(provider, model) == names


def test_the_card_writes_its_price_and_version_beside_a_reported_cost_and_leaves_no_version_where_it_knows_none() -> None:
    known, strange = (
        RecordUsage(source="s", event_id="e", digest=b"", time_us=DAY, cost=None, cost_text=None, upstream=None, upstream_text=None,
                    usage=call(input_tokens=2, model=model))
        for model in ("m", "other")
    )  # fmt: skip
    Card(4, [rate()]).apply([known, SetOrg(org="acme", by="will"), strange])
    assert (known.computed, known.card, known.booked) == (2_000, 4, 2_000)
    assert (strange.computed, strange.card, strange.booked) == (None, None, None)


@pytest.mark.parametrize(
    ("price", "fault"),
    [
        ("10000.01", "over 10000 dollars"),
        ("1e-25", "finer than 24"),
        ("1.5e-24", "finer than 24"),
        ("1.0000000000000000000000000001", "finer than 24"),
        ("9999.99999999999999999999999990001", "finer than 24"),
        ("1e-9999999", "finer than 24"),
        ("-1", "negative"),
        ("NaN", "not a number"),
        ("Infinity", "not a number"),
        ("1e9", "no price"),
        ("1e-30", "no price"),
    ],
)
def test_what_is_no_price_is_refused_by_its_class(price: str, fault: str) -> None:
    found = fault_of(Prices(input=MTOK, output=Decimal(price)))
    assert found is not None and found.startswith("output: ") and fault in found
    assert fault_of(Prices()) is not None and fault_of(Prices(input=Decimal(0))) is None


@pytest.mark.parametrize("price", ["10000", "1e-24", "0e-30", "1.0000000000000000000000000"])
def test_a_price_may_be_ten_thousand_dollars_or_have_24_decimals_and_zeros_do_not_count(price: str) -> None:
    """M3."""
    assert fault_of(Prices(input=Decimal(price))) is None
