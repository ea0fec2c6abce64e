"""Owns how each order of a person or a program is carried out: which entries it becomes, or why it is refused.

Usage is not here: a fact is never refused (S3). Each function emits, settles what its change touches, and returns a
Result, or a Reject before anything was emitted.
"""

from collections.abc import Callable
from typing import Any

from . import charging, levels, policies
from . import commands as c
from . import entries as e
from .answers import Answer, done, missing, open_org, outdated, resettle
from .batch import RECORDED, Batch
from .books import ORG, Books
from .caps import Action, Enforce, Verdict, Waits
from .commands import Reason, Reject
from .keys import UNASSIGNED, Key, State, may_become
from .labels import changes, standing
from .window import day_at, is_zone


def _capped(books: Books) -> list[str]:
    return [scope for scope in levels.all_scopes(books) if books.caps_on(scope)]


def set_org(batch: Batch, command: c.SetOrg) -> Answer:
    """Opens or changes the org; a new zone affects later entries and evaluates caps anew (W4)."""
    books = batch.books
    zone = command.time_zone or books.zone
    enforce = books.enforce if command.enforce is None else command.enforce
    brake = books.brake if command.brake is None else command.brake
    if not is_zone(zone):
        return Reject(reason=Reason.MALFORMED, detail=f"time_zone: {zone!r} is not in the tz database")
    if stale := outdated(command.version, books.org_seq):
        return stale
    wish = {"time_zone": zone, "enforce": enforce, "brake": brake, "by": command.by}
    start = len(batch.entries)
    if not books.seq:
        batch.emit(e.OrgOpened, **wish)
    elif (books.zone, books.enforce, books.brake) != (zone, enforce, brake):
        was = {"was_time_zone": books.zone, "was_enforce": books.enforce, "was_brake": books.brake}
        batch.emit(e.OrgChanged, **wish, **was, openings=batch.found.openings)
        resettle(batch, _capped(books))
    _set_labels(batch, ORG, command)
    return RECORDED if len(batch.entries) == start else done(books.org_seq)


def _set_labels(batch: Batch, scope: str, command: c.Labelled) -> None:
    """Brings a scope's labels to what an order says of them, from a day on (S9)."""
    if command.labels is None:
        return
    labels = batch.books.labels.get(scope, {})
    day = day_at(batch.now_us, batch.books.zone) if command.since is None else command.since
    if changed := changes(labels, command.labels, day):
        was = {name: standing(labels.get(name, ()), day) for name in changed}
        batch.emit(e.LabelsSet, scope=scope, labels=changed, was=was, since=day, by=command.by)


def _open_workspace(batch: Batch, workspace: str, by: str) -> None:
    batch.emit(e.WorkspaceOpened, workspace=workspace, by=by)
    resettle(batch, [f"workspace:{workspace}"])


def set_workspace(batch: Batch, command: c.SetWorkspace) -> Answer:
    """Opens a workspace, and sets its labels (S9)."""
    stands = batch.books.workspaces.get(command.workspace)
    if stale := outdated(command.version, stands.seq if stands else 0):
        return stale
    open_org(batch, command.by)
    start = len(batch.entries)
    if stands is None or stands.deleted:
        _open_workspace(batch, command.workspace, command.by)
    _set_labels(batch, f"workspace:{command.workspace}", command)
    return RECORDED if len(batch.entries) == start else done(batch.books.workspaces[command.workspace].seq)


def remove_workspace(batch: Batch, command: c.RemoveWorkspace) -> Answer:
    """Closes a workspace with no keys left."""
    books, name = batch.books, command.workspace
    stands = books.workspaces.get(name)
    if stands is None or stands.deleted:
        return missing("workspace", name)
    if stale := outdated(command.version, stands.seq):
        return stale
    left = [key for key in books.members.get(name, ()) if not books.keys[key].deleted]
    if left:
        return Reject(reason=Reason.CONFLICT, detail=f"{len(left)} keys are still in workspace {name!r}: move or delete them")
    return done(batch.emit(e.WorkspaceClosed, workspace=name, by=command.by))


def set_key(batch: Batch, command: c.SetKey) -> Answer:
    """Registers a key, moves it (S4), or changes its credentials (S1)."""
    books = batch.books
    key = books.keys.get(command.key)
    if stale := outdated(command.version, key.seq if key else 0):
        return stale
    if refused := _bad_credentials(books, command, key):
        return refused
    open_org(batch, command.by)
    home = command.workspace or (key.workspace if key else UNASSIGNED)
    start = len(batch.entries)
    if home not in books.workspaces or books.workspaces[home].deleted:
        _open_workspace(batch, home, command.by)
    if key is None or key.deleted:
        batch.emit(e.KeyRegistered, key=command.key, workspace=home, by=command.by)
    if key is not None and key.workspace != home:
        batch.emit(e.KeyMoved, key=command.key, workspace=home, was=key.workspace, by=command.by, openings=batch.found.openings)
    told = _set_credentials(batch, command)
    _set_labels(batch, f"key:{command.key}", command)
    if len(batch.entries) == start:
        return RECORDED
    revision = books.keys[command.key].revision
    resettle(batch, [f"key:{command.key}"])
    now = books.keys[command.key]
    if (told or key is None) and now.revision == revision and (revision or now.state is not State.ACTIVE):
        levels.turn(books, now, now.state, levels.reasons(books, now), batch.emit)  # the newcomer is told too (K3)
    return done(books.keys[command.key].seq)


def _bad_credentials(books: Books, command: c.SetKey, key: Key | None) -> Reject | None:
    if key is not None and key.alias_of is not None:
        return Reject(reason=Reason.CONFLICT, detail=f"key {command.key!r} is an alias of {key.alias_of!r}: change that one")
    if command.key in books.credentials:
        owner = books.credentials[command.key]
        return Reject(reason=Reason.CONFLICT, detail=f"{command.key!r} is a credential of key {owner!r}")
    for name in command.credentials or ():
        owner = books.credentials.get(name, command.key)
        stranger = books.keys.get(name)
        linked = stranger is not None and stranger.alias_of == command.key
        declared = stranger is not None and (stranger.by is not None or bool(books.names.get(name)) or name in books.aliases)
        if owner != command.key or (declared and not linked) or name == command.key:
            return Reject(reason=Reason.CONFLICT, detail=f"credentials: {name!r} already belongs to a key of its own")
    kept = command.credentials
    gone = [name for name in books.aliases.get(command.key, ()) if kept is not None and name not in kept]
    if gone:
        return Reject(reason=Reason.CONFLICT, detail=f"credentials: {gone[0]!r} is an alias with spend of its own: keep it")
    return None


def _set_credentials(batch: Batch, command: c.SetKey) -> bool:
    """Adds and removes credentials; whether any was added."""
    if command.credentials is None:
        return False
    had = batch.books.credentials_of(command.key)[1:]
    added = [name for name in dict.fromkeys(command.credentials) if name not in had]
    for name in added:
        batch.emit(e.CredentialAdded, key=command.key, credential=name, by=command.by, openings=batch.found.openings)
    for name in had:
        if name not in command.credentials:
            batch.emit(e.CredentialRemoved, key=command.key, credential=name, by=command.by)
    return bool(added)


def remove_key(batch: Batch, command: c.RemoveKey) -> Answer:
    """Takes a key off the lists; nothing of its spend or caps changes (S4)."""
    key = batch.books.keys.get(command.key)
    if key is None or key.deleted:
        return missing("key", command.key)
    if stale := outdated(command.version, key.seq):
        return stale
    return done(batch.emit(e.KeyRemoved, key=command.key, by=command.by))


def turn_key(batch: Batch, command: c.TurnKey) -> Answer:
    """A person pauses, resumes or revokes a key; a resume lifts a person's hold and waits, never a breach (K2)."""
    books = batch.books
    key = books.resolve(command.key)
    if key is None:
        return missing("key", command.key)
    if key.state is not command.state and not may_become(key.state, command.state):
        return Reject(reason=Reason.CONFLICT, detail=f"key {key.key_id!r} is {key.state}, which is final")
    if command.state is State.REVOKED:
        if key.state is State.REVOKED:
            return RECORDED
        levels.turn(books, key, State.REVOKED, (f"revoked:{command.by}: {command.why}",), batch.emit, by=command.by)
        return done(books.seq)
    if command.state is State.PAUSED:
        if key.held is not None:
            return RECORDED
        seq = batch.emit(e.KeyHeld, key=key.key_id, by=command.by, why=command.why)
    else:
        if key.held is None and not any(key.key_id in waiting for waiting in books.waits.values()):
            return RECORDED
        seq = batch.emit(e.KeyReleased, key=key.key_id, by=command.by, why=command.why)
    levels.want(books, (key.key_id,), batch.emit)
    return done(seq)


def judge_breach(batch: Batch, command: c.JudgeBreach) -> Answer:
    """A person's word on what a breach waits with (K4): approved, its action is taken; rejected, it is not."""
    books, name = batch.books, f"{command.cap}/{command.ordinal}"
    breach = next((b for b in books.breaches.values() if (b.cap_id, b.ordinal) == (command.cap, command.ordinal)), None)
    if breach is None:
        return missing("open breach", name)
    if breach.waits is Waits.NOTHING:
        return Reject(reason=Reason.CONFLICT, detail=f"breach {name} waits for nobody")
    if breach.verdict is not None:
        same = breach.verdict is command.verdict
        return RECORDED if same else Reject(reason=Reason.CONFLICT, detail=f"{breach.judged_by} has {breach.verdict} it already")
    seq = batch.emit(
        e.BreachJudged, cap_id=command.cap, ordinal=command.ordinal, kind=breach.kind, verdict=command.verdict, by=command.by,
        why=command.why,
    )  # fmt: skip
    under = books.keys_under(breach.scope)
    cap = books.cap(command.cap)
    ends = cap is not None and levels.action_of(cap, breach.kind) is Action.REVOKE and levels.enforced(books, cap) is Enforce.ON
    if ends and command.verdict is Verdict.APPROVED:
        for key in [books.keys[key_id] for key_id in under]:
            if may_become(key.state, State.REVOKED):
                levels.turn(books, key, State.REVOKED, (f"approved:{command.by}: {command.why}",), batch.emit, by=command.by)
    levels.want(books, under, batch.emit)
    return done(seq)


def confirm_command(batch: Batch, command: c.ConfirmCommand) -> Answer:
    """A gateway's answer to a key command becomes an entry (J1); said twice, it changes nothing."""
    books = batch.books
    if command.key not in books.keys:
        return missing("key", command.key)
    if command.revision > books.keys[command.key].revision:
        return Reject(reason=Reason.CONFLICT, detail=f"revision {command.revision} was never sent for key {command.key!r}")
    said = books.confirmations.get((command.key, command.credential, command.connection))
    if said is not None and (said.revision, said.state, said.mark) == (command.revision, command.state, command.mark):
        return RECORDED
    return done(
        batch.emit(
            e.CommandConfirmed, key=command.key, credential=command.credential, connection=command.connection,
            revision=command.revision, state=command.state, mark=command.mark, by=command.by,
        )
    )  # fmt: skip


CARRY_OUT: dict[type, Callable[[Batch, Any], Answer]] = {
    c.SetOrg: set_org,
    c.SetWorkspace: set_workspace,
    c.RemoveWorkspace: remove_workspace,
    c.SetKey: set_key,
    c.RemoveKey: remove_key,
    c.SetCap: policies.set_cap,
    c.RemoveCap: policies.remove_cap,
    c.SetGuardrail: policies.set_guardrail,
    c.RemoveGuardrail: policies.remove_guardrail,
    c.SetConnection: policies.set_connection,
    c.RemoveConnection: policies.remove_connection,
    c.TurnKey: turn_key,
    c.JudgeBreach: judge_breach,
    c.ConfirmCommand: confirm_command,
    c.CorrectUsage: charging.correct_usage,
    c.ShareCost: charging.share_cost,
}
