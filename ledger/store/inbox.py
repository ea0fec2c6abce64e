"""Owns key commands on their way to gateways, one row per (credential, connection, revision): accepted once, claimed for an
attempt, and what became of it (K3).

The attempt is stored before the call. Until its outcome is stored, or its lease ends, no other command for the same credential
is tried there: two calls under way could arrive in either order. Whoever writes many rows does so in the order of their places, so
that two can't wait for each other.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, exists, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.connections import COMMANDED, Connection, Direction, Gateway, commanded_by
from ..wire.messages import KeyCommand
from .books import connection_of
from .bulk import chunks, update_rows, upsert_rows
from .dialect import prefer_indexes
from .tables import commands, confirmations, connections, orgs

PENDING, ATTEMPTED, CONFIRMED, SUPERSEDED = "pending", "attempted", "confirmed", "superseded"
FAILED, LEFT, UNKNOWN = "failed", "left", "unknown"
OPEN = (PENDING, ATTEMPTED)
DELIVERIES = (*OPEN, CONFIRMED, SUPERSEDED, FAILED, LEFT, UNKNOWN)
ANYWHERE = ""  # where an org has no such connection: its gateways act on what is published, and confirm it themselves

c = commands.c
_SUBJECT = (c.org_id, c.credential, c.connection)
_ASKED: tuple[str, ...] = ("at_org_id", "at_credential", "at_connection")
_PLACE = ("org_id", "credential", "connection", "revision")
_FINAL = {"delivery": SUPERSEDED}
Lane = tuple[int, str]  # an org's id, one of its connections


async def accept(connection: AsyncConnection, said: Sequence[tuple[int, KeyCommand]], now_us: int) -> None:
    """Takes key commands in, with their orgs' ids, one row for each credential at each connection that is told of it: older
    revisions are superseded, older or known ones are ignored (K3)."""
    ways = await _ways(connection, {org_id for org_id, _ in said})
    latest: dict[tuple[int, str, str], tuple[KeyCommand, bool]] = {}
    for org_id, command in said:
        for way, gateway in ways.get(org_id, ((ANYWHERE, None),)):
            told = command.credentials if gateway is None else commanded_by(gateway, command.credentials)
            for credential in command.credentials:
                place = org_id, credential, way
                if place not in latest or latest[place][0].revision < command.revision:
                    latest[place] = command, credential in told
    newest = await _newest(connection, latest)
    news = {place: command for place, (command, told) in latest.items() if told and newest.get(place, -1) < command.revision}
    await _supersede(connection, news.keys() & newest.keys(), OPEN)
    spare = {place for place, (command, told) in latest.items() if not told and newest.get(place, command.revision) < command.revision}
    await _supersede(connection, spare, (*OPEN, UNKNOWN))  # what a name alone could not stop, a hash does now
    await upsert_rows(connection, commands, [_new_row(place, command, now_us) for place, command in news.items()])


async def _supersede(connection: AsyncConnection, places: Collection[tuple[int, str, str]], still: Sequence[str]) -> None:
    if places:
        here = and_(*(place == bindparam(name) for place, name in zip(_SUBJECT, _ASKED, strict=True)))
        which = update(commands).where(here, or_(*(c.delivery == state for state in still)))
        await connection.execute(which.values(delivery=SUPERSEDED), [dict(zip(_ASKED, place, strict=True)) for place in sorted(places)])


async def _newest(connection: AsyncConnection, places: Iterable[tuple[int, str, str]]) -> dict[tuple[int, str, str], int]:
    """The newest revisions of what is commanded at these places, and at the credentials' other ones. An org at a time: a list of names
    costs a sixth of a table of places, which SQLAlchemy would compile anew, value by value."""
    credentials: dict[int, set[str]] = {}
    for org_id, credential, _ in places:
        credentials.setdefault(org_id, set()).add(credential)
    newest: dict[tuple[int, str, str], int] = {}
    for org_id, mine in credentials.items():
        for part in chunks(mine, 1_000):
            query = select(*_SUBJECT, func.max(c.revision)).where(c.org_id == org_id, c.credential.in_(part)).group_by(*_SUBJECT)
            newest.update(((row[0], row[1], row[2]), row[3]) for row in await connection.execute(query))
    return newest


async def _ways(connection: AsyncConnection, orgs: Iterable[int]) -> dict[int, list[tuple[str, Gateway | None]]]:
    """The connections that each org's key commands go out by, and whose they are."""
    ways: dict[int, list[tuple[str, Gateway | None]]] = {}
    t = connections.c
    for part in chunks(orgs):
        query = select(t.org_id, t.connection_id, t.gateway).where(t.org_id.in_(part))
        for org_id, name, gateway in await connection.execute(query.where(t.direction != Direction.IN, t.gateway.in_(COMMANDED))):
            ways.setdefault(org_id, []).append((name, Gateway(gateway)))
    return ways


def _new_row(place: tuple[int, str, str], command: KeyCommand, now_us: int) -> tuple[Any, ...]:
    org_id, credential, at = place
    reasons = ", ".join(command.reasons)
    return (org_id, command.key, credential, at, command.revision, str(command.state), reasons, PENDING, 0, now_us, now_us,
            None, None, None, None, None)  # fmt: skip


class DueCommand(NamedTuple):
    """A key command that is to be tried now.

    Attributes:
      attempts, attempted_us: before this attempt.
      mark: the gateway's change mark for our last confirmed pause of the credential, None if there is none.
      known: the gateway has confirmed something about the credential before.
      declared: the version of the connection; None if it is not declared any more.
      unsure: an earlier attempt at the credential, for this revision or one before, has an unknown outcome (K2).
      begun_us: when this attempt was.
    """

    org_id: int
    org: str
    key: str
    credential: str
    connection: str
    revision: int
    state: str
    attempts: int
    created_us: int
    attempted_us: int | None
    mark: str | None
    known: bool
    declared: int | None
    unsure: bool
    begun_us: int

    @property
    def lane(self) -> Lane:
        """What it goes through."""
        return self.org_id, self.connection


@lru_cache
def _due(query: Any, shut: bool, *deliveries: str) -> Any:
    """Of a query on commands, those whose time has come: at `now_us`, in these states, outside of the lanes in `closed` if any are
    `shut`, nobody else's. Kept, since it takes longer to build than to run."""
    other = commands.alias("other").c
    busy = exists().where(
        other.org_id == c.org_id, other.credential == c.credential, other.connection == c.connection, other.busy_us > bindparam("now_us")
    )
    # By a single state the index gives the oldest without reading the others: of ten thousand that are due, a few hundred at a time.
    query = query.where(c.delivery.in_(deliveries), c.connection != ANYWHERE, c.next_us <= bindparam("now_us"), ~busy)
    return query.where(tuple_(c.org_id, c.connection).not_in(bindparam("closed", expanding=True))) if shut else query


_ANY = select(c.org_id).limit(1)


async def any_due(connection: AsyncConnection, now_us: int, closed: Sequence[Lane]) -> bool:
    """Whether any command is to be tried now, outside of closed lanes."""
    return await connection.scalar(_due(_ANY, bool(closed), *OPEN), _when(now_us, closed)) is not None


def _when(now_us: int, closed: Sequence[Lane]) -> dict[str, Any]:
    return {"now_us": now_us} | ({"closed": list(closed)} if closed else {})


@lru_cache
def _claimable() -> Any:
    """What an attempt needs to know of open commands, oldest first, at most `limit`."""
    said, way, lost = confirmations.c, connections.c, commands.alias("lost").c
    own = and_(said.org_id == c.org_id, said.key == c.key, said.credential == c.credential, said.connection == c.connection)
    unsure = exists().where(
        lost.org_id == c.org_id, lost.credential == c.credential, lost.connection == c.connection, lost.attempted_us.is_not(None),
        lost.confirmed_us.is_(None), lost.delivery.in_((ATTEMPTED, SUPERSEDED, FAILED)), lost.revision <= c.revision,
        lost.revision > func.coalesce(said.revision, 0),
    )  # fmt: skip
    query = select(
        c.next_us, c.org_id, orgs.c.org, c.key, c.credential, c.connection, c.revision, c.state, c.attempts, c.created_us, c.attempted_us,
        said.mark, said.revision.is_not(None), way.seq, unsure,
    )  # fmt: skip
    query = query.join(orgs, orgs.c.org_id == c.org_id).outerjoin(confirmations, own)
    query = query.outerjoin(connections, and_(way.org_id == c.org_id, way.connection_id == c.connection))
    return query.order_by(c.next_us).limit(bindparam("limit"))


async def claim_due(connection: AsyncConnection, now_us: int, until_us: int, limit: int, closed: Sequence[Lane]) -> list[DueCommand]:
    """Open commands whose time has come, oldest first, their attempt stored; nobody else takes them before `until_us`."""
    when = _when(now_us, closed) | {"limit": limit}
    await prefer_indexes(connection)
    rows: list[Any] = [row for state in OPEN for row in await connection.execute(_due(_claimable(), bool(closed), state), when)]
    oldest = sorted(rows, key=lambda row: row.next_us)[:limit]
    due = [DueCommand._make((*said, bool(known), declared, bool(unsure), now_us)) for _, *said, known, declared, unsure in oldest]
    if due:
        # Not due before then either, so that who looks for what is due passes over those under way without reading them.
        names = (*_PLACE, "delivery", "attempts", "next_us", "attempted_us", "busy_us")
        tried = sorted((*_place(command), ATTEMPTED, command.attempts + 1, until_us, now_us, until_us) for command in due)
        # One that was superseded since it was read is tried, as if a moment before: its successor waits for that, and is the last.
        await update_rows(connection, commands, names, tried, keys=len(_PLACE), final=_FINAL)
    return due


async def declared(connection: AsyncConnection, lanes: Collection[Lane]) -> dict[Lane, Connection]:
    """The connections of lanes, as they are declared now."""
    t = connections.c
    rows = await connection.execute(select(connections).where(tuple_(t.org_id, t.connection_id).in_(list(lanes)))) if lanes else ()
    return {(row.org_id, row.connection_id): connection_of(row) for row in rows}


async def hurry(connection: AsyncConnection, lanes: Collection[Lane], now_us: int) -> None:
    """Has the open commands of lanes tried now, however long they were to wait; those under way, or just being written, stay with
    whoever has them."""
    query = select(*(c[name] for name in _PLACE)).where(tuple_(c.org_id, c.connection).in_(list(lanes)), c.delivery.in_(OPEN))
    waiting = await connection.execute(query.where(c.next_us > now_us, c.busy_us.is_(None)).with_for_update(skip_locked=True))
    rows = [(*row, now_us) for row in waiting]
    await update_rows(connection, commands, (*_PLACE, "next_us"), rows, keys=len(_PLACE))


def _place(command: DueCommand) -> tuple[int, str, str, int]:
    return command.org_id, command.credential, command.connection, command.revision


class Outcome(NamedTuple):
    """What an attempt left behind, to be stored; fields as in the table. `attempted_us` None: nothing was sent after all."""

    delivery: str
    attempts: int
    next_us: int
    attempted_us: int | None
    confirmed_us: int | None
    error: str | None


async def note(connection: AsyncConnection, outcomes: Sequence[tuple[DueCommand, Outcome]]) -> None:
    """Stores what became of attempts. A command that was superseded meanwhile stays so; its outcome is known all the same."""
    rows = sorted(((*_place(command), *outcome, None) for command, outcome in outcomes), key=lambda row: row[: len(_PLACE)])
    names = (*_PLACE, *Outcome._fields, "busy_us")
    await update_rows(connection, commands, names, rows, keys=len(_PLACE), final=_FINAL)


class Place(NamedTuple):
    """One command that is to be sent again."""

    org_id: int
    key: str
    credential: str
    connection: str
    revision: int
    state: str


async def open_places(connection: AsyncConnection, org_id: int) -> set[tuple[str, str]]:
    """(credential, connection) of an org's commands that are under way."""
    rows = await connection.execute(select(c.credential, c.connection).where(c.org_id == org_id, c.delivery.in_(OPEN)))
    return {(row[0], row[1]) for row in rows}


async def send_again(connection: AsyncConnection, places: Sequence[Place], now_us: int) -> None:
    """Opens commands anew, of the revision that they are of: confirmed ones that did not last, those given up, and those of a
    connection that was not there before. One that was superseded meanwhile stays so."""
    newest = select(func.max(c.revision)).where
    for place in places:
        mine = and_(c.org_id == place.org_id, c.credential == place.credential, c.connection == place.connection)
        latest = await connection.scalar(newest(mine))
        if latest == place.revision:
            fresh = {"delivery": PENDING, "next_us": now_us, "confirmed_us": None, "error": None, "told_us": None}
            await connection.execute(update(commands).where(mine, c.revision == latest, ~c.delivery.in_(OPEN)).values(fresh))
        elif latest is None or latest < place.revision:
            row = (place.org_id, place.key, place.credential, place.connection, place.revision, str(place.state), "checked", PENDING, 0,
                   now_us, now_us, None, None, None, None, None)  # fmt: skip
            await upsert_rows(connection, commands, [row])


async def leave_to_connections(connection: AsyncConnection, org_id: int) -> None:
    """Ends the waiting for gateways that act by themselves, of an org whose connections are told instead by now."""
    waiting = update(commands).where(c.org_id == org_id, c.connection == ANYWHERE, c.delivery.in_(OPEN))
    await connection.execute(waiting.values(delivery=SUPERSEDED))


async def confirm(connection: AsyncConnection, org_id: int, way: str, credential: str, revision: int, now_us: int) -> None:
    """Notes that a gateway which acts by itself has carried a command out."""
    query = update(commands).where(
        c.org_id == org_id, c.credential == credential, c.connection == way, c.revision == revision, c.delivery.in_(OPEN)
    )
    await connection.execute(query.values(delivery=CONFIRMED, confirmed_us=now_us, error=None))
