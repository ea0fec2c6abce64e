"""Owns how far a reader of the journals has come in each org, for readers that follow by seq."""

from sqlalchemy import and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from .bulk import upsert_rows
from .tables import orgs, places


async def behind(connection: AsyncConnection, reader: str, limit: int) -> list[str]:
    """Orgs whose journal goes on after the reader's place."""
    mine = and_(places.c.org_id == orgs.c.org_id, places.c.reader == reader)
    query = select(orgs.c.org).outerjoin(places, mine).where(orgs.c.seq > func.coalesce(places.c.seq, 0))
    return list(await connection.scalars(query.order_by(orgs.c.org_id).limit(limit)))


async def of(connection: AsyncConnection, reader: str, org_id: int) -> int:
    """The seq of the last entry that the reader has handed on; 0 at the start."""
    query = select(places.c.seq).where(places.c.org_id == org_id, places.c.reader == reader)
    return int(await connection.scalar(query) or 0)


async def move(connection: AsyncConnection, reader: str, org_id: int, seq: int) -> None:
    """Sets the reader's place."""
    await upsert_rows(connection, places, [(org_id, reader, seq)])
