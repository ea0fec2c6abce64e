"""Why a breach closed (C4), and who waits for a person from then on (K1), as its entry says it: messages and notices repeat it."""

import pytest
from msgspec.structs import replace

from ledger.core import commands as c
from ledger.core import entries as e
from ledger.core.caps import Action, Breach, Enforce, Guardrail, Kind, Resume, Rule, Sum, thresholds_reached
from ledger.core.keys import State
from ledger.core.money import USD, Nanos
from ledger.core.window import HOUR_US, Period

from .harness import OrgLedger
from .histories import START, usage_of

DAY_CAP = Rule(period=Period.DAY, limit=Nanos(5 * USD), on_unpriced=Action.PAUSE)
CALL = {"key": "k1", "workspace": "w1", "byok": True, "tokens": 1, "ago": 0, "cost": 5 * USD, "upstream": 9 * USD}


def put(rule: Rule, scope: str = "key:k1") -> c.SetCap:
    return c.SetCap(org="acme", by="will", cap="c1", scope=scope, rule=rule)


def breached(cost: int | None, rule: Rule = DAY_CAP) -> OrgLedger:
    """Books with one call, and the breach that it opened."""
    ledger = OrgLedger("acme")
    ledger.send([put(rule), usage_of("acme", "e1", CALL | {"cost": cost}, START)], START)
    assert [breach.kind for breach in ledger.books.breaches.values()] == [Kind.UNPRICED if cost is None else Kind.SPEND]
    return ledger


def closed(ledger: OrgLedger) -> list[tuple[str, int]]:
    """Reason and ordinal of each breach that closed; the books remember what the entry says."""
    said = [entry for entry in ledger.journal if isinstance(entry, e.CapCleared)]
    kept: dict[tuple[str, int], Breach] = ledger.books.history
    assert all(kept[entry.cap_id, entry.ordinal].reason == entry.reason for entry in said)
    return [(entry.reason, entry.ordinal) for entry in said]


def correction(ledger: OrgLedger, cost: int) -> c.CorrectUsage:
    seq = next(entry.seq for entry in ledger.journal if isinstance(entry, e.UsageRecorded))
    return c.CorrectUsage(org="acme", by="will", digest=bytes(16), entry=seq, cost=Nanos(cost), why="so")


@pytest.mark.parametrize("cost", [5 * USD, None])
def test_a_breach_whose_window_ended_says_so_from_the_windows_last_instant_on(cost: int | None) -> None:
    """C4, W1: the window is half-open, so it has ended at its end and not a microsecond before."""
    ledger = breached(cost)
    (breach,) = ledger.books.breaches.values()
    ledger.send([], breach.end_us - 1)
    assert closed(ledger) == []
    ledger.send([], breach.end_us)
    assert closed(ledger) == [("window_ended", 1)]


def test_a_breach_whose_limit_was_raised_above_the_spend_says_so() -> None:
    """C4."""
    ledger = breached(5 * USD)
    ledger.send([put(replace(DAY_CAP, limit=Nanos(5 * USD + 1)))], START)
    assert closed(ledger) == [("limit_raised", 1)]


@pytest.mark.parametrize("cost", [5 * USD, None])
def test_a_breach_whose_spend_was_corrected_says_so(cost: int | None) -> None:
    """C4, C10: under the same limit; calls that get their price are a correction too."""
    ledger = breached(cost)
    ledger.send([correction(ledger, 5 * USD - 1)], START)
    assert closed(ledger) == [("spend_corrected", 1)]


def test_a_breach_of_unpriced_calls_is_closed_by_their_price_and_not_by_a_limit_that_was_raised_before() -> None:
    """C10: such a breach has nothing to do with the limit."""
    ledger = breached(None)
    ledger.send([put(replace(DAY_CAP, limit=Nanos(9 * USD)))], START)
    ledger.send([correction(ledger, USD)], START)
    assert closed(ledger) == [("spend_corrected", 1)]


def test_a_limit_that_was_raised_before_but_not_above_the_spend_did_not_close_the_breach() -> None:
    """C4: the correction did."""
    ledger = breached(7 * USD)
    ledger.send([put(replace(DAY_CAP, limit=Nanos(6 * USD)))], START)
    assert closed(ledger) == []
    ledger.send([correction(ledger, 4 * USD)], START)
    assert closed(ledger) == [("spend_corrected", 1)]


@pytest.mark.parametrize(
    ("cost", "was", "now"),
    [
        (5 * USD, DAY_CAP, replace(DAY_CAP, period=Period.WEEK)),
        (None, DAY_CAP, replace(DAY_CAP, on_unpriced=Action.ALERT)),
        (USD, replace(DAY_CAP, include_byok=True), DAY_CAP),
    ],
)
def test_a_breach_whose_cap_counts_otherwise_by_now_says_that_it_was_changed(cost: int | None, was: Rule, now: Rule) -> None:
    """C4, C10, M5: nothing was corrected and no limit was raised."""
    ledger = breached(cost, was)
    ledger.send([put(now)], START)
    assert closed(ledger) == [("cap_changed", 1)]


def test_a_breach_whose_cap_was_removed_or_put_elsewhere_says_that_it_is_gone() -> None:
    """C4."""
    for order in (c.RemoveCap(org="acme", by="will", cap="c1"), put(DAY_CAP, scope="key:k2")):
        ledger = breached(5 * USD)
        ledger.send([order], START + HOUR_US)
        assert closed(ledger) == [("cap_removed", 1)]


MANUAL = replace(DAY_CAP, action=Action.PAUSE, resume=Resume.MANUAL)


def waiting(*orders: c.Command, brake: int = 20, enforce: Enforce = Enforce.ON) -> list[tuple[str, ...]]:
    """Who waits after each breach that closed: a cap and what is spent under it, then these orders, then the next day."""
    ledger = OrgLedger("acme")
    ledger.send([c.SetOrg(org="acme", by="will", brake=brake, enforce=enforce), *orders[:1], usage_of("acme", "e1", CALL, START)], START)
    ledger.send(orders[1:], START)
    ledger.send([], START + 24 * HOUR_US)
    said = [entry.waiting for entry in ledger.journal if isinstance(entry, e.CapCleared)]
    assert set(ledger.books.waits.get("c1", ())) == {key for keys in said for key in keys}
    return said


def test_keys_that_a_manual_cap_stopped_wait_once_its_breach_is_over() -> None:
    """K1."""
    assert waiting(put(MANUAL)) == [("k1",)]
    assert waiting(put(MANUAL, scope="org")) == [("k1",)]


@pytest.mark.parametrize(
    "rule",
    [replace(MANUAL, resume=Resume.AUTO), replace(MANUAL, enforce=Enforce.OBSERVE), replace(MANUAL, action=Action.ALERT)],
)
def test_nobody_waits_for_a_cap_that_stopped_nobody_or_that_ends_by_itself(rule: Rule) -> None:
    """K1, C1: neither where it never was otherwise, nor where it was changed while its breach was open."""
    assert waiting(put(rule)) == [()]
    assert waiting(put(MANUAL), put(rule))[-1] == ()


def test_nobody_waits_where_the_org_only_observes_or_the_brake_held_the_breach() -> None:
    """C1, K4."""
    assert waiting(put(MANUAL), enforce=Enforce.OBSERVE) == [()]
    assert waiting(put(MANUAL), c.SetOrg(org="acme", by="will", enforce=Enforce.OBSERVE)) == [()]
    assert waiting(put(MANUAL), brake=0) == [()]


def test_what_was_only_observed_leaves_nobody_waiting_as_it_opens_anew() -> None:
    """K1: it had stopped nobody; the breach that is meant does."""
    assert waiting(put(replace(MANUAL, enforce=Enforce.OBSERVE)), put(MANUAL)) == [(), ("k1",)]


def test_waits_end_as_the_org_begins_to_observe_and_with_no_other_change_of_it() -> None:
    """C1, K1."""
    for change, left in (
        (c.SetOrg(org="acme", by="will", brake=3), {"k1"}),
        (c.SetOrg(org="acme", by="will", enforce=Enforce.OBSERVE), set()),
    ):
        ledger = OrgLedger("acme")
        ledger.send([put(MANUAL), usage_of("acme", "e1", CALL, START)], START)
        ledger.send([change], START + 24 * HOUR_US)
        assert set(ledger.books.waits.get("c1", ())) == left
        assert ledger.books.keys["k1"].state == ("paused" if left else "active")


RAIL = Guardrail(guardrail_id="g1", each="key", within=("org",), rule=MANUAL)


def rail(rule: Rule, **changes: tuple[str, ...]) -> c.SetGuardrail:
    return c.SetGuardrail(org="acme", by="will", guardrail=replace(RAIL, rule=rule, **changes))


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (replace(MANUAL, limit=Nanos(9 * USD)), {"k1"}),
        (replace(MANUAL, on_unpriced=Action.ALERT), {"k1"}),
        (replace(MANUAL, action=Action.ALERT), {"k1"}),  # it still pauses for unpriced calls
        (replace(MANUAL, action=Action.ALERT, on_unpriced=Action.ALERT), set()),
        (replace(MANUAL, resume=Resume.AUTO), set()),
        (replace(MANUAL, enforce=Enforce.OBSERVE), set()),
    ],
)
def test_keys_go_on_waiting_for_a_person_while_their_cap_may_make_anybody_wait(change: Rule, left: set[str]) -> None:
    """K1, K2: another limit lets nobody go; what a cap or guardrail said before is forgotten with it, and does not come back."""
    for make in (put, rail):
        ledger = OrgLedger("acme")
        ledger.send([make(MANUAL), usage_of("acme", "e1", CALL, START)], START)
        ledger.send([make(change)], START + 24 * HOUR_US)
        assert {key for keys in ledger.books.waits.values() for key in keys} == left
        ledger.send([make(MANUAL)], START + 24 * HOUR_US)
        assert ledger.books.keys["k1"].state == ("paused" if left else "active")


def test_keys_that_a_guardrail_covers_no_more_do_not_wait_and_those_that_it_covers_do() -> None:
    """S5, K1: nor does it matter to the keys of a guardrail that another one is changed or goes."""
    ledger = OrgLedger("acme")
    other = c.SetGuardrail(org="acme", by="will", guardrail=replace(RAIL, guardrail_id="g10", rule=DAY_CAP))
    ledger.send([rail(MANUAL), other], START)
    for n, key in enumerate(("k1", "k2")):
        ledger.send([usage_of("acme", f"e{n}", CALL | {"key": key}, START)], START)
    ledger.send([replace(other, guardrail=replace(other.guardrail, rule=replace(DAY_CAP, limit=Nanos(USD))))], START + 24 * HOUR_US)
    ledger.send([c.RemoveGuardrail(org="acme", by="will", guardrail="g10")], START + 24 * HOUR_US)
    assert ledger.books.waits == {"g1/key:k1": {"k1"}, "g1/key:k2": {"k2"}}
    ledger.send([rail(MANUAL, except_=("k1",))], START + 24 * HOUR_US)
    assert ledger.books.waits == {"g1/key:k2": {"k2"}}
    ledger.send([c.RemoveGuardrail(org="acme", by="will", guardrail="g1")], START + 24 * HOUR_US)
    assert ledger.books.waits == {}


def test_a_persons_resume_ends_the_wait_of_that_key_alone_and_a_cap_that_goes_that_of_all() -> None:
    """K2, K5."""
    ledger = OrgLedger("acme")
    ledger.send([put(MANUAL, scope="org")], START)
    ledger.send([usage_of("acme", f"e{key}", CALL | {"key": key}, START) for key in ("k1", "k2", "k3")], START)
    ledger.send([], START + 24 * HOUR_US)
    assert ledger.books.waits == {"c1": {"k1", "k2", "k3"}}
    ledger.send([c.TurnKey(org="acme", by="will", key="k1", state=State.ACTIVE, why="so")], START + 24 * HOUR_US)
    assert ledger.books.waits == {"c1": {"k2", "k3"}}
    assert [key.state for key in ledger.books.keys.values()] == [State.ACTIVE, State.PAUSED, State.PAUSED]
    ledger.send([c.RemoveCap(org="acme", by="will", cap="c1")], START + 24 * HOUR_US)
    assert ledger.books.waits == {}
    assert {key.state for key in ledger.books.keys.values()} == {State.ACTIVE}


def test_a_limit_of_nothing_has_no_thresholds_and_others_speak_from_the_lowest_on() -> None:
    """C1, C6."""
    rule = replace(DAY_CAP, thresholds=(90, 50, 100))
    assert thresholds_reached(replace(rule, limit=Nanos(0)), Sum(spent=9)) == []
    assert thresholds_reached(rule, Sum(spent=5 * USD)) == [50, 90, 100]
    assert thresholds_reached(rule, Sum(spent=5 * USD * 9 // 10 - 1)) == [50]
