"""Owns the one transaction (J5): lock, load, execute, append, save. Nothing else writes the journal or the books.

A batch's effect, its dedupe and its messages out are committed together or not at all; a crash at any instruction loses
nothing and doubles nothing. On any failure the books kept in memory are dropped: the next batch starts from what is
committed.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from .core.batch import RECORDED, Batch, Found
from .core.books import Books, NotLoaded, SumKey
from .core.commands import IDENTIFIED, Command, ConfirmCommand, CorrectUsage, Reason, RecordUsage, Result, Status, org_of
from .core.entries import Entry
from .core.execute import AHEAD_US, ahead, execute
from .core.fold import fold
from .core.needs import needs
from .core.window import Period, window_at
from .store import books as projections
from .store import journal, outbox, saving
from .store.dialect import Database, lock_orgs
from .wire.messages import Message, messages_of

MOST_MISSED = 5_000  # entries that another process booked: more of them are read faster as the books they became
MOST_SUMS = 400_000  # kept in memory over all orgs, about 150 bytes each


Kept = dict[str, tuple[int, Books]]  # by org: its id, and its books
_TOGETHER = {RecordUsage, ConfirmCommand}
Wanted = list[tuple[int, Books, set[SumKey]]]


class Run(NamedTuple):
    """One org's commands, all of one kind, and where each stands in the batch."""

    places: list[int]
    commands: list[Command]


Chunk = dict[str, Run]  # by org


class Shelf:
    """The books that this process keeps between batches. The seq under the lock says whether they are still true."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self._kept: Kept = {}

    def take(self, org: str) -> tuple[int, Books] | None:
        """An org's id and books, of whenever they are. They are off the shelf until they are put back."""
        return self._kept.pop(org, None)

    def put(self, kept: Kept) -> None:
        """Puts books back; the longest unused go where memory runs out."""
        self._kept.update(kept)
        total = sum(len(books.sums) for _, books in self._kept.values())
        for org in list(self._kept):
            if total <= MOST_SUMS:
                break
            total -= len(self._kept.pop(org)[1].sums)

    def clear(self) -> None:
        """Forgets all books."""
        self._kept.clear()


class Booked(msgspec.Struct):
    """What became of a batch: a result per command in order, and what came of it by org, of each run of commands."""

    results: list[Result]
    outcomes: dict[str, list[Batch]] = {}

    @property
    def entries(self) -> dict[str, list[Entry]]:
        """The entries by org, in sequence."""
        return {org: [entry for outcome in mine for entry in outcome.entries] for org, mine in self.outcomes.items()}


async def record(
    database: Database,
    shelf: Shelf,
    commands: Sequence[Command],
    now_us: int,
    *,
    orgs: Sequence[str] = (),
    declared_only: bool = False,
    rehearse: bool = False,
) -> Booked:
    """Books commands of any orgs in one transaction, at one instant.

    `orgs` are looked at for what is due though no command names them (the pulse). `declared_only`: usage of an org that
    nobody opened is parked instead of opening it (S3). `rehearse`: tells what would become of it and undoes it all. Raises
    what the database raises; then nothing was booked.
    """
    names = sorted({*map(org_of, commands), *orgs})
    booked = Booked([RECORDED] * len(commands))
    async with shelf.lock:
        async with database.writer.connect() as connection, connection.begin() as transaction:
            await lock_orgs(connection, names)
            heads = await projections.heads(connection, names, open_new=not declared_only)
            wanted = await _turn_away(connection, heads, commands, booked, now_us) if declared_only else commands
            kept = await load(connection, shelf, heads)
            for chunk in _rounds(wanted, list(kept)):
                await _book(connection, kept, chunk, now_us, booked)
            if rehearse:
                await transaction.rollback()
                return booked
        shelf.put(kept)
    return booked


async def load(connection: AsyncConnection, shelf: Shelf, heads: dict[str, tuple[int, int]]) -> Kept:
    """The books of every org of the batch: from the shelf where the seq says that they are true or can soon be, else as
    committed."""
    kept: Kept = {}
    for org, (_, seq) in heads.items():
        found = shelf.take(org)
        if found is not None and (found[1].seq == seq or await _caught_up(connection, *found, seq)):
            kept[org] = found
    cold = {org: org_id for org, (org_id, _) in heads.items() if org not in kept}
    loaded = await projections.load(connection, cold) if cold else {}
    return {org: kept.get(org) or (org_id, loaded[org]) for org, (org_id, _) in heads.items()}


async def _caught_up(connection: AsyncConnection, org_id: int, books: Books, seq: int) -> bool:
    """Folds what another process booked for an org since; whether the books are true now. If not, they are of no more use."""
    if not 0 < seq - books.seq <= MOST_MISSED:
        return False
    try:
        async for entries in journal.pages(connection, org_id, books.org, books.seq):
            fold(books, entries)
    except NotLoaded:  # usage of something that these books have not met yet
        return False
    books.forget_changes()
    return books.seq >= seq


def _rounds(commands: Sequence[Command | None], orgs: Sequence[str]) -> Iterator[Chunk]:
    """Commands by org, cut into runs of usage, runs of confirmations, and single orders: what an order changes decides what
    the next one needs; a confirmation needs nothing."""
    runs: dict[str, list[Run]] = {org: [] for org in orgs}
    for index, command in enumerate(commands):
        if command is None:
            continue
        mine, kind = runs[org_of(command)], type(command)
        if not (mine and kind in _TOGETHER and type(mine[-1].commands[0]) is kind):
            mine.append(Run([], []))
        mine[-1].places.append(index)
        mine[-1].commands.append(command)
    if not commands:
        yield {org: Run([], []) for org in orgs}
    for level in zip_longest(*runs.values()):
        yield {org: run for org, run in zip(runs, level, strict=True) if run is not None}


async def _book(connection: AsyncConnection, kept: Kept, chunk: Chunk, now_us: int, booked: Booked) -> None:
    """Steps 2 to 5 for one run of each org."""
    found, wanted = await find(connection, kept, chunk, now_us)
    await projections.load_sums(connection, wanted)
    effect = decide(kept, chunk, found, now_us, booked)
    await append(connection, effect)
    await save(connection, effect)


async def find(connection: AsyncConnection, kept: Kept, chunk: Chunk, now_us: int) -> tuple[dict[str, Found], Wanted]:
    """Step 2, the rest of it: what the journal holds for these commands, and the sums that must be loaded for them."""
    digests = {kept[org][0]: [c.digest for c in run.commands if isinstance(c, IDENTIFIED)] for org, run in chunk.items()}
    known = await journal.known(connection, {org_id: mine for org_id, mine in digests.items() if mine})
    corrected = {kept[org][0]: [c.entry for c in run.commands if isinstance(c, CorrectUsage)] for org, run in chunk.items()}
    told = {kept[org][0]: (org, {*known.get(kept[org][0], {}).values(), *corrected[kept[org][0]]}) for org in chunk}
    originals = await journal.entries_of_orgs(connection, told)
    wanted: Wanted = []
    found: dict[str, Found] = {}
    for org, run in chunk.items():
        org_id, books = kept[org]
        mine = found[org] = Found(known.get(org_id, {}), originals.get(org_id, {}))
        if corrected[org_id]:
            mine.prices = await journal.prices(connection, org_id, corrected[org_id])
        await projections.load_after(connection, org_id, books, ahead(books, max(now_us, books.recorded_us)))
        missing = needs(books, run.commands, now_us, mine.originals)
        wanted.append((org_id, books, missing.sums))
        if missing.hours is not None:
            scopes, zone = missing.hours
            hour = window_at(Period.HOUR, max(now_us, books.recorded_us), zone)
            mine.openings = await journal.used_since(connection, org_id, org, scopes, hour.start_us, zone, AHEAD_US)
    return found, wanted


class Effect(msgspec.Struct):
    """What a batch is to write: entries by org's id, rows of the projections, messages, parked events."""

    entries: list[tuple[int, list[Entry]]]
    changes: saving.Changes
    messages: list[tuple[int, Message]]
    parked: list[tuple[str, bytes, str, int, str]]


def decide(kept: Kept, chunk: Chunk, found: Mapping[str, Found], now_us: int, booked: Booked) -> Effect:
    """Step 3: executes each org's commands, notes results in `booked`, and makes the rows of what came of it."""
    touched: list[tuple[int, Books]] = []
    entries: list[tuple[int, list[Entry]]] = []
    messages: list[tuple[int, Message]] = []
    parked: list[tuple[str, bytes, str, int, str]] = []
    for org, run in chunk.items():
        org_id, books = kept[org]
        outcome = execute(books, run.commands, now_us, found[org])
        booked.outcomes.setdefault(org, []).append(outcome)
        odd = [place for place, result in enumerate(outcome.results) if result is not RECORDED]
        for place in odd:
            booked.results[run.places[place]] = outcome.results[place]
        parked += _parked([run.commands[place] for place in odd], [outcome.results[place] for place in odd], now_us)
        touched.append((org_id, books))
        entries.append((org_id, outcome.entries))
        messages += [(org_id, message) for entry in outcome.facts for message in messages_of(org, entry)]
    return Effect(entries, saving.changes(touched, now_us), messages, parked)


async def append(connection: AsyncConnection, effect: Effect) -> None:
    """Step 4: entries to the journal, identities made known, messages to the outbox."""
    await journal.append(connection, effect.entries)
    await outbox.put(connection, effect.messages)


async def save(connection: AsyncConnection, effect: Effect) -> None:
    """Step 5: the projections' changed rows, and events that are kept for later."""
    await saving.write(connection, effect.changes)
    await outbox.park(connection, effect.parked)


async def _turn_away(
    connection: AsyncConnection, heads: dict[str, tuple[int, int]], commands: Sequence[Command], booked: Booked, now_us: int
) -> list[Command | None]:
    """Parks usage of orgs that nobody declared; an order may declare one."""
    for org in {org_of(command) for command in commands if not isinstance(command, RecordUsage)} - heads.keys():
        heads.update(await projections.heads(connection, [org], open_new=True))
    kept: list[Command | None] = []
    turned: list[Command] = []
    for index, command in enumerate(commands):
        known = org_of(command) in heads
        kept.append(command if known else None)
        if not known:
            turned.append(command)
            booked.results[index] = Result(Status.PARKED, Reason.UNKNOWN_ORG)
    await outbox.park(connection, _parked(turned, [Result(Status.PARKED, Reason.UNKNOWN_ORG)] * len(turned), now_us))
    return kept


def _parked(commands: Sequence[Command], results: Sequence[Result], now_us: int) -> list[tuple[str, bytes, str, int, str]]:
    """Rows of parked events, as parsed."""
    return [
        (org_of(command), command.digest, str(result.reason), now_us, msgspec.json.encode(command).decode())
        for command, result in zip(commands, results, strict=True)
        if result.status is Status.PARKED and isinstance(command, RecordUsage)
    ]
