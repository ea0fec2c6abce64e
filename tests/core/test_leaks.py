"""Leaks of stopped keys, where a run of usage turns a key once more (K6)."""

from collections.abc import Sequence

from msgspec.structs import replace

from ledger.core import entries as e
from ledger.core.caps import Action, Rule
from ledger.core.commands import ConfirmCommand, RecordUsage, SetCap, SetKey, Usage
from ledger.core.fold import fold
from ledger.core.keys import State
from ledger.core.levels import stopped_us
from ledger.core.money import USD, Nanos
from ledger.core.window import Period

from .harness import OrgLedger

NOW_US, SECOND = 1_772_960_400_000_000, 1_000_000


def call(number: int, after_s: int, usd: int, key: str = "k", began_s: int | None = None) -> RecordUsage:
    started_us = None if began_s is None else NOW_US + began_s * SECOND
    usage = Usage(org="acme", key=key, workspace="w", started_us=started_us)
    at_us = NOW_US + after_s * SECOND
    return RecordUsage("gateway", str(number), bytes([number]) * 16, at_us, Nanos(usd * USD), str(usd), None, None, usage)


def cap(name: str, usd: int, action: Action) -> SetCap:
    rule = Rule(period=Period.LIFETIME, limit=Nanos(usd * USD), action=action, approval=False)
    return SetCap(org="acme", by="will", cap=name, scope="key:k", rule=rule)


def booked(runs: Sequence[Sequence[RecordUsage]]) -> list[e.Entry]:
    """What follows once a key is paused by a cap, and that is confirmed; a second cap ends it."""
    ledger = OrgLedger("acme")
    ledger.send([cap("low", 1, Action.PAUSE)], NOW_US)
    ledger.send([cap("high", 5, Action.REVOKE)], NOW_US)
    ledger.send([call(1, 0, 1)], NOW_US)
    ledger.send([ConfirmCommand(org="acme", by="gateway", key="k", credential="k", revision=1, state=State.PAUSED)], NOW_US)
    for run in runs:
        ledger.send(run, NOW_US + 180 * SECOND)
    return ledger.journal


def test_a_call_after_the_one_that_turned_its_key_again_is_no_leak_in_whatever_run_they_come() -> None:
    """K6, J1: the new revision is not confirmed yet; booked together, they become the same entries as one by one."""
    calls = [call(2, 30, 5), call(3, 120, 1)]
    together, alone = booked([calls]), booked([[one] for one in calls])
    assert together == alone
    assert not [entry for entry in together if isinstance(entry, e.KeyLeaking)]


def leaks(journal: Sequence[e.Entry]) -> list[str]:
    return [entry.key for entry in journal if isinstance(entry, e.KeyLeaking)]


def test_a_leak_is_told_once_and_of_its_own_key_in_whatever_run_it_comes() -> None:
    """K6, K5: other keys' calls in the same run are none; and the key's next one is not, until the new revision is confirmed."""
    calls = [call(2, 120, 1, key="other"), call(3, 120, 1), call(4, 130, 1, key="other"), call(5, 140, 1)]
    together, alone = booked([calls]), booked([[one] for one in calls])
    assert together == alone
    assert leaks(together) == ["k"]


def test_a_call_that_began_before_its_key_was_stopped_is_no_leak_however_late_it_ended() -> None:
    """K6: it is the start of the call that counts; its end, where that is all that is known."""
    assert leaks(booked([[call(2, 120, 1, began_s=59)]])) == []
    assert leaks(booked([[call(2, 120, 1, began_s=60)]])) == ["k"]
    assert leaks(booked([[call(2, 120, 1)]])) == ["k"]


def test_a_call_is_held_against_the_word_for_the_name_it_came_with_else_against_the_last_for_any() -> None:
    """K6, K3: only words for the newest revision count, and only those that say that the key is stopped."""
    ledger = OrgLedger("acme")
    ledger.send([SetKey(org="acme", by="will", key="k", workspace="w", credentials=("early", "late", "open", "old"))], NOW_US)
    ledger.send([cap("low", 1, Action.PAUSE)], NOW_US)
    ledger.send([call(1, 0, 1)], NOW_US)
    key = ledger.books.keys["k"]
    words = [("early", 10, 0, State.PAUSED), ("late", 30, 0, State.PAUSED), ("open", 50, 0, State.ACTIVE), ("old", 70, -1, State.PAUSED)]
    for name, after_s, back, state in words:
        word = ConfirmCommand(org="acme", by="gateway", key="k", credential=name, revision=key.revision + back, state=state)
        ledger.send([word], NOW_US + after_s * SECOND)
    told = {name: stopped_us(ledger.books, key, name) for name in ("early", "late", "open", "old", "k")}
    assert told == {name: NOW_US + after_s * SECOND for name, after_s in {"early": 10, "late": 30, "open": 30, "old": 30, "k": 30}.items()}
    assert stopped_us(ledger.books, replace(key, state=State.ACTIVE), "early") is None


def test_a_leaking_key_is_shown_as_one_until_its_state_changes_and_has_been_paused_since_it_was() -> None:
    """K6, K3: being told again is a new revision, and no change of state."""
    ledger = OrgLedger("acme")
    ledger.send([cap("low", 1, Action.PAUSE)], NOW_US)
    ledger.send([call(1, 0, 1)], NOW_US)
    words = [ConfirmCommand(org="acme", by="gateway", key="k", credential="k", revision=n, state=State.PAUSED) for n in (1, 2)]
    for order, after_s in ((words[0], 0), (call(2, 120, 1), 180), (words[1], 200)):
        ledger.send([order], NOW_US + after_s * SECOND)
    key = ledger.books.keys["k"]
    assert (key.state, key.revision, key.leaking, key.changed_us) == (State.PAUSED, 2, True, NOW_US)
    ledger.send([cap("low", 9, Action.PAUSE)], NOW_US + 300 * SECOND)
    key = ledger.books.keys["k"]
    assert (key.state, key.leaking, key.changed_us) == (State.ACTIVE, False, NOW_US + 300 * SECOND)


def test_a_late_answer_to_an_older_command_changes_nothing() -> None:
    """K3: what is confirmed is the newest revision's word, and of one revision the last."""
    ledger = OrgLedger("acme")
    told = e.CommandConfirmed(
        seq=1, recorded_us=NOW_US, key="k", credential="k", connection="", revision=2, state=State.PAUSED, mark="m2", by="gateway"
    )
    older, again = replace(told, seq=2, revision=1, state=State.ACTIVE, mark="m1"), replace(told, seq=3, mark="m3")
    for entry, mark in ((told, "m2"), (older, "m2"), (again, "m3")):
        fold(ledger.books, [entry])
        (said,) = ledger.books.confirmations.values()
        assert (said.revision, said.state, said.mark) == (2, State.PAUSED, mark)
