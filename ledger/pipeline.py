"""Owns overlap: while one batch of usage is written, the next is looked up and decided. It keeps `record`'s promise.

A batch is decided on books that run ahead of what is committed, by the batches still in flight. What was read for it
before the lock holds only if, under the lock, every org stands where its books began (the head has not moved). If one
does not, or a write fails, all memory is dropped, and the batches behind it are booked by `record`, the plain way, which
reads everything under the lock. Nothing here decides anything by itself.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .core.batch import RECORDED, Found
from .core.books import Books, SumKey
from .core.commands import Command, RecordUsage
from .core.window import Period
from .record import Booked, Chunk, Effect, Kept, Run, Shelf, append, decide, find, load, record, save
from .store import books as projections
from .store.dialect import Database, lock_orgs, prefer_indexes

MOST_TOGETHER = 20_000  # commands in one transaction: about half a second's work
MOST_IN_TURN = 1_000  # where batches do not overlap: while these are written, the next ones are read
FEWEST_AHEAD = 2_000  # commands: fewer are booked sooner in one transaction than in several that overlap


class Stale(Exception):
    """A batch was decided on books that were no longer true."""


class Flight(NamedTuple):
    """A batch that is decided and not committed yet.

    Attributes:
      before: by org, its id and the seq that its books began at.
      epoch: of the pipeline's memory when it was decided.
    """

    before: dict[str, tuple[int, int]]
    effect: Effect
    booked: Booked
    epoch: int


class Pipeline:
    """Books batches; `book` may be called while earlier calls are under way, and keeps their order.

    `most`: how many commands are worth a transaction.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.most = MOST_TOGETHER if database.overlaps else MOST_IN_TURN
        self._shelf = Shelf()
        self._turn = asyncio.Lock()
        self._writing = asyncio.Lock()
        self._flying: list[Flight] = []
        self._landed = asyncio.Condition()
        self._epoch = 0

    async def book(
        self, commands: Sequence[Command], now_us: int, *, orgs: Sequence[str] = (), declared_only: bool = False
    ) -> Booked:  # fmt: skip
        """See `record.record`."""
        usage = [command for command in commands if type(command) is RecordUsage] if self.overlaps(len(commands)) else []
        if usage and len(usage) == len(commands) and not orgs and not declared_only:
            async with self._turn:
                flight = await self._decide(usage, now_us)
                self._flying.append(flight)
            try:
                await self._write(flight)
                return flight.booked
            except Stale:
                pass
        async with self._turn:
            await self._wait_until_landed()
            return await record(self.database, self._shelf, commands, now_us, orgs=orgs, declared_only=declared_only)

    def overlaps(self, count: int) -> bool:
        """Whether it saves time to decide a batch of so many commands while another is written."""
        return self.database.overlaps and count >= FEWEST_AHEAD

    async def _decide(self, commands: Sequence[RecordUsage], now_us: int) -> Flight:
        """Steps 2 and 3, on a connection that only reads."""
        epoch, chunk = self._epoch, _by_org(commands)
        booked = Booked([RECORDED] * len(commands))
        try:
            kept = await self._kept(sorted(chunk))
            before = {org: (org_id, books.seq) for org, (org_id, books) in kept.items()}
            flying = list(self._flying)  # before the look-up begins: whatever lands later is seen by one or the other
            async with self.database.reader.connect() as connection, connection.begin():
                await prefer_indexes(connection)
                found, wanted = await find(connection, kept, chunk, now_us)
            if any(_needs_days(books, sums) for _, books, sums in wanted):
                await self._wait_until_landed()  # a window is summed from days, and those in flight are not there yet
            if any(sums for _, _, sums in wanted):
                async with self.database.reader.connect() as connection, connection.begin():
                    await prefer_indexes(connection)
                    await projections.load_sums(connection, wanted)
            for flight in flying:
                _add_repeats(found, chunk, flight)
            effect = decide(kept, chunk, found, now_us, booked)
        except BaseException:
            self._forget()
            raise
        if epoch == self._epoch:
            self._shelf.put(kept)
        return Flight(before, effect, booked, epoch)

    async def _kept(self, orgs: Sequence[str]) -> Kept:
        """The books of a batch's orgs: as this process left them, else as committed. While nothing is under way they are held
        against what is committed: another process may have gone on."""
        kept = {org: found for org in orgs if self._flying and (found := self._shelf.take(org)) is not None}
        cold = [org for org in orgs if org not in kept]
        if cold:
            async with self.database.reader.connect() as connection, connection.begin():
                heads = await projections.heads(connection, cold, open_new=False)
            if len(heads) < len(cold):
                async with self.database.writer.connect() as connection, connection.begin():
                    heads = await projections.heads(connection, cold, open_new=True)
            async with self.database.reader.connect() as connection, connection.begin():
                kept |= await load(connection, self._shelf, heads)
        return kept

    async def _write(self, flight: Flight) -> None:
        """Steps 1, 4 and 5: the lock, the proof that the books were true, and the rows."""
        try:
            async with self._writing:
                if flight.epoch != self._epoch:
                    raise Stale
                async with self.database.writer.connect() as connection, connection.begin():
                    await lock_orgs(connection, flight.before)
                    if await projections.heads(connection, list(flight.before), open_new=False) != flight.before:
                        raise Stale
                    await append(connection, flight.effect)
                    await save(connection, flight.effect)
        except BaseException:
            self._forget()
            raise
        finally:
            self._flying.remove(flight)
            async with self._landed:
                self._landed.notify_all()

    async def _wait_until_landed(self) -> None:
        async with self._landed:
            await self._landed.wait_for(lambda: not self._flying)

    def _forget(self) -> None:
        """Drops all memory: what comes next starts from what is committed."""
        self._epoch += 1
        self._shelf.clear()


def _by_org(commands: Sequence[RecordUsage]) -> Chunk:
    chunk: Chunk = {}
    for place, command in enumerate(commands):
        mine = chunk.get(command.usage.org)
        if mine is None:
            mine = chunk[command.usage.org] = Run([], [])
        mine.places.append(place)
        mine.commands.append(command)
    return chunk


def _needs_days(books: Books, sums: set[SumKey]) -> bool:
    """Whether any of these sums is of several days, some of which may have been booked already."""
    return any(key.period not in (Period.DAY, Period.HOUR) and books.may_hold(key.scope) for key in sums)


def _add_repeats(found: Mapping[str, Found], chunk: Chunk, flight: Flight) -> None:
    """Makes known to a batch what of it is being booked by one in flight before it."""
    for org, outcomes in flight.booked.outcomes.items():
        if org not in found:
            continue
        sent = [command.digest for command in chunk[org].commands if type(command) is RecordUsage]
        for seen in [outcome.seen for outcome in outcomes]:
            for digest in seen.keys() & sent:
                first = seen[digest]
                found[org].known[digest] = first.seq
                found[org].originals[first.seq] = first
