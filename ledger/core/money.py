"""Owns amounts of money: integers of nano-USD (M1). Refuses floats, other currencies and anything it would have to guess.

An amount is read from its decimal digits and rounded once, half to even, to a nano (M2).
"""

import re
from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from typing import NewType

Nanos = NewType("Nanos", int)

USD = 1_000_000_000  # nanos in a dollar
MAX_EVENT_NANOS = 1_000_000 * USD  # T4: a single event above a million dollars is an error
MAX_AMOUNT_NANOS = 9_000_000_000 * USD  # a limit or a sum must stay far inside 64 bits
_MAX_TEXT = 64  # longer than any honest amount: 19 digits, a point, and room for a double's exact digits
_NANO = Decimal("1e-9")
_SHIFT = tuple(10 ** (9 - places) for places in range(10))
# Wide enough that no amount within _MAX_TEXT is rounded before the one rounding of M2.
_EXACT = Context(prec=2 * _MAX_TEXT, rounding=ROUND_HALF_EVEN)
_CURRENCY = re.compile(r"(?<![A-Za-z])[A-Z]{3}(?![A-Za-z])|[€£¥]")
_DIGITS = frozenset("0123456789.eE+-")


class AmountError(ValueError):
    """An amount that cannot be read; the message says why, for the person who sent it."""


def parse_usd(text: str, most: int = MAX_EVENT_NANOS) -> Nanos:
    """Decimal text (`"0.00006958"`, `"1.4E-7"`) to nano-USD, rounded half to even once.

    Raises AmountError for text that is not a plain decimal number, is negative, or exceeds `most`.
    """
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if len(fraction) <= 9 and 0 < len(whole) <= 7 and digits.isdigit() and digits.isascii():
        nanos = int(digits) * _SHIFT[len(fraction)]
    else:
        nanos = _parse_slowly(text, most)
    if nanos > most:
        raise AmountError(f"is more than {most // USD} dollars")
    return Nanos(nanos)


def _parse_slowly(text: str, most: int) -> int:
    if len(text) > _MAX_TEXT:
        raise AmountError(f"is longer than {_MAX_TEXT} characters")
    other = _CURRENCY.search(text)
    if other and other[0] != "USD":
        raise AmountError(f"is in {other[0]}: only USD is booked")  # M6
    if not _DIGITS.issuperset(text):
        raise AmountError("is not a decimal number of US dollars, such as 0.00006958")
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise AmountError("is not a decimal number of US dollars, such as 0.00006958") from None
    if amount < 0:
        raise AmountError("is negative")
    if amount and amount.adjusted() > 20:  # before it is written out in full: 1e999999 is short text
        raise AmountError(f"is more than {most // USD} dollars")
    return int(amount.quantize(_NANO, context=_EXACT).scaleb(9, context=_EXACT))


def usd_text(nanos: int) -> str:
    """Nano-USD as decimal text in dollars, exact, at least two decimals unless zero: `"0.00006958"`, `"10.00"`, `"0"`."""
    if nanos == 0:
        return "0"
    sign = "-" if nanos < 0 else ""
    whole, fraction = divmod(abs(nanos), USD)
    return f"{sign}{whole}.{f'{fraction:09d}'.rstrip('0').ljust(2, '0')}"


def each_text(nanos: int, count: int) -> str:
    """What one of a number costs, as decimal text in dollars: so many places that it gives the amount again, to the nano."""
    places = 9 + len(str(count))
    each = (nanos * 10 ** len(str(count)) + count // 2) // count
    return f"{Decimal(each).scaleb(-places, context=_EXACT):f}".rstrip("0").rstrip(".")


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """An amount in parts by weight that add up to it exactly: what is left over after whole nanos goes, a nano each, to the
    largest remainders, the earlier of equals first.

    Raises ValueError for weights that are negative or that add up to nothing.
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError("weights are negative or add up to nothing")
    sign, size = (-1, -amount) if amount < 0 else (1, amount)
    parts = [divmod(size * weight, whole) for weight in weights]
    left = size - sum(part for part, _ in parts)
    first = sorted(range(len(weights)), key=lambda n: -parts[n][1])[:left]
    return [sign * (part + (n in first)) for n, (part, _) in enumerate(parts)]
