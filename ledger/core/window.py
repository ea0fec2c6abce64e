"""Owns windows of time (W1). Refuses naive times: every instant is an int of microseconds since 1970 in UTC.

A day is a number: days since 1970-01-01 in the org's own calendar. Nothing resets anything; at midnight the window that
contains now is simply another one. Windows of one zone tile: every instant lies in exactly one of each period.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 3600 * SECOND_US
_QUARTER_US = HOUR_US // 4
_ORDINAL_1970 = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _ORDINAL_1970, date.max.toordinal() - _ORDINAL_1970
FOREVER_US = (_LAST_DAY + 1) * 24 * HOUR_US


class Period(StrEnum):
    """How long a window is. `lifetime` never ends."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    LIFETIME = "lifetime"


class Window(NamedTuple):
    """A half-open window `[start_us, end_us)`.

    Attributes:
      period: its length.
      start_us, end_us: UTC instants, microseconds; local midnights unless the period is an hour.
      start: what balances are keyed by: the number of its first day, for an hour its `start_us`.
      end: the number of the day after its last; for an hour its `end_us`.
    """

    period: Period
    start_us: int
    end_us: int
    start: int
    end: int


def micros(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970, exact; also for moments whose UTC form has no year of its own."""
    return (moment - EPOCH) // _MICROSECOND


def day_number(day: date) -> int:
    """A calendar date as a day number."""
    return day.toordinal() - _ORDINAL_1970


def date_of(day: int) -> date:
    """A day number as a calendar date, held inside the years 1 to 9999."""
    return date.fromordinal(min(max(day, _FIRST_DAY), _LAST_DAY) + _ORDINAL_1970)


_NO_ZONES = ("localtime", "posixrules", "Factory", "posix/", "right/")  # files that a machine may have beside the zones


@lru_cache(maxsize=1024)
def is_zone(name: str) -> bool:
    """Whether `name` is a time zone of the tz database: the same on every machine, and without leap seconds."""
    if name.startswith(_NO_ZONES):
        return False
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return False
    return True


def _local(us: int, zone: str) -> datetime:
    """The wall clock at an instant, without its zone."""
    moment = EPOCH + timedelta(microseconds=us)
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def _offset_us(us: int, zone: str) -> int:
    return (_local(us, zone) - (EPOCH + timedelta(microseconds=us)).replace(tzinfo=None)) // _MICROSECOND


def _change_between(low_us: int, high_us: int, zone: str) -> int:
    """The first instant after `low_us`, up to `high_us`, at which the zone's offset is that of `high_us`. Whole seconds."""
    offset = _offset_us(high_us, zone)
    low, high = low_us // SECOND_US, -(-high_us // SECOND_US)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_us(middle * SECOND_US, zone) == offset:
            high = middle
        else:
            low = middle
    return high * SECOND_US


@lru_cache(maxsize=65536)
def day_start_us(day: int, zone: str) -> int:
    """The instant at which a local day begins: the first whose wall clock shows that date or a later one.

    Where a clock change skips midnight that is the change itself; where midnight comes twice, the first.
    """
    if day <= _FIRST_DAY + 1 or day >= _LAST_DAY:
        return day * 24 * HOUR_US  # the edges of the calendar, where a zone's offset has no date to stand on
    midnight = datetime.combine(date_of(day), datetime.min.time())
    early = micros(midnight.replace(tzinfo=ZoneInfo(zone)))
    if _local(early, zone) == midnight:
        return early
    late = micros(midnight.replace(tzinfo=ZoneInfo(zone), fold=1))
    low, high = sorted((early, late))
    return _change_between(low - SECOND_US, high, zone)


def day_at(us: int, zone: str) -> int:
    """The number of the local day that contains an instant."""
    first, last = _days_of_quarter(us // _QUARTER_US, zone)
    return first if first == last else _day_at(us, zone)


@lru_cache(maxsize=65536)
def _days_of_quarter(quarter: int, zone: str) -> tuple[int, int]:
    """The days of the first and the last instant of a quarter of an hour; nearly always the same."""
    return _day_at(quarter * _QUARTER_US, zone), _day_at((quarter + 1) * _QUARTER_US - 1, zone)


def _day_at(us: int, zone: str) -> int:
    day = day_number(_local(us, zone).date())
    # Clocks set back over midnight show yesterday's date again: by then the new day has begun.
    while day < _LAST_DAY and us >= day_start_us(day + 1, zone):
        day += 1
    while us < day_start_us(day, zone):
        day -= 1
    return day


@lru_cache(maxsize=4096)
def first_day(period: Period, day: int) -> int:
    """The number of the first day of the day-grained window that contains `day`; 0 for a lifetime."""
    if period is Period.DAY:
        return day
    if period is Period.WEEK:
        return day - (day + 3) % 7  # day 0 was a Thursday
    if period is Period.LIFETIME:
        return 0
    local = date_of(day)
    return day_number(local.replace(day=1) if period is Period.MONTH else local.replace(month=1, day=1))


def next_first_day(period: Period, first: int) -> int:
    """The number of the first day after the window that begins on day `first`."""
    if period is Period.DAY:
        return first + 1
    if period is Period.WEEK:
        return first + 7
    if period is Period.LIFETIME:
        return _LAST_DAY + 1
    # No month is longer than 31 days and no year than 366: one window on, then back to its start.
    return first_day(period, first + (31 if period is Period.MONTH else 366))


@lru_cache(maxsize=65536)
def _window_of_day(period: Period, day: int, zone: str) -> Window:
    start = first_day(period, day)
    end = next_first_day(period, start)
    if period is Period.LIFETIME:
        return Window(period, _FIRST_DAY * 24 * HOUR_US, FOREVER_US, start, end)
    return Window(period, day_start_us(start, zone), day_start_us(end, zone), start, end)


def _hour_at(us: int, zone: str) -> Window:
    offset = _offset_us(us, zone)
    start = us - (us + offset) % HOUR_US
    end = start + HOUR_US
    if _offset_us(start, zone) != offset:
        start = _change_between(start, us, zone)
    if _offset_us(end - 1, zone) != offset:
        end = _change_between(us, end - 1, zone)
    return Window(Period.HOUR, start, end, start, end)


def window_at(period: Period, us: int, zone: str) -> Window:
    """The window of a period that contains an instant, in a zone (W1)."""
    if period is Period.HOUR:
        return _hour_at(us, zone)
    return _window_of_day(period, 0 if period is Period.LIFETIME else day_at(us, zone), zone)


@lru_cache(maxsize=256)
def windows_at(us: int, zone: str) -> Mapping[Period, Window]:
    """The windows of all periods that contain an instant: many orgs share the instant, and few zones."""
    return MappingProxyType({period: window_at(period, us, zone) for period in Period})


class Calendar:
    """The local day, and where hours are counted the hour, of instants; quick where they lie close together.

    Attributes:
      day, hour: of the instant located last; `hour` is a `start_us`, None where hours are not counted.
      low_us, high_us: the span in which they hold.
    """

    def __init__(self, zone: str, hours: bool) -> None:
        self.zone = zone
        self.hours = hours
        self.low_us = self.high_us = self.day = 0
        self.hour: int | None = None

    def locate(self, us: int) -> None:
        """Moves to the day and hour of an instant."""
        if self.low_us <= us < self.high_us:
            return
        self.day = day_at(us, self.zone)
        self.low_us, self.high_us = day_start_us(self.day, self.zone), day_start_us(self.day + 1, self.zone)
        if self.hours:
            window = _hour_at(us, self.zone)
            self.hour = window.start_us
            self.low_us, self.high_us = max(self.low_us, window.start_us), min(self.high_us, window.end_us)
