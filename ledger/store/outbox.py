"""Owns messages on their way out (in the transaction of their effect, J5), key commands on their way to a gateway, and
parked events."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, and_, delete, exists, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..wire.messages import KeyCommand, Message
from .dialect import insert_rows, upsert_rows
from .tables import commands, confirmations, orgs, outbox, parked

PENDING, ATTEMPTED, CONFIRMED, SUPERSEDED, FAILED, LEFT = "pending", "attempted", "confirmed", "superseded", "failed", "left"
OPEN = (PENDING, ATTEMPTED)


async def put(connection: AsyncConnection, messages: Iterable[tuple[int, Message]]) -> None:
    """Writes messages, each with its org's id."""
    await insert_rows(connection, outbox, [(org_id, *message) for org_id, message in messages])


async def take(connection: AsyncConnection, limit: int) -> list[Row[Any]]:
    """The oldest messages of every org in (org, seq) order, so that a key's revisions never overtake each other (K3)."""
    query = select(outbox).order_by(outbox.c.org_id, outbox.c.seq, outbox.c.topic).limit(limit)
    return list(await connection.execute(query))


async def drop(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> None:
    """Forgets messages that were handed on."""
    if rows:
        key = tuple_(outbox.c.org_id, outbox.c.seq, outbox.c.topic)
        await connection.execute(delete(outbox).where(key.in_([(row.org_id, row.seq, row.topic) for row in rows])))


async def depth(connection: AsyncConnection) -> int:
    """How many messages wait."""
    return int(await connection.scalar(select(func.count()).select_from(outbox)) or 0)


async def accept_command(connection: AsyncConnection, org_id: int, command: KeyCommand, now_us: int) -> None:
    """Takes a key command in, one row a credential: older revisions are superseded, an older or known one is ignored (K3)."""
    c = commands.c
    for credential in command.credentials:
        mine = and_(c.org_id == org_id, c.credential == credential)
        newest = await connection.scalar(select(func.max(c.revision)).where(mine))
        if newest is not None and newest >= command.revision:
            continue
        await connection.execute(update(commands).where(mine, c.delivery.in_(OPEN)).values(delivery=SUPERSEDED))
        reasons = ", ".join(command.reasons)
        row = (org_id, command.key, credential, command.revision, str(command.state), reasons, PENDING, 0, now_us, now_us, None, None, None)
        await upsert_rows(connection, commands, [row])


class DueCommand(NamedTuple):
    """A key command that is to be tried now.

    Attributes:
      mark: the gateway's change mark for our last confirmed pause of the credential, None if there is none.
      unsure: an earlier attempt at the credential, for this revision or one before, has an unknown outcome (K2).
    """

    org_id: int
    org: str
    key: str
    credential: str
    revision: int
    state: str
    attempts: int
    created_us: int
    mark: str | None
    unsure: bool


async def due_commands(connection: AsyncConnection, now_us: int, limit: int) -> list[DueCommand]:
    """Open commands whose time has come, oldest first."""
    c, said, lost = commands.c, confirmations.c, commands.alias("lost").c
    own = and_(said.org_id == c.org_id, said.key == c.key, said.credential == c.credential)
    unsure = exists().where(
        lost.org_id == c.org_id, lost.credential == c.credential, lost.attempted_us.is_not(None),
        lost.confirmed_us.is_(None), lost.delivery.in_((ATTEMPTED, SUPERSEDED)), lost.revision <= c.revision,
        lost.revision > func.coalesce(said.revision, 0),
    )  # fmt: skip
    query = select(
        c.org_id, orgs.c.org, c.key, c.credential, c.revision, c.state, c.attempts, c.created_us, said.mark, unsure
    )  # fmt: skip
    query = query.join(orgs, orgs.c.org_id == c.org_id).outerjoin(confirmations, own)
    rows = await connection.execute(query.where(c.delivery.in_(OPEN), c.next_us <= now_us).order_by(c.next_us).limit(limit))
    return [DueCommand._make((*row[:-1], bool(row[-1]))) for row in rows]


async def mark_command(connection: AsyncConnection, command: DueCommand, **values: Any) -> bool:
    """Notes what became of a command, unless it was superseded meanwhile; whether it was noted."""
    c = commands.c
    key = and_(c.org_id == command.org_id, c.key == command.key, c.credential == command.credential)
    query = update(commands).where(key, c.revision == command.revision, c.delivery.in_(OPEN)).values(**values)
    return (await connection.execute(query)).rowcount > 0


async def park(connection: AsyncConnection, rows: Iterable[tuple[str, bytes, str, int, str]]) -> None:
    """Keeps events as parsed: (org, digest, reason, received_us, JSON). They can be sent again (W3, S3)."""
    await upsert_rows(connection, parked, list({row[:2]: row for row in rows}.values()))


async def confirm(connection: AsyncConnection, org_id: int, credential: str, revision: int, now_us: int) -> None:
    """Notes that a gateway which acts by itself has carried a command out."""
    c = commands.c
    query = update(commands).where(c.org_id == org_id, c.credential == credential, c.revision == revision, c.delivery.in_(OPEN))
    await connection.execute(query.values(delivery=CONFIRMED, confirmed_us=now_us, error=None))
