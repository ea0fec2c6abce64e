"""Complete books of one org with their journal, for tests: what `record` does around `execute`, in memory and naively.

Also the second opinion: what the journal alone says about spend, breaches and key states, worked out the slow way.
"""

from collections.abc import Callable, Iterable, Sequence

from ledger.core import entries as e
from ledger.core.batch import Found
from ledger.core.books import Books, SumKey
from ledger.core.caps import Action, Cap, Enforce, Kind, Resume, Sum, Verdict, Waits, level, total
from ledger.core.commands import IDENTIFIED, Command, ConfirmCommand, CorrectUsage, RecordUsage, Result
from ledger.core.execute import execute
from ledger.core.fold import fold
from ledger.core.keys import Key, State
from ledger.core.levels import room
from ledger.core.needs import needs
from ledger.core.window import Period, next_first_day, window_at, windows_at

MEMOS = {"sums", "changed", "complete", "_caps_on", "_newcomers", "_spans", "_hourly", "_kept", "rooms"}
Prepare = Callable[[Books, Sequence[Command], int, dict[int, e.Entry]], Books]


def rounds(commands: Sequence[Command]) -> list[list[Command]]:
    """Commands cut into runs of usage or confirmations and single orders, as `record` cuts them; nothing to do is one empty run."""
    runs: list[list[Command]] = []
    for command in commands:
        if runs and isinstance(command, RecordUsage | ConfirmCommand) and type(runs[-1][-1]) is type(command):
            runs[-1].append(command)
        else:
            runs.append([command])
    return runs or [[]]


class OrgLedger:
    """Books and journal of one org. `prepare` may give other books to execute on (partial ones)."""

    def __init__(self, org: str, prepare: Prepare | None = None) -> None:
        self.books = Books(org)
        self.journal: list[e.Entry] = []
        self.known: dict[bytes, int] = {}
        self.prices: dict[int, int] = {}
        self.prepare = prepare
        self.mismatches = 0

    def send(self, commands: Sequence[Command], now_us: int) -> list[Result]:
        """Executes commands at one instant; a result for each."""
        results: list[Result] = []
        for run in rounds(commands):
            found = self._found(run)
            if self.prepare is not None:
                self.books = self.prepare(self.books, run, now_us, dict(found.originals))
            wanted = needs(self.books, run, now_us, found.originals).hours
            if wanted is not None:
                found.openings = self._openings(*wanted, max(now_us, self.books.recorded_us))
            outcome = execute(self.books, run, now_us, found)
            self._keep(outcome.entries)
            self.mismatches += outcome.mismatches
            results += outcome.results
        return results

    def _found(self, run: Sequence[Command]) -> Found:
        digests = [command.digest for command in run if isinstance(command, IDENTIFIED)]
        known = {digest: self.known[digest] for digest in digests if digest in self.known}
        corrected = [command.entry for command in run if isinstance(command, CorrectUsage)]
        seqs = [seq for seq in {*known.values(), *corrected} if 0 < seq <= len(self.journal)]
        return Found(known=known, originals={seq: self.journal[seq - 1] for seq in seqs}, prices=dict(self.prices))

    def _keep(self, entries: Iterable[e.Entry]) -> None:
        for entry in entries:
            assert entry.seq == len(self.journal) + 1, f"J1: entry {entry.seq} follows {len(self.journal)}"
            self.journal.append(entry)
            if isinstance(entry, e.UsageRecorded):
                self.known[entry.command.digest] = entry.seq
            elif isinstance(entry, e.CostShared):
                self.known[entry.digest] = entry.seq
            elif isinstance(entry, e.UsageCorrected):
                self.known[entry.digest] = entry.seq
                self.prices[entry.corrects] = entry.price

    def _openings(self, scopes: Iterable[str], zone: str, now_us: int) -> tuple[e.Opening, ...]:
        present = window_at(Period.HOUR, now_us, zone)
        openings: list[e.Opening] = []
        for hour in (present, window_at(Period.HOUR, present.end_us, zone)):
            parts = [part for part in usage_of(self.journal) if hour.start_us <= part[1] < hour.end_us]
            for scope in scopes:
                used = total(part for _, _, scopes_, part in parts if scope in scopes_)
                openings += [e.Opening(scope, hour.start_us, used)] if used != Sum() else []
        return tuple(openings)


Part = tuple[int, int, tuple[str, ...], Sum]


def usage_of(journal: Sequence[e.Entry]) -> list[Part]:
    """(day, time, scopes, sum) of every usage entry and correction; a correction has those of what it corrects."""
    parts: list[Part] = []
    for entry in journal:
        if isinstance(entry, e.UsageRecorded):
            command, usage = entry.command, entry.command.usage
            part = Sum(
                spent=command.booked or 0,
                byok=(command.upstream or 0) if usage.byok else 0,
                unpriced=int(command.booked is None),
                requests=1,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
            )
            time_us = command.time_us
        elif isinstance(entry, e.UsageCorrected):
            part, first = Sum(spent=entry.cost, unpriced=entry.unpriced), journal[entry.corrects - 1]
            assert isinstance(first, e.UsageRecorded)
            time_us = first.command.time_us
        elif isinstance(entry, e.ShareBooked):  # of no key, and of no hour
            parts.append((entry.day, -1, ("key:", f"workspace:{entry.workspace}", "org"), Sum(spent=entry.cost)))
            continue
        else:
            continue
        parts.append((entry.day, time_us, (f"key:{entry.key}", f"workspace:{entry.workspace}", "org"), part))
    return parts


def standing_caps(books: Books) -> list[Cap]:
    """Every cap, explicit and by guardrail (S5)."""
    caps = list(books.caps.values())
    for rail in books.guardrails.values():
        homes = (
            {w: w for w in books.workspaces}
            if rail.each == "workspace"
            else {key.key_id: key.workspace for key in books.keys.values() if key.alias_of is None}
        )
        for subject, home in homes.items():
            if ("org" in rail.within or home in rail.within) and not {subject, home} & set(rail.except_):
                caps.append(rail.cap_for(f"{rail.each}:{subject}"))
    return caps


def used_by_journal(books: Books, parts: Sequence[Part], scope: str, period: Period, now_us: int) -> Sum:
    """A scope's usage in the window that contains now: by the booked day (W4), an hour by the event's time (W2)."""
    window = window_at(period, now_us, books.zone)
    scopes = set(books.parts(scope))
    if period is Period.HOUR:
        inside = [part for part in parts if window.start_us <= part[1] < window.end_us]
    else:
        inside = [part for part in parts if period is Period.LIFETIME or window.start <= part[0] < window.end]
    return total(part for _, _, counts, part in inside if scopes & set(counts))


def open_by_journal(books: Books, journal: Sequence[e.Entry], now_us: int) -> dict[tuple[str, Kind], Cap]:
    """Which breaches must be open now (C3), with their caps."""
    parts, found = usage_of(journal), {}
    for cap in standing_caps(books):
        used = used_by_journal(books, parts, cap.scope, cap.rule.period, now_us)
        found.update({(cap.cap_id, kind): cap for kind in Kind if level(cap.rule, kind, used)})
    return found


def stops(books: Books, cap: Cap, key: Key) -> bool:
    """Whether a cap that is in force stands above a key (C9)."""
    on = Enforce.OBSERVE not in (books.enforce, cap.rule.enforce)
    return on and cap.scope in ("org", f"workspace:{key.workspace}", f"key:{key.key_id}")


def state_by_journal(books: Books, journal: Sequence[e.Entry], key: Key, now_us: int) -> State:
    """What a key must be now (K1)."""
    turned = [entry for entry in journal if isinstance(entry, e.KeyStateChanged) and entry.key == key.key_id]
    ended = [entry for entry in turned if entry.state is State.REVOKED]
    if ended:
        assert ended[0].by or any(reason.startswith("cap:") for reason in ended[0].reasons), "K4: nobody and nothing revoked it"
        return State.REVOKED
    if any(ends(books, cap, kind, key, journal) for (_, kind), cap in open_by_journal(books, journal, now_us).items()):
        return State.REVOKED
    holds = [entry for entry in journal if isinstance(entry, e.KeyHeld | e.KeyReleased) and entry.key == key.key_id]
    if holds and isinstance(holds[-1], e.KeyHeld):
        return State.PAUSED
    for (_, kind), cap in open_by_journal(books, journal, now_us).items():
        action = cap.rule.action if kind is Kind.SPEND else cap.rule.on_unpriced
        if stops(books, cap, key) and action is not Action.ALERT and acts(journal, cap, kind):
            return State.PAUSED
    waiting = [cap for cap in standing_caps(books) if key.key_id in books.waits.get(cap.cap_id, ()) and waits_for_people(cap)]
    return State.PAUSED if any(stops(books, cap, key) for cap in waiting) else State.ACTIVE


def acts(journal: Sequence[e.Entry], cap: Cap, kind: Kind) -> bool:
    """Whether the open breach of a cap stops keys: the brake does not hold it, or a person approved it (K4)."""
    opened = next(
        entry for entry in reversed(journal) if isinstance(entry, e.CapBreached) and (entry.cap_id, entry.kind) == (cap.cap_id, kind)
    )
    words = [
        entry.verdict
        for entry in journal
        if isinstance(entry, e.BreachJudged) and (entry.cap_id, entry.ordinal) == (cap.cap_id, opened.ordinal)
    ]
    return opened.waits is not Waits.ALL or words == [Verdict.APPROVED]


def ends(books: Books, cap: Cap, kind: Kind, key: Key, journal: Sequence[e.Entry]) -> bool:
    """Whether a cap in breach revokes a key without asking (K4)."""
    asks = kind is not Kind.SPEND or cap.rule.action is not Action.REVOKE or cap.rule.approval
    return not asks and stops(books, cap, key) and acts(journal, cap, kind)


def waits_for_people(cap: Cap) -> bool:
    """Whether a cap pauses, and says that a person must resume (C1)."""
    pauses = Action.ALERT not in (cap.rule.action, cap.rule.on_unpriced) or cap.rule.action is not cap.rule.on_unpriced
    return cap.rule.resume is Resume.MANUAL and pauses


def assert_same_books(books: Books, journal: Iterable[e.Entry]) -> None:
    """J1: replay gives the same books, to the last nano and the last state."""
    replayed = fold(Books(books.org), journal)
    for name, value in vars(books).items():
        if name not in MEMOS:
            assert value == vars(replayed)[name], f"replay differs in {name}: {vars(replayed)[name]} is not {value}"
    assert rows_of(books) == rows_of(replayed), "replay differs in its sums"


def assert_rooms(books: Books, now_us: int) -> None:
    """The short cut's promise: what a scope is said to have room for is there, in whichever window it is spent."""
    for scope, said in [(scope, said) for scope, said in books.rooms.items() if said.until_us > now_us]:
        found = room(books, books.caps_on(scope), windows_at(now_us, books.zone))
        assert said.left <= found.left, f"{scope} has room for {found.left}, not {said.left}"
        assert (said.unpriced, said.until_us) == (found.unpriced, found.until_us)


def rows_of(books: Books) -> dict[SumKey, Sum]:
    """The rows of days and hours that hold anything."""
    return {key: part for key, part in books.sums.items() if key.period in (Period.DAY, Period.HOUR) and part != Sum()}


def assert_parts_add_up(books: Books) -> None:
    """M7: org = workspaces = keys per day; a longer window = its days."""
    by_kind: dict[tuple[str, int], Sum] = {}
    for key, part in books.sums.items():
        if key.period is Period.DAY:
            by_kind.setdefault((key.scope.partition(":")[0], key.start), Sum()).add(part)
        elif key.period is not Period.HOUR and key in needed_windows(books):
            days = total(days_of_one(books, key))
            assert part == days, f"M7: {key} says {part}, its days {days}"
    for (_, day), part in by_kind.items():
        for kind in ("org", "workspace", "key"):
            assert by_kind.get((kind, day), Sum()) == part, f"M7: on day {day} the {kind}s say otherwise than {part}"


def needed_windows(books: Books) -> set[SumKey]:
    """The longer windows in memory that some standing cap would be judged by."""
    wanted = {(scope, cap.rule.period) for cap in standing_caps(books) for scope in books.parts(cap.scope)}
    return {key for key in books.sums if (key.scope, key.period) in wanted}


def days_of_one(books: Books, key: SumKey) -> list[Sum]:
    """The day rows of one scope in one window."""
    end = next_first_day(key.period, key.start)
    days = ((k, part) for k, part in books.sums.items() if k.period is Period.DAY and k.scope == key.scope)
    return [part for k, part in days if key.period is Period.LIFETIME or key.start <= k.start < end]


def assert_levels(books: Books, journal: Sequence[e.Entry], now_us: int) -> None:
    """C3: a breach is open exactly while its level is reached. K1: every key is what it should be."""
    now_us = max(now_us, books.recorded_us)
    must = set(open_by_journal(books, journal, now_us))
    # A guardrail's cap on a workspace that nobody has opened yet may or may not be looked at: it stops no key.
    nowhere = {
        at for at, breach in books.breaches.items() if breach.scope[10:] not in books.workspaces and breach.scope[:10] == "workspace:"
    }
    assert set(books.breaches) - nowhere == must - nowhere, f"C3: open {sorted(books.breaches)}, should be {sorted(must)}"
    for key in books.keys.values():
        if key.alias_of is None:
            should = state_by_journal(books, journal, key, now_us)
            assert key.state is should, f"K1: {key.key_id} is {key.state}, should be {should}"
