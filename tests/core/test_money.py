"""Money: digits to nanos, once (M1, M2), and nothing guessed (M6)."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ledger.core.money import MAX_AMOUNT_NANOS, MAX_EVENT_NANOS, USD, AmountError, each_text, parse_usd, split, usd_text


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0", 0),
        ("1", USD),
        ("0.00006958", 69_580),
        ("1.4E-7", 140),
        ("1.4e-7", 140),
        ("10.00", 10 * USD),
        ("5.", 5 * USD),
        (".5", USD // 2),
        ("+1", USD),
        ("0.000000001", 1),
        ("1e6", MAX_EVENT_NANOS),
        ("0001", USD),
        ("1e-30", 0),
        ("1e-999999999999999999", 0),
        ("6e-10", 1),
        ("0e99999", 0),
        ("999999.999999999", 10**15 - 1),
    ],
)
def test_decimal_text_is_read_by_its_digits(text: str, nanos: int) -> None:
    """M1."""
    assert parse_usd(text) == nanos
    assert type(parse_usd(text)) is int


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        ("0.0000000025", 2),
        ("0.00000000050000001", 1),
        ("0.00000000049999999", 0),
        ("2.5e-9", 2),
        ("3.5e-9", 4),
        ("0.9999999995", USD),
        ("0.9999999985", 999_999_998),
    ],
)
def test_an_amount_is_rounded_half_to_even_once(text: str, nanos: int) -> None:
    """M2."""
    assert parse_usd(text) == nanos


def test_forty_digits_are_rounded_once_and_not_twice() -> None:
    """M2: rounding to a double, or to 28 digits first, would make this a tie."""
    assert parse_usd("0.0000000005" + "0" * 28 + "1") == 1
    assert parse_usd("123456.0000000005" + "0" * 20 + "1") == 123_456 * USD + 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "abc",
        "1,5",
        "1 ",
        " 1",
        "1_0",
        "0x1",
        "NaN",
        "nan",
        "sNaN",
        "Infinity",
        "-inf",
        "--1",
        "1e",
        "e1",
        ".",
        "1.2.3",
        "$1",
        "１",
        "١",
        "1\0",
        "1\n",
        "1e99999999999999999999",
        "9" * 65,
        "²",
        "½",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(AmountError):
        parse_usd(text)


@pytest.mark.parametrize("text", ["-1", "-0.000000001", "-1e-9", "-1e-10", "-1e-15", "-1e-25", "-0.00000000000000000000001"])
def test_a_negative_amount_is_refused_however_little_it_is(text: str) -> None:
    with pytest.raises(AmountError, match="negative"):
        parse_usd(text)


@pytest.mark.parametrize("text", ["1000000.000000001", "1e7", "9" * 40, "1e20", "1e21", "1e999999", "-1e21"])
def test_more_than_a_million_dollars_is_an_error(text: str) -> None:
    """T4."""
    with pytest.raises(AmountError):
        parse_usd(text)


def test_a_limit_may_be_nine_billion_dollars_which_64_bits_hold() -> None:
    """M1, T4."""
    assert parse_usd("9000000000", MAX_AMOUNT_NANOS) == 9 * 10**18 < 2**63
    with pytest.raises(AmountError, match="is more than 9000000000 dollars"):
        parse_usd("9000000000.000000001", MAX_AMOUNT_NANOS)


@pytest.mark.parametrize(
    ("text", "name"), [("EUR 1", "EUR"), ("1 EUR", "EUR"), ("1.00 GBP", "GBP"), ("€1", "€"), ("1£", "£"), ("¥100", "¥")]
)
def test_another_currency_is_refused_by_its_name(text: str, name: str) -> None:
    """M6."""
    with pytest.raises(AmountError, match=f"is in {name}"):
        parse_usd(text)


def test_text_is_read_up_to_64_characters_and_no_further_whatever_it_says() -> None:
    """T4: zeros are cheap to write, and every one of them would be read."""
    assert parse_usd("0." + "0" * 61 + "1") == 0 and parse_usd("0" * 63 + "1") == USD
    for text in ("0" * 65, "0" * 5000, "0." + "0" * 62 + "1", "0" * 64 + "1"):
        with pytest.raises(AmountError, match="is longer than 64 characters"):
            parse_usd(text)


def test_dollars_by_their_name_are_not_called_another_currency() -> None:
    """M6."""
    for text in ("1 USD", "USD 1"):
        with pytest.raises(AmountError, match="is not a decimal number of US dollars"):
            parse_usd(text)


@given(st.decimals(0, 10**6, allow_nan=False, allow_infinity=False, places=None))
def test_every_amount_is_rounded_as_decimal_arithmetic_says(amount: Decimal) -> None:
    """M2, against `Decimal` in a context wide enough for anything."""
    text = str(abs(amount))
    if len(text) > 64:
        return
    with localcontext() as context:
        context.prec, context.rounding = 400, ROUND_HALF_EVEN
        expected = int(amount.quantize(Decimal("1e-9")).scaleb(9))
    assert parse_usd(text) == expected


@given(st.integers(0, MAX_AMOUNT_NANOS))
def test_text_of_an_amount_reads_back_as_the_same_amount(nanos: int) -> None:
    """M1: exact both ways, and within 64 bits."""
    text = usd_text(nanos)
    assert parse_usd(text, MAX_AMOUNT_NANOS) == nanos
    assert abs(nanos) < 2**63
    assert text == "0" or len(text.partition(".")[2]) >= 2


@given(st.integers(-(10**18), 10**18), st.lists(st.integers(0, 10**6), min_size=1, max_size=9))
@example(5, [1, 1, 1])
@example(-1, [1, 1, 1])
def test_parts_add_up_and_who_gets_a_nano_more_had_the_larger_remainder_or_came_first(amount: int, weights: list[int]) -> None:
    """M7."""
    assume(sum(weights) > 0)
    parts = split(amount, weights)
    shares = [Fraction(abs(amount) * weight, sum(weights)) for weight in weights]
    more = [abs(part) > share for part, share in zip(parts, shares, strict=True)]
    assert sum(parts) == amount and all(abs(abs(part) - share) < 1 for part, share in zip(parts, shares, strict=True))
    order = sorted(range(len(weights)), key=lambda n: (-(shares[n] % 1), n))
    assert [n for n in range(len(weights)) if more[n]] == sorted(order[: sum(more)])


def test_there_is_no_part_of_nothing_and_none_by_less_than_nothing() -> None:
    assert split(7, [0, 1]) == [0, 7] and split(0, [1, 2]) == [0, 0]
    for weights in ([0, 0], [3, -1], [1, -2]):
        with pytest.raises(ValueError, match="weights are negative or add up to nothing"):
            split(1, weights)


@pytest.mark.parametrize(
    ("nanos", "count", "text"),
    [
        (0, 3, "0"),
        (1, 1, "0.000000001"),
        (2, 3, "0.0000000007"),
        (5, 9, "0.0000000006"),
        (5 * USD, 12, "0.41666666667"),
        (10 * USD, 4, "2.5"),
        (70 * USD, 7, "10"),
    ],
)
def test_what_one_of_a_number_costs_is_rounded_to_the_nearest_and_has_no_idle_zeros(nanos: int, count: int, text: str) -> None:
    assert each_text(nanos, count) == text


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (-69_580, "-0.00006958"),
        (USD, "1.00"),
        (-3 * USD // 2, "-1.50"),
        (10 * USD, "10.00"),
    ],
)
def test_money_is_written_in_dollars_and_cents_and_as_many_more_places_as_it_has(nanos: int, text: str) -> None:
    assert usd_text(nanos) == text


@given(st.text(st.sampled_from("0123456789.eE+-"), max_size=70))
def test_any_text_of_number_characters_gives_an_amount_or_an_amount_error(text: str) -> None:
    try:
        assert 0 <= parse_usd(text) <= MAX_EVENT_NANOS
    except AmountError as error:
        assert len(text) < 4 or text not in str(error)  # three letters are named, as a currency
