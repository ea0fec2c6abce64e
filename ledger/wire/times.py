"""Owns times as text: RFC 3339 in UTC, microseconds kept."""

from datetime import UTC, date, datetime, timedelta

from ..core.window import EPOCH, day_number, day_start_us, micros

_LAST_US = micros(datetime.max.replace(tzinfo=UTC))
_FIRST_US = micros(datetime.min.replace(tzinfo=UTC))


def moment_text(us: int) -> str | None:
    """An instant, `2026-03-08T14:00:00Z`; None for one outside the years 1 to 9999, such as a lifetime's end."""
    if not _FIRST_US < us < _LAST_US:
        return None
    return (EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def parse_moment(text: str) -> int:
    """RFC 3339 with a zone, to microseconds. Raises ValueError with the reason."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not an RFC 3339 time, such as 2026-03-08T09:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("has no zone: add Z or an offset such as -05:00")
    if not 1970 <= moment.year < 9000:
        raise ValueError("is not between the years 1970 and 9000")
    return micros(moment)


def parse_day(text: str, zone: str) -> int:
    """The instant at which a date begins in a zone, in microseconds. Raises ValueError with the reason."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date, such as 2026-03-08") from None
    if not 1970 < day.year < 9000:
        raise ValueError("is not between the years 1970 and 9000")
    return day_start_us(day_number(day), zone)
