"""Owns how the loose values of vendors become the fields of usage: numbers that come as text or as text that is a number,
within the same bounds as an event's (T4), secrets replaced (S2). Refuses what it would have to guess, naming the field.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

from ..core.money import AmountError, Nanos, parse_usd
from .secrets import clean_name, clean_text

MOST_COUNT = 10**12  # tokens of one call: a hundred thousand times what any model takes, and sums of it stay inside 64 bits
MOST_ID, MOST_NAME = 128, 256
_FIRST_US, _LAST_US = 0, 253_402_300_799_000_000  # 1970 to 9999


class Refused(ValueError):
    """A value that can't be taken; nothing of it is in the message but its field."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field


def can_be_kept(text: str) -> bool:
    """Whether the databases can hold a text: no NUL, no half of a surrogate pair."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def count_of(field: str, value: Any) -> int:
    """A count, from a number or a number as text; nothing is 0. Raises Refused."""
    if value is None or value == "":
        return 0
    if type(value) is int:
        count = value
    elif isinstance(value, str | float | Decimal):
        try:
            exact = Decimal(value if isinstance(value, str) and len(value) <= 32 else repr(value) if isinstance(value, float) else value)
        except InvalidOperation:
            raise Refused(field, "is not a number") from None
        if not exact.is_finite() or exact.adjusted() > 16 or exact != exact.to_integral_value():
            raise Refused(field, "is not a whole number")
        count = int(exact)
    else:
        raise Refused(field, "is not a number")
    if not 0 <= count <= MOST_COUNT:
        raise Refused(field, "is negative" if count < 0 else f"is more than {MOST_COUNT}")
    return count


def amount_of(field: str, value: Any) -> tuple[Nanos | None, str | None]:
    """An amount and its text as written; None for none. A float is one that the wire has in binary: its shortest digits are
    taken (M1). Raises Refused."""
    if value is None or value == "":
        return None, None
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise Refused(field, "is not an amount of US dollars")
    text = repr(value) if isinstance(value, float) else str(value)
    try:
        return parse_usd(text), text
    except AmountError as error:
        raise Refused(field, str(error)) from None


def name_of(field: str, value: Any, most: int = MOST_NAME) -> str | None:
    """A name, None for an empty one. Raises Refused."""
    if value is None or value == "":
        return None
    return clean_name(_fits(field, value, most))


def text_of(field: str, value: Any, most: int = MOST_NAME) -> str | None:
    """As `name_of`, for texts that hardly ever come again."""
    if value is None or value == "":
        return None
    return clean_text(_fits(field, value, most))


def plain_of(value: Any) -> str | None:
    """A text, or a number as its text; None for anything else."""
    return value if isinstance(value, str) else str(value) if type(value) in (int, float) else None


def word_of(value: Any, most: int = MOST_NAME) -> str | None:
    """A secondary name, where it is plain and fits; None for what would have to be refused: it is left out, and costs no call."""
    text = plain_of(value)
    return clean_name(text) if text and len(text) <= most and "\0" not in text else None


def _fits(field: str, value: Any, most: int) -> str:
    text = str(value) if type(value) in (int, bool) else value
    if not isinstance(text, str):
        raise Refused(field, "is not text")
    if len(text) > most:
        raise Refused(field, f"is longer than {most} characters")
    if "\0" in text:
        raise Refused(field, "contains a NUL, or half a surrogate pair")
    return text


def instant_of(field: str, value: Any, digits: int) -> int:
    """Microseconds, from a number of units of which 10**digits are a second. Raises Refused."""
    if type(value) is int and digits > 6 and 0 < value < 10**20:  # as protobuf has it
        return _within(field, value // 10 ** (digits - 6))
    try:
        exact = Decimal(value if isinstance(value, str) and len(value) <= 40 else repr(value) if isinstance(value, float) else value)
    except (InvalidOperation, TypeError, ValueError):
        raise Refused(field, "is not a time") from None
    if not exact.is_finite() or exact.adjusted() > 20:
        raise Refused(field, "is not a time")
    return _within(field, int(exact.scaleb(6 - digits)))


def moment_of(field: str, value: Any, digits: int) -> int | None:
    """As `instant_of`, for a secondary time: None for what would have to be refused."""
    try:
        return instant_of(field, value, digits)
    except Refused:
        return None


def _within(field: str, us: int) -> int:
    if not _FIRST_US < us < _LAST_US:
        raise Refused(field, "is not between the years 1970 and 9999")
    return us
