"""Owns messages on their way out (in the transaction of their effect, J5), and parked events."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ..wire.messages import Message
from .bulk import insert_rows, upsert_rows
from .dialect import announce
from .tables import outbox, parked

SHARDS = 16  # of orgs: as many relays can publish at once


async def put(connection: AsyncConnection, messages: Iterable[tuple[int, Message]]) -> None:
    """Writes messages, each with its org's id."""
    rows = [(org_id, *message) for org_id, message in messages]
    await insert_rows(connection, outbox, rows)
    if rows:
        await announce(connection)


async def take(connection: AsyncConnection, limit: int) -> list[Row[Any]]:
    """The oldest messages of every org in (org, seq) order, so that a key's revisions never overtake each other (K3)."""
    query = select(outbox).order_by(outbox.c.org_id, outbox.c.seq, outbox.c.topic).limit(limit)
    return list(await connection.execute(query))


async def shards_waiting(connection: AsyncConnection) -> list[int]:
    """Shards of orgs that have messages waiting."""
    shard = outbox.c.org_id % SHARDS
    return sorted(await connection.scalars(select(shard).distinct()))


async def take_shard(connection: AsyncConnection, shard: int, limit: int) -> list[Row[Any]]:
    """As `take`, of one shard, whose lock the caller has."""
    query = select(outbox).where(outbox.c.org_id % SHARDS == shard)
    return list(await connection.execute(query.order_by(outbox.c.org_id, outbox.c.seq, outbox.c.topic).limit(limit)))


async def drop(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> None:
    """Forgets messages that were handed on: of each org all up to the last, since none can appear before one that was seen."""
    last = {row.org_id: row for row in rows}
    place = tuple_(outbox.c.seq, outbox.c.topic) <= tuple_(bindparam("last_seq"), bindparam("last_topic"))
    query = delete(outbox).where(outbox.c.org_id == bindparam("org"), place)
    if last:
        await connection.execute(query, [{"org": at, "last_seq": row.seq, "last_topic": row.topic} for at, row in last.items()])


async def depth(connection: AsyncConnection) -> int:
    """How many messages wait."""
    return int(await connection.scalar(select(func.count()).select_from(outbox)) or 0)


async def park(connection: AsyncConnection, rows: Iterable[tuple[str, bytes, str, int, str]]) -> None:
    """Keeps events as parsed: (org, digest, reason, received_us, JSON). They can be sent again (W3, S3)."""
    await upsert_rows(connection, parked, list({row[:2]: row for row in rows}.values()))
