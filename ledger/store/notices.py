"""Owns how far each channel has told each org's journal, and which commands are stuck that nobody was told of."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, func, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.entries import Entry
from ..wire.notices import KINDS
from . import tables as t
from .bulk import chunks, upsert_rows
from .inbox import FAILED, OPEN
from .journal import entry_of

MOST_ORGS, MOST_SCANNED = 100, 20_000
LEASE = ""  # the channel of the lease's row, of no org
Behind = tuple[int, str, int, int]  # an org's id and name, the seq told of, the seq of its last entry


async def behind(connection: AsyncConnection, channel: str) -> list[Behind]:
    """Orgs whose journal has entries that a channel has not looked at."""
    o, n = t.orgs.c, t.notified.c
    told = func.coalesce(n.seq, 0)
    query = select(o.org_id, o.org, told, o.seq).outerjoin(t.notified, and_(n.org_id == o.org_id, n.channel == channel))
    rows = await connection.execute(query.where(o.seq > told).limit(MOST_ORGS))
    return [tuple(row) for row in rows]  # type: ignore[misc]


async def begin(connection: AsyncConnection, channel: str) -> None:
    """A channel that is new tells of nothing that is past: it begins at the end of every journal there is."""
    if await connection.scalar(select(t.notified.c.seq).where(t.notified.c.channel == channel).limit(1)) is None:
        o = t.orgs.c
        heads = await connection.execute(select(o.org_id, literal(channel), o.seq))
        await upsert_rows(connection, t.notified, [(0, channel, 0), *(tuple(row) for row in heads)])


async def lease(connection: AsyncConnection) -> int:
    """Until when some process is the one that tells; 0 for none."""
    n = t.notified.c
    return await connection.scalar(select(n.seq).where(n.org_id == 0, n.channel == LEASE)) or 0


async def set_lease(connection: AsyncConnection, until_us: int) -> None:
    """The caller is the one that tells, until then."""
    await upsert_rows(connection, t.notified, [(0, LEASE, until_us)])


async def to_tell(connection: AsyncConnection, org_id: int, org: str, after: int, last: int) -> tuple[list[Entry], int]:
    """The entries after a seq that people may be told of, and how far the journal was looked at."""
    until, j = min(last, after + MOST_SCANNED), t.journal.c
    query = select(t.journal).where(j.org_id == org_id, j.seq > after, j.seq <= until, j.kind.in_(KINDS)).order_by(j.seq)
    return [entry_of(row, org) for row in await connection.execute(query)], until


async def told(connection: AsyncConnection, channel: str, org_id: int, seq: int) -> None:
    """A channel has told of everything up to a seq."""
    await upsert_rows(connection, t.notified, [(org_id, channel, seq)])


async def stuck(connection: AsyncConnection, since_us: int) -> Sequence[Any]:
    """Key commands that were given up, or open since before an instant, and that nobody was told of: (org_id, org, key, credential,
    connection, revision, delivery, error, created_us)."""
    c, o = t.commands.c, t.orgs.c
    query = select(c.org_id, o.org, c.key, c.credential, c.connection, c.revision, c.delivery, c.error, c.created_us)
    query = query.join(t.orgs, o.org_id == c.org_id).where(
        c.told_us.is_(None), or_(c.delivery == FAILED, and_(c.delivery.in_(OPEN), c.connection != "", c.created_us < since_us))
    )
    return (await connection.execute(query.order_by(c.org_id, c.connection, c.created_us).limit(1_000))).all()


async def stuck_told(connection: AsyncConnection, rows: Sequence[Any], now_us: int) -> None:
    """People were told of these commands."""
    c = t.commands.c
    place = tuple_(c.org_id, c.credential, c.connection, c.revision)
    for part in chunks([(row.org_id, row.credential, row.connection, row.revision) for row in rows], 500):
        await connection.execute(update(t.commands).where(place.in_(part)).values(told_us=now_us))
