"""Owns the rollup: the journal added up by day and by what reports ask for most, following it by seq.

It serves reports and nothing else: no balance and no cap reads it, and `record` does not write it. However far it is behind,
a report is right, since what it has not read yet is read from the journal's tail.
"""

from typing import Any

import structlog
from sqlalchemy import delete, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.caps import Sum
from ..core.questions import SUMS
from . import tables as t
from .away import is_away
from .bulk import add_rows, upsert_rows
from .lines import journal_lines, rolled_lines, rollup_rows, span

MOST_ENTRIES = 5_000  # read in one transaction: a twentieth of a second on SQLite, whose one writer it holds
MOST_ORGS = 100

log = structlog.get_logger()


def _waiting() -> Any:
    o, r = t.orgs.c, t.rolled.c
    done = func.coalesce(r.seq, 0)
    return select(o.org_id, o.zone, done, o.seq).outerjoin(t.rolled, r.org_id == o.org_id).where(o.seq > done).order_by(done - o.seq)


async def behind(connection: AsyncConnection) -> bool:
    """Whether anything was booked that it has not read."""
    return (await connection.execute(_waiting().order_by(None).limit(1))).first() is not None


async def follow(connection: AsyncConnection, most: int = MOST_ENTRIES) -> bool:
    """Reads on where it stopped, for orgs that booked something since, those with the longest tails first; whether it may have
    left some. One process at a time. An org that can't be read is passed over, each time with a word of it: its reports read the
    journal, and those of others don't wait for it."""
    read, failed = 0, False
    waiting = (await connection.execute(_waiting().limit(MOST_ORGS))).all()
    for org_id, zone, after, seq in map(tuple, waiting):
        until = min(seq, after + most - read)
        try:
            async with connection.begin_nested():
                await add_rows(connection, t.rollup, *rollup_rows(await span(connection, org_id, zone, after, until)))
                await upsert_rows(connection, t.rolled, [(org_id, until)])
        except Exception as error:
            if is_away(error):
                raise
            failed = True
            log.warning("org_not_rolled_up", org_id=org_id, after=after, error=type(error).__name__, why=str(error)[:300])
            continue
        read += until - after
        if read >= most:
            break
    return read >= most or (len(waiting) == MOST_ORGS and not failed)


async def followed(connection: AsyncConnection, org_id: int) -> int:
    """The seq up to which the rollup has read an org's journal."""
    return int(await connection.scalar(select(t.rolled.c.seq).where(t.rolled.c.org_id == org_id)) or 0)


async def by_day(connection: AsyncConnection, org_id: int, zone: str, seq: int) -> dict[int, Sum]:
    """What reports would say of each day of an org, as of a seq."""
    after = min(await followed(connection, org_id), seq)
    tail = journal_lines(await span(connection, org_id, zone, after, seq), (), None)
    whole = union_all(rolled_lines(org_id, (), None), *tail).subquery("lines").c
    query = select(whole.day, *(func.sum(whole[name]) for name in SUMS[:6])).group_by(whole.day)
    return {day: Sum(*map(int, sums)) for day, *sums in await connection.execute(query)}


async def forget(connection: AsyncConnection, org_id: int) -> None:
    """Drops an org's rollup; it is made anew from the journal."""
    for table in (t.rollup, t.rolled):
        await connection.execute(delete(table).where(table.c.org_id == org_id))
