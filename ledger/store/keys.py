"""Owns how keys, and the commands to their gateways, are shown. See `reports`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, false, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import Books
from ..core.keys import Key
from ..core.levels import reasons
from ..wire.messages import command_id
from ..wire.times import moment_text
from . import tables as t
from .inbox import FAILED, OPEN
from .reports import Head, Json, books_about, labels_json


async def keys_json(connection: AsyncConnection, head: Head, ids: Sequence[str]) -> list[Json]:
    """Keys as the API shows them, those that exist, in the order of their ids here. An alias is as its older key is (S3)."""
    c, k = t.commands.c, t.keys.c
    older = await connection.scalars(select(k.alias_of).where(k.org_id == head.org_id, k.key_id.in_(ids), k.alias_of.is_not(None)))
    ruling = {*ids, *older}
    books = await books_about(connection, head, [*ruling])
    undone = select(c.key).join(t.keys, and_(k.org_id == c.org_id, k.key_id == c.key, k.revision == c.revision))
    undone = undone.where(c.org_id == head.org_id, c.key.in_(ruling), c.delivery.in_((*OPEN, FAILED)))
    under_way = set(await connection.scalars(undone))
    return [_key_json(books, books.keys[key_id], under_way) for key_id in ids if key_id in books.keys]


def _key_json(books: Books, key: Key, under_way: set[str]) -> Json:
    """A key as the API shows it (K1–K3). `confirmed`: what every gateway of it said last, null while one has not done so."""
    ruled = key if key.alias_of is None else books.keys[key.alias_of]
    said = [c for (name, *_), c in books.confirmations.items() if name == ruled.key_id]
    done = len({c.state for c in said}) == 1 and ruled.key_id not in under_way and all(c.revision == ruled.revision for c in said)
    return {
        "key": key.key_id, "workspace": key.workspace, "state": ruled.state, "reasons": list(reasons(books, ruled)), "wanted": ruled.state,
        "confirmed": said[0].state if done else None, "revision": ruled.revision, "changed_at": moment_text(ruled.changed_us),
        "credentials": list(books.credentials_of(key.key_id)[1:]), "held": ruled.held, "leaking": ruled.leaking, "alias_of": key.alias_of,
        "registered_by": key.by, "deleted": key.deleted, "labels": labels_json(books, f"key:{key.key_id}"), "version": key.seq,
    }  # fmt: skip


async def owner_of(connection: AsyncConnection, head: Head, name: str) -> str:
    """The key that has a name as a credential, also one that an alias is called by (S1); a name that is none means itself."""
    c = t.credentials.c
    return await connection.scalar(select(c.key).where(c.org_id == head.org_id, c.credential == name, c.has_left.is_(False))) or name


Place = tuple[int, str, str, str, int]  # of a command in their list: when it was made, key, credential, connection, revision


async def commands(
    connection: AsyncConnection, head: Head, *, limit: int = 100, delivery: str | None = None, keys: Sequence[str] | None = None
) -> list[Json]:
    """Key commands with their delivery state, newest first (K3)."""
    return (await commands_page(connection, head, None, limit=limit, delivery=delivery, keys=keys))[0]


async def commands_page(
    connection: AsyncConnection, head: Head, after: Place | None, *, limit: int, delivery: str | None, keys: Sequence[str] | None
) -> tuple[list[Json], Place | None]:  # fmt: skip
    """As `commands`, those that come after a place; and the place of the last, where there may be more."""
    c = t.commands.c
    query = select(t.commands).where(c.org_id == head.org_id)
    query = query if delivery is None else query.where(c.delivery == delivery)
    query = query if keys is None else query.where(c.key.in_(keys))
    query = query if after is None else query.where(_follows(after))
    order = (c.created_us.desc(), c.key, c.credential, c.connection, c.revision.desc())
    rows = (await connection.execute(query.order_by(*order).limit(limit))).all()
    last = rows[-1] if len(rows) == limit else None
    place = None if last is None else (last.created_us, last.key, last.credential, last.connection, last.revision)
    return [_command_json(row) for row in rows], place


def _follows(after: Place) -> ColumnElement[bool]:
    """Whether a command comes after a place: of the same in all columns before, what is newer comes first, and a name by its letters."""
    c = t.commands.c
    found: ColumnElement[bool] = false()
    for column, value in reversed(list(zip((c.created_us, c.key, c.credential, c.connection, c.revision), after, strict=True))):
        found = or_(column < value if isinstance(value, int) else column > value, and_(column == value, found))
    return found


async def command(connection: AsyncConnection, head: Head, name: str) -> Json | None:
    """One key command by its id (`wire.messages.command_id`)."""
    where, _, credential = name.partition(":")
    revision, _, way = where.partition("@")
    c = t.commands.c
    if not revision.isdecimal() or len(revision) > 18:
        return None
    mine = and_(c.org_id == head.org_id, c.credential == credential, c.connection == way, c.revision == int(revision))
    row = (await connection.execute(select(t.commands).where(mine))).one_or_none()
    return None if row is None else _command_json(row)


def _command_json(row: Row[Any]) -> Json:
    return {
        "id": command_id(row.connection, row.credential, row.revision), "key": row.key, "credential": row.credential,
        "connection": row.connection or None, "revision": row.revision, "state": row.state, "reasons": row.reasons,
        "delivery": row.delivery, "attempts": row.attempts, "created_at": moment_text(row.created_us),
        "attempted_at": _maybe(row.attempted_us), "confirmed_at": _maybe(row.confirmed_us), "error": row.error,
    }  # fmt: skip


def _maybe(us: int | None) -> str | None:
    return None if us is None else moment_text(us)
