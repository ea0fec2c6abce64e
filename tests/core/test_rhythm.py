"""A sender is silent against its own rhythm: its longest pause so far, twice."""

import pytest

from ledger.core.rhythm import silent_since
from ledger.core.window import HOUR_US

OFFICE = [day * 24 + hour for day in range(3) for hour in range(8, 18)]  # its longest pause: 15 hours, overnight


def at(hours: list[int], now: float) -> int | None:
    since = silent_since([hour * HOUR_US for hour in hours], int(now * HOUR_US))
    return None if since is None else since // HOUR_US


@pytest.mark.parametrize(("now", "since"), [(66, None), (80, None), (96, None), (96.1, 66), (500, 66)])
def test_one_that_rests_at_night_is_not_silent_at_night_but_the_day_after(now: float, since: int | None) -> None:
    assert at(OFFICE, now) == since


def test_one_that_never_rests_is_silent_after_two_hours() -> None:
    assert (at(list(range(24)), 26), at(list(range(24)), 26.1)) == (None, 24)


def test_one_that_was_hardly_heard_has_no_rhythm_yet() -> None:
    assert at(list(range(11)), 10_000) is None and at([], 5) is None
