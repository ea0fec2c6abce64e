"""What the demo's gateway charges: US dollars for a million tokens, in and out, and exact costs from it."""

from decimal import ROUND_HALF_EVEN, Decimal

PRICES: dict[str, tuple[Decimal, Decimal]] = {
    "deepseek/deepseek-v4-flash": (Decimal("0.14"), Decimal("0.28")),
    "openai/gpt-5-mini": (Decimal("0.25"), Decimal("2.00")),
    "openai/gpt-5": (Decimal("1.25"), Decimal("10.00")),
    "anthropic/claude-sonnet-5": (Decimal("3.00"), Decimal("15.00")),
}
_MILLION = Decimal(1_000_000)
_NANO = Decimal("1e-9")


def cost_usd(model: str, input_tokens: int, output_tokens: int) -> Decimal:
    """What a call costs, exact to a nano-dollar."""
    price_in, price_out = PRICES[model]
    return ((price_in * input_tokens + price_out * output_tokens) / _MILLION).quantize(_NANO, ROUND_HALF_EVEN)
