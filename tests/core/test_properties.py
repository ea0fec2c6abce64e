"""Laws that hold for every history: replay, batches, redelivery, sums, levels, key states, and what `needs` names."""

from copy import deepcopy

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.core import entries as e
from ledger.core.caps import BRAKE, Action, Enforce, Waits
from ledger.core.commands import Command, CorrectUsage, RecordUsage, Status
from ledger.core.window import Period, window_at

from .harness import OrgLedger, assert_levels, assert_parts_add_up, assert_rooms, assert_same_books, rows_of
from .histories import MINUTE, Told, crowded, histories, tell, without_zones
from .partial import Both, play_both

many = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@many
@given(histories)
def test_replaying_the_journal_gives_the_same_books_after_every_command(actions: list) -> None:
    """J1: `fold(journal) == books`; and the sequence has no gap, nor does its time run backwards (W5)."""
    ledger = OrgLedger("acme")
    tell(actions, ledger, lambda ledger, _: assert_same_books(ledger.books, ledger.journal))
    times = [entry.recorded_us for entry in ledger.journal]
    assert times == sorted(times)
    assert [entry.seq for entry in ledger.journal] == list(range(1, len(times) + 1))


@many
@given(histories)
def test_a_scope_never_has_less_room_than_the_short_cut_believes(actions: list) -> None:
    """C3: a run that is booked at once moves no cap."""
    tell(actions, OrgLedger("acme"), lambda ledger, now_us: assert_rooms(ledger.books, max(now_us, ledger.books.recorded_us)))


@many
@given(histories, st.data())
def test_any_cut_into_batches_gives_the_journal_of_one_command_at_a_time(actions: list, data: st.DataObject) -> None:
    """J1: a batch takes short cuts; the entries that come out are the same."""
    one_by_one, batched = OrgLedger("acme"), OrgLedger("acme")
    told = tell(actions, one_by_one)
    for now_us, commands in cut(told, data):
        batched.send(commands, now_us)
    assert batched.journal == one_by_one.journal


def cut(told: list[Told], data: st.DataObject) -> list[Told]:
    """Commands of the same instant drawn together into batches."""
    batches: list[Told] = []
    for now_us, commands in told:
        if batches and batches[-1][0] == now_us and batches[-1][1] and commands and data.draw(st.integers(0, 4)):
            batches[-1] = (now_us, (*batches[-1][1], *commands))
        else:
            batches.append((now_us, commands))
    return batches


@many
@given(histories, st.randoms(use_true_random=False))
def test_anything_sent_again_is_no_entry_and_no_effect(actions: list, random: object) -> None:
    """J2: any subset, in any order, is a duplicate of itself."""
    ledger = OrgLedger("acme")
    told = tell(actions, ledger)
    booked = {entry.command.digest: entry.command for entry in ledger.journal if isinstance(entry, e.UsageRecorded)}
    sent = {c.digest: c for _, commands in told for c in commands if isinstance(c, CorrectUsage) and c.digest in ledger.known}
    again: list[Command] = [*booked.values(), *[c for c in sent.values() if ledger.prices.get(c.entry) == c.cost]]
    random.shuffle(again)  # type: ignore[attr-defined]
    before, rows = list(ledger.journal), deepcopy(rows_of(ledger.books))
    results = ledger.send(again, told[-1][0])
    assert ledger.journal == before
    assert rows_of(ledger.books) == rows
    usage = [result for result, command in zip(results, again, strict=True) if isinstance(command, RecordUsage)]
    assert all(result.status is Status.DUPLICATE for result in usage)


@many
@given(histories, histories)
def test_the_order_across_orgs_does_not_matter(first: list, second: list) -> None:
    """J1: one org, one sequence; a neighbour before, between or after changes no entry."""
    alone = {org: OrgLedger(org) for org in ("a", "b")}
    told = {"a": tell(first, alone["a"]), "b": tell(second, alone["b"])}
    mixed = {org: OrgLedger(org) for org in ("a", "b")}
    for now_us, name, n in sorted((now_us, org, n) for org, lines in told.items() for n, (now_us, _) in enumerate(lines)):
        mixed[name].send(told[name][n][1], now_us)
    assert {org: ledger.journal for org, ledger in mixed.items()} == {org: ledger.journal for org, ledger in alone.items()}


@many
@given(histories)
def test_parts_add_up_to_the_nano(actions: list) -> None:
    """M7: org = workspaces = keys per day; a longer window that a cap is judged by = its days."""
    tell(actions, OrgLedger("acme"), lambda ledger, _: assert_parts_add_up(ledger.books))


@many
@given(without_zones)
def test_a_breach_is_open_exactly_while_its_level_is_reached(actions: list) -> None:
    """C3, C4, C5, C10, and K1 for every key: against what the journal alone says."""
    tell(actions, OrgLedger("acme"), lambda ledger, now_us: assert_levels(ledger.books, ledger.journal, now_us))


@many
@given(histories)
def test_levels_hold_through_changes_of_zone(actions: list) -> None:
    """W4: what was booked stays on its day; caps are evaluated anew, also where that day has yet to begin."""
    tell(actions, OrgLedger("acme"), lambda ledger, now_us: assert_levels(ledger.books, ledger.journal, now_us))


@many
@given(histories)
def test_a_threshold_speaks_once_per_cap_window_and_limit(actions: list) -> None:
    """C6; a window is its period, start and end (W1)."""
    ledger = OrgLedger("acme")
    tell(actions, ledger)
    said = [
        (entry.cap_id, entry.period, entry.start_us, entry.end_us, entry.limit, entry.percent)
        for entry in ledger.journal
        if isinstance(entry, e.ThresholdReached)
    ]
    assert len(said) == len(set(said)), max(said, key=said.count)


@many
@given(histories)
def test_ordinals_go_on_and_revisions_go_up(actions: list) -> None:
    """C3: an ordinal is never used again. K3: a revision of a key neither."""
    ledger = OrgLedger("acme")
    tell(actions, ledger)
    ordinals: dict[str, list[int]] = {}
    revisions: dict[str, list[int]] = {}
    for entry in ledger.journal:
        if isinstance(entry, e.CapBreached):
            ordinals.setdefault(entry.cap_id, []).append(entry.ordinal)
        elif isinstance(entry, e.KeyStateChanged):
            revisions.setdefault(entry.key, []).append(entry.revision)
    assert all(seen == list(range(1, len(seen) + 1)) for seen in ordinals.values())
    assert all(seen == sorted(set(seen)) for seen in revisions.values())


@many
@given(histories)
def test_no_more_breaches_stop_keys_within_a_minute_than_the_brake_lets(actions: list) -> None:
    """K4: the rest wait, until a person says otherwise; nothing that only alerts or observes counts or waits."""
    ledger = OrgLedger("acme")
    tell(actions, ledger)
    brake, times = BRAKE, list[int]()
    for entry in ledger.journal:
        if isinstance(entry, e.OrgOpened | e.OrgChanged):
            brake = entry.brake
        elif isinstance(entry, e.CapBreached):
            stops = entry.enforce is Enforce.ON and entry.action is not Action.ALERT
            recent = [at for at in times if at > entry.recorded_us - MINUTE]
            assert (entry.waits is Waits.ALL) is (stops and len(recent) >= brake)
            times += [entry.recorded_us] * stops


@many
@given(histories)
def test_books_loaded_anew_for_every_batch_give_the_same_entries(actions: list) -> None:
    """`needs` names every sum that `execute` looks at: a process that has just started never raises NotLoaded."""
    play_both(actions, cold=True)


@many
@given(histories)
def test_books_kept_between_batches_give_the_same_entries(actions: list) -> None:
    """What stays in memory stays true, or is loaded again."""
    play_both(actions, cold=False)


@many
@given(crowded, st.booleans(), st.data())
def test_books_loaded_for_a_whole_run_of_usage_give_the_same_entries(actions: list, cold: bool, data: st.DataObject) -> None:
    """`needs` does not know which of a run's events will be the first of an unknown key, and decide its workspace (S3)."""
    both = Both("acme", cold)
    for now_us, commands in cut(tell(actions, OrgLedger("acme")), data):
        both.send(commands, now_us)


@given(st.sampled_from(Period), st.integers(-(2**40), 2**44))
def test_now_is_always_inside_its_own_window(period: Period, seconds: int) -> None:
    """W1."""
    us = seconds * 1000
    window = window_at(period, us, "America/New_York")
    assert window.start_us <= us < window.end_us
