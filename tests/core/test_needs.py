"""What `needs` must name, case by case: too little raises NotLoaded, or worse, lets a gap pass for a zero."""

import pytest

from ledger.core.caps import Action, Enforce, Guardrail, Rule
from ledger.core.money import Nanos
from ledger.core.window import Period

from .histories import DAY, HOUR, MINUTE, SECOND, START, command_of
from .partial import Both, play_both

either = pytest.mark.parametrize("cold", [True, False], ids=["loaded anew", "kept in memory"])


def use(key: str = "k1", cost: int = 6, ago: int = 0) -> tuple:
    return "use", {
        "key": key,
        "workspace": "w1",
        "cost": cost,
        "byok": False,
        "upstream": None,
        "tokens": 1,
        "ago": ago,
    }


def cap(scope: str, period: Period, limit: int = 5, name: str = "c1") -> tuple:
    return "cap", (name, scope, Rule(period=period, limit=Nanos(limit), action=Action.PAUSE))


def test_the_loader_would_notice_a_sum_that_is_not_named() -> None:
    """The tests below can fail at all: a cap is breached by what was loaded only."""
    play_both([use(cost=4), cap("key:k1", Period.MONTH), ("wait", DAY), use(cost=1), ("wait", 20 * DAY)], cold=True)


@either
def test_an_event_booked_ahead_of_its_hour_breaches_when_that_hour_begins(cold: bool) -> None:
    """W2, W5, C3: the hour's row was written before its hour, and must be found in it."""
    play_both([cap("key:k1", Period.HOUR), ("wait", 58 * MINUTE), use(ago=-4 * MINUTE), ("wait", 5 * MINUTE)], cold)


@either
def test_an_event_a_second_ahead_of_our_clock_does_not_stop_the_next_hour(cold: bool) -> None:
    """W3 lets clocks differ: with a cap by the hour, the next hour's pulse must be able to do its work."""
    play_both([cap("key:k1", Period.HOUR), use(cost=1, ago=-SECOND), ("wait", 2 * HOUR)], cold)


@either
@pytest.mark.parametrize("scope", ["key:k1", "workspace:w1", "org"])
@pytest.mark.parametrize("period", [Period.WEEK, Period.MONTH, Period.YEAR, Period.LIFETIME])
def test_an_event_ahead_of_midnight_comes_due_under_a_longer_cap(cold: bool, scope: str, period: Period) -> None:
    """W5: at midnight every cap of its scopes is looked at, not those by the day alone."""
    play_both([cap(scope, period, 100), ("wait", 17 * HOUR - 2 * MINUTE), use(ago=-4 * MINUTE), ("wait", 5 * MINUTE)], cold)


@either
@pytest.mark.parametrize("first", [("key", ("k1", "w1", None)), ("workspace", "w1"), ("key", ("k2", "w1", None))])
@pytest.mark.parametrize("scope", ["key:k1", "workspace:w1"])
def test_a_window_that_was_loaded_before_its_cap_was_made_is_true_when_it_is(cold: bool, first: tuple, scope: str) -> None:
    """C5: a sum in memory is kept up to date, or loaded again."""
    play_both([first, use(), cap(scope, Period.MONTH)], cold)


@either
def test_a_cap_made_again_counts_what_was_spent_in_between(cold: bool) -> None:
    """C1, C5."""
    play_both([cap("org", Period.MONTH), use(cost=1), ("uncap", "c1"), use(cost=9), cap("org", Period.MONTH)], cold)


@either
@pytest.mark.parametrize("period", list(Period))
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Pacific/Auckland", "America/Havana"])
def test_a_change_of_zone_finds_every_window_of_the_new_zone(cold: bool, period: Period, zone: str) -> None:
    """W4."""
    play_both([cap("key:k1", period), use(), ("org", (zone, Enforce.ON, 20)), use(cost=1), ("wait", DAY)], cold)


@either
@pytest.mark.parametrize("period", list(Period))
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/Havana", "Pacific/Auckland"])
@pytest.mark.parametrize("passed", [10 * MINUTE, 17 * HOUR])
def test_a_zone_can_change_before_the_pulse_has_seen_that_an_hour_with_usage_ahead_began(
    cold: bool, period: Period, zone: str, passed: int
) -> None:
    """W4, W5: the clock's part is done in the old zone, also for caps that the early event does not count for."""
    ledger = Both("acme", cold)
    for n, order in enumerate([cap("key:k1", period), cap("key:k3", Period.HOUR, name="c2"), use(cost=1)]):
        ledger.send(command_of(*order, n, START, ledger), START)
    early_us = START + 58 * MINUTE
    ledger.send(command_of(*use("k2", ago=-4 * MINUTE), 3, early_us, ledger), early_us)
    later_us = early_us + passed
    ledger.send(command_of("org", (zone, Enforce.ON, 20), 4, later_us, ledger), later_us)


@either
@pytest.mark.parametrize("period", list(Period))
def test_a_linked_key_brings_its_days_and_its_hour(cold: bool, period: Period) -> None:
    """S3."""
    play_both([use(key="n1"), cap("key:k1", period), ("key", ("k1", "w1", ("n1",))), use(cost=1), ("wait", DAY)], cold)


@either
@pytest.mark.parametrize("period", list(Period))
def test_a_late_correction_finds_its_window(cold: bool, period: Period) -> None:
    """J3."""
    play_both([cap("workspace:w1", period), use(), ("wait", DAY), ("correct", (0, 1, False)), ("wait", 20 * DAY)], cold)


@either
@pytest.mark.parametrize("period", list(Period))
def test_a_replica_whose_clock_is_behind_loads_the_windows_of_the_org_s_own_time(cold: bool, period: Period) -> None:
    """W5."""
    ledger, later_us = Both("acme", cold), START + 400 * DAY
    for n, (order, now_us) in enumerate([(cap("key:k1", period), START), (use(cost=1), later_us), (use(), START), (use(), START)]):
        ledger.send(command_of(*order, n, now_us, ledger), now_us)


def rail(within: str = "org", each: str = "key") -> tuple:
    rule = Rule(period=Period.HOUR, limit=Nanos(5), action=Action.PAUSE)
    return "rail", Guardrail(guardrail_id="g1", each=each, within=(within,), rule=rule)


@either
@pytest.mark.parametrize("order", [("key", ("k1", "w1", None)), ("key", ("k1", None, ("n1",))), ("workspace", "w1")])
@pytest.mark.parametrize("each", ["key", "workspace"])
def test_a_key_or_workspace_can_be_registered_under_a_guardrail_by_the_hour(cold: bool, order: tuple, each: str) -> None:
    """S5: it covers subjects that appear later."""
    play_both([use("k2", cost=1), rail(each=each), order, use(cost=6)], cold)


@either
@pytest.mark.parametrize("links", [None, ("n1",)])
def test_a_key_can_be_moved_under_a_guardrail_by_the_hour(cold: bool, links: tuple | None) -> None:
    """S4, S3: with what it and its aliases used in this hour."""
    play_both(
        [
            use(cost=1),
            use("n1", cost=1),
            ("key", ("k1", "w1", links)),
            rail("w2"),
            ("key", ("k1", "w2", None)),
            use(cost=6),
        ],
        cold,
    )
