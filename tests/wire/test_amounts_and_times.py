"""The amount and the time of a usage event: M1, M2, M4, M6, W3, and T4's list of bad ones."""

import json

import pytest

from ledger.core.batch import Found
from ledger.core.books import Books
from ledger.core.commands import Status
from ledger.core.execute import execute
from ledger.core.needs import needs
from ledger.core.window import FOREVER_US

from .events import NOW_US, bad, good, raw, with_cost


@pytest.mark.parametrize(
    "written",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        '"NaN"',
        '"nan"',
        '"Infinity"',
        '"-inf"',
        '"sNaN"',
        "-1",
        '"-0.01"',
        '"-1e-15"',
        "-1e-25",
        "1" * 40,
        f'"{"1" * 40}"',
        '"1000000.000000001"',
        "1e7",
        "1e999999999",
        '"1e99999999999999999999"',
        '"EUR 1"',
        '"1.00 EUR"',
        '"€1"',
        '"$1"',
        "true",
        "{}",
        "[1]",
        '""',
        '" 1"',
        '"1,5"',
        '"1_0"',
        '"0x1"',
        '"١"',
        '"１"',
        f'"0.{"1" * 80}"',
        '"1\\u0000"',
    ],
)
def test_a_cost_that_is_no_honest_amount_is_rejected(written: str) -> None:
    """M1, M6, T4: not a number, infinite, negative however little, too much, or in another currency."""
    assert bad(with_cost(written)).detail.startswith(("data.cost_usd", "is not JSON"))


def test_another_currency_is_refused_by_its_name() -> None:
    """M6."""
    assert "EUR" in bad(raw({"currency": "EUR"})).detail
    assert "EUR" in bad(raw({"cost_usd": "1.00 EUR"})).detail
    assert good(raw({"currency": "USD"})).cost == 1_250_000_000


@pytest.mark.parametrize(
    ("written", "nanos"),
    [
        ("1.4E-7", 140),
        ('"1.4E-7"', 140),
        ("0.00006958", 69_580),
        ("1e0", 10**9),
        ("1.25e+2", 125 * 10**9),
        ("0.1", 10**8),
        ("0.30000000000000004", 300_000_000),
        ("1.35e-05", 13_500),
        ("0", 0),
        ("0.0", 0),
        ("1000000", 10**15),
        ("0." + "1" * 40, 111_111_111),
        ("5e-10", 0),
        ("15e-10", 2),
        ("25e-10", 2),
        ('"\\u0031.5"', 1_500_000_000),
    ],
)
def test_an_amount_is_read_by_its_digits_and_rounded_once(written: str, nanos: int) -> None:
    """M1, M2: also a JSON number with an exponent; never a float."""
    command = good(with_cost(written))
    assert command.cost == nanos
    assert command.cost_text == json.loads(written if written[0] == '"' else f'"{written}"')


@pytest.mark.parametrize("value", [..., None])
def test_no_cost_is_unpriced_and_a_cost_of_nothing_is_a_price(value: object) -> None:
    """M4."""
    assert good(raw({"cost_usd": value})).cost is None
    assert good(raw({"cost_usd": 0})).cost == 0


@pytest.mark.parametrize("written", ['"1.5"', "1.50", "15e-1", "1500000e-6", '"0001.5"'])
def test_the_same_content_as_text_or_number_is_a_duplicate(written: str) -> None:
    """J2: how an amount was written is no difference."""
    first = execute(books := Books("acme"), [good(with_cost("1.5"))], NOW_US, Found())
    entry = first.entries[-1]
    found = Found(known={entry.command.digest: entry.seq}, originals={entry.seq: entry})
    again = execute(books, [good(with_cost(written)), good(with_cost("1.51"))], NOW_US, found)
    assert [result.status for result in again.results] == [Status.DUPLICATE, Status.EXISTS_WITH_DIFFERENT_CONTENT]
    assert again.entries == []


@pytest.mark.parametrize(
    "time",
    ["2026-03-08T09:00:00", "2026-03-08", "yesterday", "", "2026-13-01T00:00:00Z", "10000-01-01T00:00:00Z", 5, None],
)
def test_a_time_without_a_zone_or_that_is_none_is_rejected(time: object) -> None:
    assert bad(raw(time=time)).field == "time"


@pytest.mark.parametrize(
    ("time", "status"),
    [
        ("0001-01-01T00:00:00+14:00", "rejected"),
        ("0001-01-01T00:00:00Z", "rejected"),
        ("1999-12-31T23:59:59Z", "rejected"),
        ("9999-12-31T23:59:59-14:00", "parked"),
        ("9999-12-31T23:59:59Z", "parked"),
        ("2026-03-08T10:00:00+01:00", "recorded"),
    ],
)
def test_the_ends_of_the_calendar_are_answered(time: str, status: str) -> None:
    """W3: the year 1 and the year 9999 are times like others, also west and east of Greenwich."""
    books, command = Books("acme"), good(raw(time=time))
    needs(books, [command], NOW_US, {})
    assert [result.status for result in execute(books, [command], NOW_US, Found()).results] == [status]
    assert abs(command.time_us) <= FOREVER_US + 86_400_000_000


@pytest.mark.parametrize(
    ("written", "early_us"),
    [("08:59:59.9999999Z", 1), ("08:59:59.9999995Z", 1), ("08:59:59.999999499Z", 1), ("09:00:00.0000004Z", 0), ("09:00:00Z", 0)],
)
def test_what_is_finer_than_a_microsecond_moves_no_call_to_the_next_window(written: str, early_us: int) -> None:
    """W2: a clock of nanoseconds says 23:59:59.9999999, which is still that day."""
    assert good(raw(time=f"2026-03-08T{written}")).time_us == NOW_US - early_us


def test_times_are_instants_whatever_their_offset() -> None:
    assert good(raw(time="2026-03-08T14:30:00+05:30")).time_us == good(raw()).time_us
