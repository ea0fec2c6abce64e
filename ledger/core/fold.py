"""Owns the fold: how each entry changes the books (J1). Live and replay share it; it decides nothing and refuses nothing.

`fold(Books(org), journal)` equals the books that `execute` left behind, to the last nano and the last state.
"""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from . import entries as e
from .books import Books, Said, SumKey
from .caps import Breach, Enforce, Sum, may_wait
from .keys import Confirmation, Key, Workspace
from .labels import amended
from .summing import by_scope, fold_usage, summed
from .window import MINUTE_US, Period


def fold(books: Books, entries: Iterable[e.Entry]) -> Books:
    """Applies entries, in sequence, to the books, and returns them.

    A run of usage is summed first: adding a sum is the same as adding its parts one by one.
    """
    run: list[e.UsageRecorded] = []
    for entry in entries:
        if type(entry) is e.UsageRecorded:
            run.append(entry)
            continue
        if run:
            fold_usage(books, run, by_scope(books, summed(run)))
            run = []
        APPLY[type(entry)](books, entry)
        if type(entry) not in NEWCOMERS:
            books.rooms.clear()
        books.seq, books.recorded_us = entry.seq, entry.recorded_us
    if run:
        fold_usage(books, run, by_scope(books, summed(run)))
    return books


def _org_opened(books: Books, entry: e.OrgOpened) -> None:
    books.zone, books.enforce, books.brake, books.org_seq = entry.time_zone, entry.enforce, entry.brake, entry.seq


def _org_changed(books: Books, entry: e.OrgChanged) -> None:
    if entry.enforce is Enforce.OBSERVE:
        for cap_id in list(books.waits):
            _forget_waits(books, cap_id)
    books.zone, books.enforce, books.brake, books.org_seq = entry.time_zone, entry.enforce, entry.brake, entry.seq
    _open_hours(books, entry.openings)


def _open_hours(books: Books, openings: Iterable[e.Opening]) -> None:
    for opening in openings:
        row = SumKey(opening.scope, Period.HOUR, opening.hour_us)
        books.put_sum(row, replace(opening.used))
        books.changed["hour", row] = None


def _workspace_opened(books: Books, entry: e.WorkspaceOpened) -> None:
    books.workspaces[entry.workspace] = Workspace(workspace_id=entry.workspace, seq=entry.seq)
    books.forget_policies(f"workspace:{entry.workspace}")
    books.changed["workspace", entry.workspace] = None


def _workspace_closed(books: Books, entry: e.WorkspaceClosed) -> None:
    books.workspaces[entry.workspace] = Workspace(workspace_id=entry.workspace, seq=entry.seq, deleted=True)
    books.changed["workspace", entry.workspace] = None


def _key_registered(books: Books, entry: e.KeyRegistered) -> None:
    before = books.keys.get(entry.key)
    if before is not None:  # taken off the lists once, and now registered again
        books.put_key(replace(before, deleted=False, seq=entry.seq))
        return
    key = Key(key_id=entry.key, workspace=entry.workspace, by=entry.by, seq=entry.seq, changed_us=entry.recorded_us)
    books.put_key(replace(key, revision=_heard(books, entry.key, entry.key)))
    books.forget_policies(f"key:{entry.key}")


def _heard(books: Books, name: str, key: str) -> int:
    """What was told to gateways and readers under a name before it was this key's: the next revision must be higher than that (K3), and
    a pause that was confirmed there is ours to undo (K2). The revision."""
    before = books.keys.get(books.left.pop(name, name))
    if before is None or before.key_id == key:
        return 0
    for way in ("", *books.connections):
        said = books.confirmations.get((before.key_id, name, way))
        if said is not None:
            books.confirmations[key, name, way] = replace(said, key=key)
            books.changed["confirmation", (key, name, way)] = None
    books.changed["credential", name] = None
    return before.revision


def _key_moved(books: Books, entry: e.KeyMoved) -> None:
    books.put_key(replace(books.keys[entry.key], workspace=entry.workspace, seq=entry.seq))
    books.forget_policies(f"key:{entry.key}")
    above = {cap.cap_id for cap in books.caps_above(books.keys[entry.key])}
    for cap_id in [cap_id for cap_id, waiting in books.waits.items() if entry.key in waiting and cap_id not in above]:
        _stop_waiting(books, cap_id, entry.key)  # it left those caps (S4), and what they waited for
    _open_hours(books, entry.openings)


def _credential_added(books: Books, entry: e.CredentialAdded) -> None:
    heard = _heard(books, entry.credential, entry.key)
    books.credentials[entry.credential] = entry.key
    books.names.setdefault(entry.key, {})[entry.credential] = None
    books.changed["credential", entry.credential] = None
    key, stranger = books.keys[entry.key], books.keys.get(entry.credential)
    books.put_key(replace(key, seq=entry.seq, revision=max(key.revision, heard)))
    if stranger is not None:
        books.put_key(replace(stranger, alias_of=entry.key))
        books.forget_policies(f"key:{entry.key}", f"key:{stranger.key_id}")
        _open_hours(books, entry.openings)


def _credential_removed(books: Books, entry: e.CredentialRemoved) -> None:
    del books.credentials[entry.credential], books.names[entry.key][entry.credential]
    books.left[entry.credential] = entry.key
    books.changed["credential", entry.credential] = None
    books.put_key(replace(books.keys[entry.key], seq=entry.seq))


def _key_removed(books: Books, entry: e.KeyRemoved) -> None:
    books.put_key(replace(books.keys[entry.key], deleted=True, seq=entry.seq))


def _labels_set(books: Books, entry: e.LabelsSet) -> None:
    labels = books.labels.setdefault(entry.scope, {})
    for name, value in entry.labels.items():
        labels[name] = amended(labels.get(name, ()), entry.since, value)
        books.changed["label", (entry.scope, name, entry.since)] = None
    kind, _, subject = entry.scope.partition(":")
    if kind == "key":
        books.put_key(replace(books.keys[subject], seq=entry.seq))
    elif kind == "workspace":
        books.workspaces[subject] = replace(books.workspaces[subject], seq=entry.seq)
        books.changed["workspace", subject] = None
    else:
        books.org_seq = entry.seq


def _cap_set(books: Books, entry: e.CapSet) -> None:
    books.put_cap(entry.cap, entry.was)
    if entry.was is not None and (entry.was.scope != entry.cap.scope or not may_wait(entry.cap.rule)):
        _forget_waits(books, entry.cap.cap_id)
    _open_hours(books, entry.openings)


def _cap_removed(books: Books, entry: e.CapRemoved) -> None:
    books.put_cap(None, entry.cap)
    _forget_waits(books, entry.cap.cap_id)


def _guardrail_set(books: Books, entry: e.GuardrailSet) -> None:
    books.guardrails[entry.guardrail.guardrail_id] = entry.guardrail
    books.forget_policies()
    books.changed["guardrail", entry.guardrail.guardrail_id] = None
    for cap_id in [cap_id for cap_id in books.waits if cap_id.startswith(f"{entry.guardrail.guardrail_id}/")]:
        if books.cap(cap_id) is None or not may_wait(entry.guardrail.rule):
            _forget_waits(books, cap_id)
    _open_hours(books, entry.openings)


def _guardrail_removed(books: Books, entry: e.GuardrailRemoved) -> None:
    rail = entry.guardrail.guardrail_id
    del books.guardrails[rail]
    books.forget_policies()
    books.changed["guardrail", rail] = None
    for cap_id in [cap_id for cap_id in books.waits if cap_id.startswith(f"{rail}/")]:
        _forget_waits(books, cap_id)


def _connection_set(books: Books, entry: e.ConnectionSet) -> None:
    books.connections[entry.connection.connection_id] = entry.connection
    books.changed["connection", entry.connection.connection_id] = None


def _connection_removed(books: Books, entry: e.ConnectionRemoved) -> None:
    del books.connections[entry.connection.connection_id]
    books.changed["connection", entry.connection.connection_id] = None


def _threshold_reached(books: Books, entry: e.ThresholdReached) -> None:
    said = Said(entry.start_us, entry.end_us, entry.limit, entry.percent)
    still = (word for word in books.spoken.get(entry.cap_id, ()) if word.end_us > entry.recorded_us)
    books.spoken[entry.cap_id] = frozenset({*still, said})
    books.changed["spoken", entry.cap_id] = None


def _cap_breached(books: Books, entry: e.CapBreached) -> None:
    breach = Breach(
        cap_id=entry.cap_id, ordinal=entry.ordinal, kind=entry.kind, scope=entry.scope, period=entry.period,
        start_us=entry.start_us, end_us=entry.end_us, limit=entry.limit, spent=entry.spent, unpriced=entry.unpriced,
        action=entry.action, enforce=entry.enforce, entry=entry.entry, waits=entry.waits, opened_us=entry.recorded_us,
    )  # fmt: skip
    if breach.stops:
        books.stops.append(entry.recorded_us)
        while books.stops[0] <= entry.recorded_us - MINUTE_US:
            books.stops.popleft()
    books.breaches[entry.cap_id, entry.kind] = breach
    books.ordinals[entry.cap_id] = entry.ordinal
    books.changed["breach", (entry.cap_id, entry.ordinal)] = None
    books.history[entry.cap_id, entry.ordinal] = breach


def _breach_judged(books: Books, entry: e.BreachJudged) -> None:
    breach = replace(books.breaches[entry.cap_id, entry.kind], verdict=entry.verdict, judged_by=entry.by)
    books.breaches[entry.cap_id, entry.kind] = books.history[entry.cap_id, entry.ordinal] = breach
    books.changed["breach", (entry.cap_id, entry.ordinal)] = None


def _cap_cleared(books: Books, entry: e.CapCleared) -> None:
    breach = books.breaches.pop((entry.cap_id, entry.kind))
    books.changed["breach", (entry.cap_id, entry.ordinal)] = None
    books.history[entry.cap_id, entry.ordinal] = replace(breach, closed_us=entry.recorded_us, reason=entry.reason)
    for key in entry.waiting:
        books.waits.setdefault(entry.cap_id, set()).add(key)
        books.changed["wait", (entry.cap_id, key)] = None


def _key_held(books: Books, entry: e.KeyHeld) -> None:
    books.put_key(replace(books.keys[entry.key], held=f"{entry.by}: {entry.why}"))


def _key_released(books: Books, entry: e.KeyReleased) -> None:
    books.put_key(replace(books.keys[entry.key], held=None))
    for cap_id in [cap_id for cap_id, waiting in books.waits.items() if entry.key in waiting]:
        _stop_waiting(books, cap_id, entry.key)


def _stop_waiting(books: Books, cap_id: str, key: str) -> None:
    books.waits[cap_id].discard(key)
    if not books.waits[cap_id]:
        del books.waits[cap_id]
    books.changed["wait", (cap_id, key)] = None


def _forget_waits(books: Books, cap_id: str) -> None:
    for key in sorted(books.waits.pop(cap_id, ())):
        books.changed["wait", (cap_id, key)] = None


def _key_state_changed(books: Books, entry: e.KeyStateChanged) -> None:
    key = books.keys[entry.key]
    if entry.state is not key.state:
        key = replace(key, state=entry.state, changed_us=entry.recorded_us, leaking=False)
    books.put_key(replace(key, revision=entry.revision))


def _key_leaking(books: Books, entry: e.KeyLeaking) -> None:
    books.put_key(replace(books.keys[entry.key], leaking=True))


def _command_confirmed(books: Books, entry: e.CommandConfirmed) -> None:
    at = (entry.key, entry.credential, entry.connection)
    before = books.confirmations.get(at)
    if before is None or before.revision <= entry.revision:  # a late answer to an older command changes nothing (K3)
        books.confirmations[at] = Confirmation(
            key=entry.key, credential=entry.credential, connection=entry.connection, revision=entry.revision, state=entry.state,
            mark=entry.mark, confirmed_us=entry.recorded_us,
        )  # fmt: skip
        books.changed["confirmation", at] = None


def _usage_corrected(books: Books, entry: e.UsageCorrected) -> None:
    delta = Sum(spent=entry.cost, unpriced=entry.unpriced)
    books.taken_back += max(0, -entry.cost)
    for scope in books.scopes_of(entry.key, entry.workspace):
        books.book(scope, entry.day, entry.hour_us, delta)


def _cost_shared(books: Books, entry: e.CostShared) -> None:
    """Its parts are entries of their own."""


def _share_booked(books: Books, entry: e.ShareBooked) -> None:
    for scope in books.scopes_of("", entry.workspace):
        books.book(scope, entry.day, None, Sum(spent=entry.cost))
    books.latest_day = max(books.latest_day, entry.day)  # after a change of zone it may be tomorrow (W4)


APPLY: dict[type, Callable[[Books, Any], None]] = {
    e.OrgOpened: _org_opened,
    e.OrgChanged: _org_changed,
    e.WorkspaceOpened: _workspace_opened,
    e.WorkspaceClosed: _workspace_closed,
    e.KeyRegistered: _key_registered,
    e.KeyMoved: _key_moved,
    e.CredentialAdded: _credential_added,
    e.CredentialRemoved: _credential_removed,
    e.KeyRemoved: _key_removed,
    e.CapSet: _cap_set,
    e.CapRemoved: _cap_removed,
    e.GuardrailSet: _guardrail_set,
    e.GuardrailRemoved: _guardrail_removed,
    e.ConnectionSet: _connection_set,
    e.ConnectionRemoved: _connection_removed,
    e.ThresholdReached: _threshold_reached,
    e.CapBreached: _cap_breached,
    e.BreachJudged: _breach_judged,
    e.CapCleared: _cap_cleared,
    e.KeyHeld: _key_held,
    e.KeyReleased: _key_released,
    e.KeyStateChanged: _key_state_changed,
    e.KeyLeaking: _key_leaking,
    e.CommandConfirmed: _command_confirmed,
    e.UsageCorrected: _usage_corrected,
    e.LabelsSet: _labels_set,
    e.CostShared: _cost_shared,
    e.ShareBooked: _share_booked,
}

NEWCOMERS = (e.KeyRegistered, e.WorkspaceOpened)  # they come under what was known of them before: no room changes
