"""What scenarios run against: the pure core, and each database through `record`."""

from collections.abc import Sequence

from ledger.core import commands as c
from ledger.core import entries as e
from ledger.core.batch import Found
from ledger.core.books import Books, SumKey
from ledger.core.caps import Sum, total
from ledger.core.execute import execute
from ledger.core.fold import fold
from ledger.core.needs import needs
from ledger.core.window import Period, window_at
from ledger.record import Shelf, record
from ledger.store import books as projections
from ledger.store.dialect import Database
from ledger.store.replay import _STATE, verify


def assert_same_books(left: Books, right: Books) -> None:
    """Every attribute that is state, and every sum that is not nothing."""
    for name in (*_STATE, "members", "aliases", "history"):
        assert getattr(left, name) == getattr(right, name), name
    sums = [{k: s for k, s in books.sums.items() if s != Sum() and k.period in (Period.DAY, Period.HOUR)} for books in (left, right)]
    assert sums[0] == sums[1]


class CoreDriver:
    """Complete books in memory; after every line the fold of the whole journal must equal them (J1)."""

    def __init__(self) -> None:
        self.books = Books("acme")
        self.journal: list[e.Entry] = []

    def found(self, commands: Sequence[c.Command], now_us: int) -> Found:
        known = {
            (entry.command.digest if isinstance(entry, e.UsageRecorded) else entry.digest): entry.seq
            for entry in self.journal
            if isinstance(entry, e.UsageRecorded | e.UsageCorrected | e.CostShared)
        }
        prices = {entry.corrects: entry.price for entry in self.journal if isinstance(entry, e.UsageCorrected)}
        found = Found(known, {entry.seq: entry for entry in self.journal}, dict(prices))
        hours = needs(self.books, commands, now_us, found.originals).hours
        if hours is not None:
            scopes, zone = hours
            present = window_at(Period.HOUR, max(now_us, self.books.recorded_us), zone)
            both = (present, window_at(Period.HOUR, present.end_us, zone))  # usage may be five minutes ahead (W3)
            found.openings = tuple(
                e.Opening(scope, hour.start_us, used)
                for scope in scopes
                for hour in both
                if (used := self.used_in(scope, hour.start_us, hour.end_us)) != Sum()
            )
        return found

    def used_in(self, scope: str, start_us: int, end_us: int) -> Sum:
        """What a scope used between two instants, entry by entry."""
        inside = {n.seq: n for n in self.journal if isinstance(n, e.UsageRecorded) and start_us <= n.command.time_us < end_us}
        parts = [
            Sum(n.command.booked or 0, n.command.upstream or 0 if n.command.usage.byok else 0, int(n.command.booked is None), 1,
                n.command.usage.input_tokens, n.command.usage.output_tokens)
            for n in inside.values() if scope in ("org", f"key:{n.key}", f"workspace:{n.workspace}")
        ]  # fmt: skip
        parts += [
            Sum(n.cost, 0, n.unpriced)
            for n in self.journal
            if isinstance(n, e.UsageCorrected) and n.corrects in inside and scope in ("org", f"key:{n.key}", f"workspace:{n.workspace}")
        ]
        return total(parts)

    async def send(self, commands: Sequence[c.Command], now_us: int) -> tuple[list[c.Result], list[e.Entry]]:
        outcome = execute(self.books, commands, now_us, self.found(commands, now_us))
        self.journal += outcome.entries
        assert [entry.seq for entry in self.journal] == list(range(1, len(self.journal) + 1))
        assert_same_books(fold(Books("acme"), self.journal), self.books)
        return outcome.results, outcome.entries

    async def used(self, scope: str, period: Period, start: int) -> Sum:
        return self.books.used(scope, period, start)

    async def state(self, key: str) -> str:
        return self.books.keys[key].state

    async def open_breaches(self) -> list[str]:
        return sorted(f"{cap} {breach.ordinal}" for (cap, _), breach in self.books.breaches.items())


class StoreDriver:
    """A database; books are dropped from memory before every other line, so that loading is tested too."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.shelf = Shelf()
        self.lines = 0
        self.org = "acme"

    async def send(self, commands: Sequence[c.Command], now_us: int) -> tuple[list[c.Result], list[e.Entry]]:
        self.lines += 1
        if self.lines % 2:
            self.shelf = Shelf()
        if commands:
            self.org = c.org_of(commands[0])
        booked = await record(self.database, self.shelf, commands, now_us, orgs=[] if commands else [self.org])
        await self.verify()
        return booked.results, booked.entries.get(self.org, [])

    async def verify(self) -> None:
        async with self.database.reader.begin() as connection:
            for org, (org_id, _) in (await projections.heads(connection, [self.org], open_new=False)).items():
                difference = await verify(connection, org_id, org, lambda _: None)
                assert difference is None, difference

    async def books(self) -> tuple[int, Books]:
        async with self.database.reader.begin() as connection:
            org_id, _ = (await projections.heads(connection, [self.org], open_new=False))[self.org]
            return org_id, (await projections.load(connection, {self.org: org_id}))[self.org]

    async def used(self, scope: str, period: Period, start: int) -> Sum:
        org_id, books = await self.books()
        async with self.database.reader.begin() as connection:
            wanted = [SumKey(part, period, start) for part in books.parts(scope)]
            await projections.load_sums(connection, [(org_id, books, wanted)])
        return books.used(scope, period, start)

    async def state(self, key: str) -> str:
        return (await self.books())[1].keys[key].state

    async def open_breaches(self) -> list[str]:
        return sorted(f"{cap} {breach.ordinal}" for (cap, _), breach in (await self.books())[1].breaches.items())
