"""Price lists as they come: LiteLLM's JSON by its digits, genai-prices against its own arithmetic; what is odd is left out."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers

from ledger.core.commands import Usage
from ledger.core.rates import Card, Prices
from ledger.core.window import micros
from ledger.wire.pricelists import PriceListError, convert_genai, parse_litellm

# Shapes of the real file: floats in their shortest form, tiers in names, prices that need no number, a sample first.
LITELLM = """{
 "sample_spec": {"input_cost_per_token": 0.0, "litellm_provider": "one of https://…", "mode": "chat"},
 "gpt-4o": {"input_cost_per_token": 2.5e-06, "input_cost_per_token_batches": 1.25e-06, "output_cost_per_token": 1e-05,
   "output_cost_per_token_batches": 5e-06, "cache_read_input_token_cost": 1.25e-06, "litellm_provider": "openai", "mode": "chat",
   "search_context_cost_per_query": {"search_context_size_high": 0.05, "search_context_size_low": 0.03,
     "search_context_size_medium": 0.035}},
 "gemini/gemini-2.5-pro": {"input_cost_per_token": 1.25e-06, "input_cost_per_token_above_200k_tokens": 2.5e-06,
   "output_cost_per_token": 1e-05,
   "output_cost_per_token_above_200k_tokens": 1.5e-05, "litellm_provider": "gemini", "max_tokens": 65535,
   "input_cost_per_token_batches": 6.25e-07, "input_cost_per_token_above_200k_tokens_batches": 1.25e-06},
 "dall-e-2": {"input_cost_per_pixel": 1.9e-08, "litellm_provider": "openai", "mode": "image_generation", "output_cost_per_pixel": 0.0},
 "openrouter/auto": {"input_cost_per_token": -1, "output_cost_per_token": -1, "litellm_provider": "openrouter"},
 "free": {"input_cost_per_token": 0, "output_cost_per_token": 0.0, "litellm_provider": "local"},
 "words": {"input_cost_per_token": "cheap", "litellm_provider": "local"},
 "nobody": {"input_cost_per_token": 1e-06}
}"""
AT = datetime(2026, 11, 1, tzinfo=UTC)


def price(card: Card, **said: Any) -> int | None:
    return card.price(Usage(org="acme", key="k", **said), micros(AT))


def test_litellms_prices_are_read_by_their_digits_and_found_under_the_names_that_events_use() -> None:
    card = Card(1, parse_litellm(LITELLM).rates)
    found = card.find("openai", "gpt-4o", 0)
    assert found is not None
    assert found.standard.base == Prices(
        input=Decimal("2.5e-06"), output=Decimal("1e-05"), cached=Decimal("1.25e-06"), search=Decimal("0.035")
    )
    assert price(card, model="gpt-4o", input_tokens=4) == price(card, provider="openai", model="gpt-4o", input_tokens=4) == 10_000
    assert price(card, provider="openai", model="gpt-4o", input_tokens=4, searches=1, batch=True) == 35_005_000
    google = {"provider": "vertex_ai", "model": "gemini-2.5-pro"}
    assert price(card, **google, input_tokens=200_000) == 250_000_000
    assert price(card, **google, input_tokens=200_001, output_tokens=1) == 500_002_500 + 15_000
    assert price(card, **google, input_tokens=200_000, batch=True) == 125_000_000
    assert price(card, **google, input_tokens=200_001, output_tokens=1, batch=True) == 250_001_250 + 15_000  # no batch price of its own
    assert price(card, provider="local", model="free", input_tokens=9) == 0


def test_models_with_prices_that_would_be_a_guess_are_left_out_and_said_so() -> None:
    left = parse_litellm(LITELLM).left_out
    assert set(left) == {"dall-e-2", "openrouter/auto", "words", "nobody"}
    assert left["openrouter/auto"] == "input: is negative" and "not a number" in left["words"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"a": NaN}', '{"a": 1}', "{}", "[" * 100_000, "\x00", '{"m": {"litellm_provider": "p", "input_cost_per_token": -1}}',
     LITELLM[:-2]],
)  # fmt: skip
def test_a_list_that_can_not_be_read_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(PriceListError):
        parse_litellm(text)


@pytest.mark.parametrize("value", ["1e999999999", "1e-999999999", '"1e5"', "[1]", "true", '"NaN"'])
def test_odd_numbers_leave_out_their_model_only(value: str) -> None:
    models = json.loads(LITELLM) | {"odd": {"litellm_provider": "p", "input_cost_per_token": "@"}}
    listed = parse_litellm(json.dumps(models).replace('"@"', value))
    assert "odd" in listed.left_out and len(listed.rates) == len(parse_litellm(LITELLM).rates)


def test_genai_prices_cost_what_its_own_arithmetic_says() -> None:
    listed = convert_genai(providers)
    assert len(listed.rates) > 3000 and len(listed.left_out) < len(listed.rates) / 10
    card, compared = Card(1, listed.rates), 0
    usage = {"input_tokens": 250_000, "output_tokens": 777}
    for provider in providers:
        for model in provider.models:
            ours = price(card, provider=provider.id, model=model.id, cached_input_tokens=5_000, **usage)
            if ours is None:
                continue
            said = genai_prices.Usage(**usage, cache_read_tokens=5_000)
            theirs = model.calc_price(said, provider, genai_request_timestamp=AT)
            compared += 1
            assert ours == int((theirs.total_price * 10**9).to_integral_value("ROUND_HALF_EVEN")), f"{provider.id}/{model.id}"
    assert compared > 1500


def test_a_dated_price_of_genai_prices_begins_on_its_day() -> None:
    dated = [rate for rate in convert_genai(providers).rates if rate.starts_us]
    assert dated and all(rate.starts_us % 86_400_000_000 == 0 for rate in dated)
