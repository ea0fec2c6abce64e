"""Owns the pricing of what waits: entries that were unpriced when they were booked, once the rate card knows their price (M4).

Each is corrected in its own window (J3), so that caps see it; an entry is priced once, however often this runs.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from sqlalchemy import Row, and_, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .core.commands import CorrectUsage, Status
from .core.entries import UsageRecorded
from .core.rates import Card
from .service import Service
from .store import journal, rates
from .store import tables as t
from .store.dialect import Database
from .wire.identity import own_identity

BY = "rate card"
PAGE = 500
SETTLED_US = 3_000_000  # every process prices by a new version by then


async def price_waiting(service: Service, card: Card, progress: Callable[[int], None] = lambda _: None) -> int:
    """Corrects every waiting entry that a card can price; how many."""
    priced = 0
    async for rows, orgs in _pages(service.database):
        corrections = [order for row in rows if (order := _correction(card, row, orgs[row.org_id])) is not None]
        results = await service.record(corrections)
        priced += sum(result.status is Status.RECORDED for result in results)
        progress(len(rows))
    return priced


def _correction(card: Card, row: Row[Any], org: str) -> CorrectUsage | None:
    entry = journal.entry_of(row, org)
    if not isinstance(entry, UsageRecorded):
        return None
    cost = card.price(entry.command.usage, entry.command.time_us)
    if cost is None:
        return None
    digest = own_identity(org, BY, str(entry.seq))
    return CorrectUsage(org=org, by=BY, digest=digest, entry=entry.seq, cost=cost, why=f"priced by version {card.version}")


async def _pages(database: Database) -> AsyncIterator[tuple[Sequence[Row[Any]], dict[int, str]]]:
    """Waiting entries of all orgs and the names of those, a page at a time, each page read anew."""
    after = (0, 0)
    while True:
        async with database.snapshot() as connection:
            rows = await _waiting(connection, after)
            names = select(t.orgs.c.org_id, t.orgs.c.org).where(t.orgs.c.org_id.in_({row.org_id for row in rows}))
            orgs = {org_id: org for org_id, org in await connection.execute(names)}
        if not rows:
            return
        yield rows, orgs
        after = (rows[-1].org_id, rows[-1].seq)


async def _waiting(connection: AsyncConnection, after: tuple[int, int]) -> Sequence[Row[Any]]:
    j, fix = t.journal.c, t.journal.alias("fix").c
    later = or_(j.org_id > after[0], and_(j.org_id == after[0], j.seq > after[1]))
    corrected = exists().where(fix.org_id == j.org_id, fix.corrects == j.seq)
    query = select(t.journal).where(j.cost.is_(None), j.model.is_not(None), j.kind == journal.USAGE, later, ~corrected)
    return (await connection.execute(query.order_by(j.org_id, j.seq).limit(PAGE))).all()


class Pricer:
    """Prices what waits whenever the card has a new version: also what a process booked by the one before it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._version = 0

    async def once(self) -> int:
        """One look at the card; how many entries were priced."""
        async with self._service.database.snapshot() as connection:
            newest = await rates.newest(connection)
            if newest is None or newest.version == self._version or newest.created_us > self._service.clock() - SETTLED_US:
                return 0
            card = await rates.card(connection)
        priced = await price_waiting(self._service, card)
        self._version = card.version
        return priced
