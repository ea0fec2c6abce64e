"""W1, for every zone of the tz database and every change of its clocks from 1970 to 2040.

A day begins at the first instant whose wall clock shows its date or a later one. The clocks here are `zoneinfo`'s, read
anew; a second opinion is `whenever`'s, and where that differs the cases are named.
"""

from bisect import bisect_left
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
import whenever

from ledger.core.window import (
    FOREVER_US,
    HOUR_US,
    MINUTE_US,
    Calendar,
    Period,
    Window,
    date_of,
    day_at,
    day_number,
    day_start_us,
    first_day,
    is_zone,
    micros,
    next_first_day,
    window_at,
)

SECOND, DAY = 1_000_000, 24 * 3600
FIRST, LAST = 0, int(datetime(2040, 12, 31, tzinfo=UTC).timestamp())
ZONES = sorted(available_timezones() - {"localtime", "Factory"})
DAYS = [period for period in Period if period is not Period.HOUR]


def offset(seconds: int, zone: ZoneInfo) -> timedelta:
    return datetime.fromtimestamp(seconds, zone).utcoffset() or timedelta()


def wall(us: int, zone: str) -> datetime:
    """The wall clock, to the second."""
    return datetime.fromtimestamp(us // SECOND, ZoneInfo(zone)).replace(tzinfo=None)


@cache
def changes(name: str) -> tuple[int, ...]:
    """Every second at which a zone's clock is changed: found by days that end with another offset."""
    zone, found = ZoneInfo(name), []
    offsets = [offset(at, zone) for at in range(FIRST, LAST, DAY)]
    for n, (before, after) in enumerate(pairwise(offsets)):
        if before != after:
            low, high = FIRST + n * DAY, FIRST + (n + 1) * DAY
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle, zone) == before else (low, middle)
            found.append(high)
    return tuple(found)


@cache
def kinds() -> dict[str, list[str]]:
    """Zones by the first of those whose clocks are the same all the time: each is looked at once."""
    same: dict[object, list[str]] = defaultdict(list)
    for name in ZONES:
        zone = ZoneInfo(name)
        same[tuple((at, offset(at, zone)) for at in (FIRST, *changes(name)))].append(name)
    return {names[0]: names for names in same.values()}


def around(name: str) -> list[tuple[int, int]]:
    """(change, day) for the days around each change of a zone's clocks, in microseconds and day numbers."""
    return [(at * SECOND, day_at(at * SECOND, name) + days) for at in changes(name) for days in (-1, 0, 1, 2)]


def begins_too_late(start_us: int, day: date, zone: str) -> bool:
    """Whether an instant before `start_us` shows that date or a later one: clocks are furthest just before a change."""
    seconds = changes(zone)
    near = [at for at in seconds[bisect_left(seconds, start_us // SECOND - 4 * DAY) :] if at * SECOND < start_us]
    moments = [start_us, *(at * SECOND for at in near), *((at + 1) * SECOND for at in near)]
    return any(wall(us - SECOND, zone).date() >= day for us in moments if us // SECOND - 1 >= start_us // SECOND - 4 * DAY)


def test_every_zone_of_the_tz_database_is_here() -> None:
    assert len(ZONES) > 400
    assert sum(len(names) for names in kinds().values()) == len(ZONES)
    assert sum(len(changes(name)) for name in kinds()) > 10_000
    assert all(map(is_zone, ZONES))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Nowhere/City",
        "../etc/passwd",
        "/etc/localtime",
        "UTC\0",
        "utc+1",
        "x" * 300,
        "Factory",
        "localtime",
        "posixrules",
        "posix/UTC",
        "right/UTC",
    ],
)
def test_what_is_no_zone_is_none(name: str) -> None:
    assert not is_zone(name)


def test_a_day_begins_at_the_first_instant_that_shows_its_date_or_a_later_one() -> None:
    """The definition, by the second, around every change of every clock."""
    for zone in kinds():
        for _, day in around(zone):
            start, its_date = day_start_us(day, zone), date_of(day)
            assert wall(start, zone).date() >= its_date, (zone, its_date)
            assert not begins_too_late(start, its_date, zone), (zone, its_date)


def test_days_tile_at_every_change_of_every_clock() -> None:
    """Each instant near a change or a midnight is in exactly one day; only a day that was skipped holds none."""
    for zone in kinds():
        for change, day in around(zone):
            start, end = day_start_us(day, zone), day_start_us(day + 1, zone)
            assert start <= end
            if start < end:
                assert day_at(start, zone) == day_at(end - 1, zone) == day, (zone, date_of(day))
            for us in (
                change - SECOND,
                change - 1,
                change,
                change + SECOND,
                start - SECOND,
                start - 1,
                start,
                start + SECOND,
            ):
                found = day_at(us, zone)
                assert day_start_us(found, zone) <= us < day_start_us(found + 1, zone), (zone, us)


def holds(window: Window, us: int, zone: str) -> None:
    """A window contains the instant, and the ones before and after begin and end where it does."""
    assert window.start_us <= us < window.end_us, (zone, us, window)
    assert window_at(window.period, window.start_us, zone) == window
    assert window_at(window.period, window.end_us - 1, zone) == window
    assert window_at(window.period, window.start_us - 1, zone).end_us == window.start_us
    assert window_at(window.period, window.end_us, zone).start_us == window.end_us


@pytest.mark.parametrize("period", [Period.DAY, Period.WEEK, Period.MONTH, Period.YEAR])
def test_windows_tile_at_every_change_of_every_clock(period: Period) -> None:
    """Also those that begin or end with a day that holds the change."""
    for zone in kinds():
        for change in changes(zone):
            for us in (change * SECOND - 1, change * SECOND):
                holds(window_at(period, us, zone), us, zone)


def test_hours_tile_at_every_change_of_every_clock() -> None:
    """An hour is the local one; a change of the clock ends it, so that none holds two offsets. Every other change."""
    for zone in kinds():
        info = ZoneInfo(zone)
        for change in changes(zone)[::2]:
            for us in (change * SECOND - 1, change * SECOND, (change + 1800) * SECOND, (change - 3600) * SECOND):
                window = window_at(Period.HOUR, us, zone)
                holds(window, us, zone)
                assert window.end_us - window.start_us <= HOUR_US
                begins = wall(window.start_us, zone)
                assert window.start_us // SECOND in changes(zone) or (begins.minute, begins.second, window.start_us % SECOND) == (0, 0, 0)
                assert offset(window.start_us // SECOND, info) == offset((window.end_us - 1) // SECOND, info)
                assert (window.start, window.end) == (window.start_us, window.end_us)


def test_a_lifetime_holds_every_instant() -> None:
    for us in (-FOREVER_US, 0, 1_772_960_400_000_000, FOREVER_US - 1):
        window = window_at(Period.LIFETIME, us, "Pacific/Apia")
        assert window == window_at(Period.LIFETIME, 0, "UTC")
    assert window.start == 0


def by_whenever(day: date, zone: str) -> int | None:
    """When a day begins by `whenever`; None where that knows no such day."""
    noon = whenever.PlainDateTime(day.year, day.month, day.day, 12).assume_tz(zone, disambiguation="compatible")
    if noon.date() != whenever.Date(day.year, day.month, day.day):
        return None
    return noon.start_of("day").timestamp() * SECOND


# The only days of which `whenever` says nothing: those that a zone skipped whole as it crossed the date line.
# It has no such date to ask for; by the definition the day begins, and ends, where the next one begins.
SKIPPED = {
    ("Kwajalein", "1993-08-21"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Enderbury", "1994-12-31"),
    ("Pacific/Fakaofo", "2011-12-30"),
    ("Pacific/Kiritimati", "1994-12-31"),
}


def test_whenever_says_the_same_of_every_day_that_was() -> None:
    """A second opinion on every midnight near a change: there is no case in which the two differ."""
    unknown: set[tuple[str, str]] = set()
    for zone, names in kinds().items():
        for day in sorted({day for _, day in around(zone)}):
            theirs, ours = by_whenever(date_of(day), zone), day_start_us(day, zone)
            if theirs is None:
                unknown.add((names[0], str(date_of(day))))
                assert ours == day_start_us(day + 1, zone)
            else:
                assert theirs == ours, (zone, date_of(day))
    assert unknown == SKIPPED


@pytest.mark.parametrize(
    ("zone", "day", "utc"),
    [
        ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00"),  # midnight is skipped: the day begins at 01:00
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00"),  # the same, at the end of a month's last week
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00"),  # the same, three hours west
        ("America/Havana", "2026-11-01", "2026-11-01T04:00"),  # midnight comes twice: the first
        (
            "America/St_Johns",
            "2010-11-07",
            "2010-11-07T02:30",
        ),  # set back at 00:01 to 23:01: the day had begun, and goes on
        ("America/Asuncion", "2024-03-24", "2024-03-24T04:00"),  # set back at 00:00 to 23:00: it begins an hour later
        (
            "Pacific/Apia",
            "2011-12-30",
            "2011-12-30T10:00",
        ),  # the whole day is skipped: it begins where the next one does
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00"),
        ("Pacific/Kwajalein", "1993-08-21", "1993-08-21T12:00"),  # another skipped day
        ("Asia/Manila", "2026-03-08", "2026-03-07T16:00"),  # nothing happens
    ],
)
def test_named_days_begin_when_people_there_would_say(zone: str, day: str, utc: str) -> None:
    assert day_start_us(day_number(date.fromisoformat(day)), zone) == micros(datetime.fromisoformat(utc).replace(tzinfo=UTC))


def test_dates_end_with_the_calendar_and_lifetimes_with_its_last_instant() -> None:
    """W1."""
    assert (date_of(-(10**7)), date_of(10**7)) == (date.min, date.max)
    assert [date_of(day_number(edge)) for edge in (date.min, date.max)] == [date.min, date.max]
    last = micros(datetime.max.replace(tzinfo=UTC))
    assert last + 1 == FOREVER_US and window_at(Period.LIFETIME, last, "UTC").end == day_number(date.max) + 1
    assert window_at(Period.LIFETIME, last, "UTC").start_us == micros(datetime.min.replace(tzinfo=UTC))
    assert (HOUR_US, MINUTE_US) == (3600 * SECOND, 60 * SECOND)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_the_first_and_the_last_days_of_the_calendar_and_the_one_after_begin_one_after_the_other(zone: str) -> None:
    """W1, where a zone's offset has no date to stand on."""
    first, last = day_number(date.min), day_number(date.max)
    starts = [day_start_us(day, zone) for day in (first, first + 1, first + 2, last - 1, last, last + 1)]
    assert starts == sorted(set(starts))
    assert (starts[0], starts[-1]) == (first * 24 * HOUR_US, FOREVER_US)


def test_weeks_begin_on_monday_months_on_the_first_and_years_in_january() -> None:
    for day in range(day_number(date(1999, 12, 1)), day_number(date(2005, 2, 1))):
        week, month, year = (date_of(first_day(period, day)) for period in (Period.WEEK, Period.MONTH, Period.YEAR))
        assert week.weekday() == 0 and 0 <= (date_of(day) - week).days < 7
        assert (month.day, month.month, month.year) == (1, date_of(day).month, date_of(day).year)
        assert (year.day, year.month, year.year) == (1, 1, date_of(day).year)
        for period in DAYS:
            start = first_day(period, day)
            assert start <= day < next_first_day(period, start)
            assert first_day(period, next_first_day(period, start) - 1) == start


def test_the_ends_of_the_calendar_have_windows() -> None:
    """W3 refuses such times, and the wire years past 9000; asking for their window must not fail."""
    for zone in ("UTC", "Pacific/Kiritimati", "Etc/GMT+12"):
        for moment in (
            datetime(1, 1, 3, tzinfo=UTC),
            datetime(1999, 12, 31, tzinfo=UTC),
            datetime(8999, 12, 31, tzinfo=UTC),
        ):
            for period in Period:
                window = window_at(period, micros(moment), zone)
                assert window.start_us <= micros(moment) < window.end_us


@pytest.mark.parametrize("hours", [True, False])
@pytest.mark.parametrize("zone", ["America/Havana", "Africa/Cairo", "Pacific/Apia", "Australia/Lord_Howe", "Asia/Kolkata"])
def test_a_calendar_says_what_the_windows_say(zone: str, hours: bool) -> None:
    """The short cut of the hot path, walked forth and back over changes of the clock."""
    calendar = Calendar(zone, hours)
    for change in (*changes(zone)[-6:], 1_772_960_400):
        for minutes in (*range(-1500, 1500, 29), *range(1500, -1500, -41)):
            us = (change + minutes * 60) * SECOND
            calendar.locate(us)
            assert calendar.day == day_at(us, zone)
            assert calendar.hour == (window_at(Period.HOUR, us, zone).start_us if hours else None)
