"""Owns messages on their way out (in the transaction of their effect, J5), and parked events."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, bindparam, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.entries import KeyStateChanged
from ..wire.journal import decode_fact
from ..wire.messages import KEY_COMMANDS, Message, messages_of
from .bulk import insert_rows, upsert_rows
from .dialect import announce, prefer_indexes
from .tables import journal, orgs, outbox, parked

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
    await prefer_indexes(connection)
    query = select(outbox).where(outbox.c.org_id % SHARDS == shard)
    return list(await connection.execute(query.order_by(outbox.c.org_id, outbox.c.seq, outbox.c.topic).limit(limit)))


async def drop(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> None:
    """Forgets messages that were handed on: of each org all up to the last, since none can appear before one that was seen."""
    last = {row.org_id: row for row in rows}
    place = tuple_(outbox.c.seq, outbox.c.topic) <= tuple_(bindparam("last_seq"), bindparam("last_topic"))
    query = delete(outbox).where(outbox.c.org_id == bindparam("org"), place)
    if last:
        await connection.execute(query, [{"org": at, "last_seq": row.seq, "last_topic": row.topic} for at, row in last.items()])


async def put_newest(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> None:
    """Writes the newest state of the keys of some messages anew where one is newer than they, unless it waits still: for a relay whose
    messages may have been published after those of another."""
    j, found = journal.c, dict[tuple[int, str], Message]()
    first = {row.org_id: row for row in reversed(rows)}
    for org_id, row in first.items():
        org = str(await connection.scalar(select(orgs.c.org).where(orgs.c.org_id == org_id)))
        newer = select(j.data).where(j.org_id == org_id, j.seq > row.seq, j.kind == KeyStateChanged.__name__).order_by(j.seq)
        for data in await connection.scalars(newer):
            found |= {(org_id, m.key): m for m in messages_of(org, decode_fact(data)) if m.topic == KEY_COMMANDS}
    mine = {(row.org_id, row.key): row.seq for row in rows if row.topic == KEY_COMMANDS}
    again = [(at[0], *found[at]) for at, seq in mine.items() if at in found and found[at].seq > seq]
    await upsert_rows(connection, outbox, again)
    if again:
        await announce(connection)


async def depth(connection: AsyncConnection) -> int:
    """How many messages wait."""
    return int(await connection.scalar(select(func.count()).select_from(outbox)) or 0)


async def park(connection: AsyncConnection, rows: Iterable[tuple[str, bytes, str, int, str]]) -> None:
    """Keeps events as parsed: (org, digest, reason, received_us, JSON). They can be sent again (W3, S3)."""
    await upsert_rows(connection, parked, list({row[:2]: row for row in rows}.values()))
