"""Owns the decision: which entries a batch of commands becomes (J1). Pure and synchronous; time and what was found in the
journal are arguments.

`execute` is made of `fold`: what it decides, it folds at once, and looks at the books that result. A batch of usage takes
a short cut: it is summed first, and only a run that would move a breach or a threshold is cut in halves, down to single
events; the entries that come out are the same as one by one.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby

from . import entries as e
from . import levels
from .batch import RECORDED, Batch, Found
from .books import ORG, Books
from .caps import Cap, Sum
from .commands import Command, Reason, RecordUsage, Reject, Result, Status
from .keys import UNASSIGNED
from .orders import CARRY_OUT
from .summing import ScopeSlot, by_scope, fold_usage, summed
from .window import HOUR_US, Calendar, Period, Window, window_at, windows_at

AHEAD_US = 5 * 60 * 1_000_000  # W3
YEAR_2000_US = 946_684_800_000_000  # W3
GRACE_US = 60 * 1_000_000  # for a gateway that caches what it was told (K6)
_TOO_MUCH = Result(
    Status.REJECTED, Reason.TOO_MUCH,
    "takes its org past a billion dollars, or a quintillion tokens, in a day, or past four of them in its life, or past eight billion "
    "dollars with what corrections took back",
)  # fmt: skip


def execute(books: Books, commands: Sequence[Command], now_us: int, found: Found) -> Batch:
    """Carries out commands of one org at one instant, moving its books forward.

    First what is due by now (W5): ended windows clear. Then each command in order. The books given are used up: they are
    those of after. Raises NotLoaded where a sum is missing that `needs` names.
    """
    batch = Batch(books, now_us, found)
    tick(batch)
    for kind, run in groupby(commands, type):
        if kind is RecordUsage:
            record_run(batch, list(run))  # type: ignore[arg-type]
            continue
        for command in run:
            outcome = CARRY_OUT[kind](batch, command)
            batch.results.append(outcome if isinstance(outcome, Result) else _refused(outcome))
    return batch


def _refused(reject: Reject) -> Result:
    return Result(Status.REJECTED, reject.reason, reject.detail)


def tick(batch: Batch) -> None:
    """What the clock has done since the org's last entry: windows that ended, and usage that was booked ahead (W5)."""
    books, now_us = batch.books, batch.now_us
    if not books.seq:
        return
    due = {breach.scope: None for breach in books.breaches.values() if breach.end_us <= now_us}
    due.update(dict.fromkeys(came_due(books, now_us)))
    if due:
        order = {scope: n for n, scope in enumerate(levels.all_scopes(books))}
        batch.settle(*sorted(due, key=lambda scope: order.get(scope, 0)))


def came_due(books: Books, now_us: int) -> list[str]:
    """Scopes with usage booked ahead of the last entry's day or hour, where a new one has begun since."""
    after = ahead(books, now_us)
    if not after:
        return []
    found = {key.scope for key in books.sums if key.period in after and key.start > after[key.period]}
    return sorted({*found, *map(books.owner, found)})


def ahead(books: Books, now_us: int) -> dict[Period, int]:
    """By day and hour, the start after which usage was booked ahead and has come due; mostly nothing."""
    after: dict[Period, int] = {}
    if not books.seq:
        return after
    was = window_at(Period.DAY, books.recorded_us, books.zone)
    if books.latest_day > was.start and was.end_us <= now_us:
        after[Period.DAY] = was.start
    if books.latest_us > books.recorded_us and books.counts_hours():
        hour = window_at(Period.HOUR, books.recorded_us, books.zone)
        if hour.end_us <= now_us:
            after[Period.HOUR] = hour.start
    return after


def record_run(batch: Batch, commands: Sequence[RecordUsage]) -> None:
    """Books a run of usage: decides each event's status, key and day, then books what is new."""
    books, known, now_us, seen, results = batch.books, batch.found.known, batch.now_us, batch.seen, batch.results
    keys, calendar = dict[str, tuple[str, str]](), Calendar(books.zone, books.counts_hours())
    batch.leaks, batch.refused = {}, set()
    latest_us, low_us, high_us = now_us + AHEAD_US, 0, 0
    fresh: list[e.UsageRecorded] = []
    if not books.seq and any(YEAR_2000_US <= command.time_us <= latest_us for command in commands):
        batch.emit(e.OrgOpened, time_zone="UTC", enforce=books.enforce, brake=books.brake, by=None)
    for command in commands:
        digest, time_us = command.digest, command.time_us
        if not low_us <= time_us < high_us:
            if not YEAR_2000_US <= time_us <= latest_us:
                results.append(_mistimed(time_us))
                continue
            calendar.locate(time_us)
            low_us, high_us = max(calendar.low_us, YEAR_2000_US), min(calendar.high_us, latest_us + 1)
        if digest in seen or digest in known:
            results.append(_repeat(command, batch.first(digest)))
            continue
        usage = command.usage
        owner = keys.get(usage.key)
        if owner is None:
            owner = keys[usage.key] = _owner(books, command)
            _suspect(batch, owner[0], usage.key)
        key, workspace = owner
        if usage.workspace != workspace and usage.workspace is not None:
            batch.mismatches += 1
        entry = seen[digest] = e.UsageRecorded(0, now_us, calendar.day, calendar.hour, key, workspace, command)
        fresh.append(entry)
        results.append(RECORDED)
    batch.late += sum([entry.command.time_us < now_us - HOUR_US for entry in fresh])
    first = len(results) - len(commands)
    _book(batch, fresh)
    if batch.refused:
        for place, command in enumerate(commands, first):
            if command.digest in batch.refused:
                results[place] = _TOO_MUCH


def _mistimed(time_us: int) -> Result:
    """Of a time outside W3's bounds."""
    if time_us < YEAR_2000_US:
        return Result(Status.REJECTED, Reason.BEFORE_2000, "time: is before the year 2000")
    return Result(Status.PARKED, Reason.IN_THE_FUTURE)


def _repeat(command: RecordUsage, first: e.Entry) -> Result:
    """J2: the parsed fields as sent are compared; how an amount was written is not a difference."""
    same = (
        isinstance(first, e.UsageRecorded)
        and command.time_us == first.command.time_us
        and command.cost == first.command.cost
        and command.upstream == first.command.upstream
        and command.usage == first.command.usage
    )
    return Result(Status.DUPLICATE if same else Status.EXISTS_WITH_DIFFERENT_CONTENT, seq=first.seq or None)


def _owner(books: Books, command: RecordUsage) -> tuple[str, str]:
    """The key and workspace that an event is booked to; for a key that nobody knows, those it will be given (S3, S4)."""
    key = books.resolve(command.usage.key)
    if key is not None:
        return key.key_id, key.workspace
    return command.usage.key, command.usage.workspace or UNASSIGNED


def _suspect(batch: Batch, key_id: str, name: str) -> None:
    """Notes from when on a call of a stopped key is a leak (K6)."""
    key = batch.books.keys.get(key_id)
    stopped_us = None if key is None else levels.stopped_us(batch.books, key, name)
    if key is not None and stopped_us is not None:
        batch.leaks[name] = (stopped_us, key.revision)


def _leaks(batch: Batch, entry: e.UsageRecorded) -> bool:
    leak = batch.leaks.get(entry.command.usage.key)
    if leak is None or _began_us(entry) < leak[0] + GRACE_US:
        return False
    return batch.books.keys[entry.key].revision == leak[1]  # else something else is wanted of it since, and not confirmed


def _began_us(entry: e.UsageRecorded) -> int:
    """When a call began; its end, where that is all that is known."""
    began_us = entry.command.usage.started_us
    return entry.command.time_us if began_us is None else began_us


def _tell_leak(batch: Batch, entry: e.UsageRecorded) -> None:
    """A call that should not have been: alerted, and the key's state sent again (K6)."""
    books, name = batch.books, entry.command.usage.key
    key = books.keys[entry.key]
    batch.emit(
        e.KeyLeaking, key=key.key_id, credential=name, revision=key.revision, entry=entry.seq, started_us=_began_us(entry),
        confirmed_us=batch.leaks[name][0],
    )  # fmt: skip
    key = books.keys[entry.key]
    levels.turn(books, key, key.state, (*levels.reasons(books, key), "leaking"), batch.emit)


def _book(batch: Batch, run: list[e.UsageRecorded]) -> None:
    """Books a run at once where no cap would be moved by it, else by halves, so that the event that crosses stands alone."""
    if not run:
        return
    books = batch.books
    sums = by_scope(books, summed(run))
    days = _days(sums)
    bursts = batch.bursts(days)
    if bursts and len(run) == 1:
        batch.refuse(run[0])
        return
    leaks = bool(batch.leaks) and any(_leaks(batch, entry) for entry in run)
    moves = not bursts and _moves(batch, run, sums)
    if (bursts or moves or leaks) and len(run) > 1:
        half = len(run) // 2
        _book(batch, run[:half])
        _book(batch, run[half:])
        return
    seq, keys = books.seq, books.keys
    for entry in run:
        if entry.key not in keys:
            seq = _register(batch, entry, seq)
        seq += 1
        entry.seq = seq
        batch.entries.append(entry)
    fold_usage(books, run, sums)
    for part in days.values():
        batch.usage.add(part)
    if leaks:
        _tell_leak(batch, run[0])
    if moves:
        entry = run[0]
        batch.settle(*books.scopes_of(entry.key, entry.workspace), entry=entry.seq)


def _days(sums: dict[ScopeSlot, Sum]) -> dict[int, Sum]:
    """What a run is to the whole org, by day."""
    days: dict[int, Sum] = {}
    for (scope, day, _), part in sums.items():
        if scope == ORG:
            days.setdefault(day, Sum()).add(part)
    return days


def _register(batch: Batch, entry: e.UsageRecorded, seq: int) -> int:
    """An unknown key registers itself, under a workspace opened if need be (S3); the seq after.

    Called between entries that are not folded yet: none of them counts for a scope that is settled here.
    """
    books = batch.books
    books.seq = seq
    stands = books.workspaces.get(entry.workspace)
    if stands is None or stands.deleted:
        batch.emit(e.WorkspaceOpened, workspace=entry.workspace, by=None)
        batch.settle(f"workspace:{entry.workspace}")
    batch.emit(e.KeyRegistered, key=entry.key, workspace=entry.workspace, by=None)
    scope, heard = f"key:{entry.key}", books.keys[entry.key].revision
    if books.breaches or any(not cap.rule.limit for cap in books.caps_on(scope)):  # else nothing stands against a key without usage
        batch.settle(scope, keys=(entry.key,))
    key = books.keys[entry.key]
    if heard and key.revision == heard:
        levels.turn(books, key, key.state, levels.reasons(books, key), batch.emit)  # what was told to its name before is over (K3)
    return books.seq


def _fits(batch: Batch, sums: dict[ScopeSlot, Sum], homes: dict[str, str], windows: Mapping[Period, Window]) -> bool:
    """Whether a run stays below what every scope has room for: mostly so, and one number a scope tells."""
    books = batch.books
    amounts: dict[str, int] = {}
    unpriced: set[str] = set()
    for (scope, _, _), part in sums.items():
        amounts[scope] = amounts.get(scope, 0) + part.spent + part.byok
        if part.unpriced:
            unpriced.add(scope)
    for scope, amount in amounts.items():
        room = books.rooms.get(scope)
        if room is None or room.until_us <= batch.now_us:
            room = books.rooms[scope] = levels.room(books, books.caps_on(scope, homes.get(scope)), windows)
        if amount >= room.left or (scope in unpriced and not room.unpriced):
            return False
    return True


def _moves(batch: Batch, run: list[e.UsageRecorded], sums: dict[ScopeSlot, Sum]) -> bool:
    """Whether a run of usage would move any cap of the scopes it counts for."""
    books = batch.books
    windows = windows_at(batch.now_us, books.zone)
    homes = {
        scope: entry.workspace for entry in run if entry.key not in books.keys for scope in books.scopes_of(entry.key, entry.workspace)
    }
    if _fits(batch, sums, homes, windows):
        return False
    deltas: dict[tuple[str, Period], Sum] = {}
    caps: dict[str, tuple[Cap, ...]] = {}
    for (scope, day, hour_us), part in sums.items():
        if scope not in caps:
            caps[scope] = books.caps_on(scope, homes.get(scope))
        for period in {cap.rule.period for cap in caps[scope]}:
            window = windows[period]
            at = hour_us if period is Period.HOUR else day
            if at is not None and window.start <= at < window.end:
                deltas.setdefault((scope, period), Sum()).add(part)
    return any(
        levels.would_move(books, cap, windows[cap.rule.period], deltas[scope, cap.rule.period])
        for scope, standing in caps.items()
        for cap in standing
        if (scope, cap.rule.period) in deltas
    )
