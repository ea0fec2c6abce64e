"""Owns what is compared with a gateway's account: our keys with their credentials, and what came in by a connection by day."""

from collections import defaultdict
from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.connections import Connection, Gateway
from . import journal
from . import tables as t

DAY_US = 86_400_000_000


async def orgs_with(connection: AsyncConnection, kinds: Collection[Gateway]) -> list[str]:
    """Orgs that have connections of these kinds with a token, by name."""
    c, o = t.connections.c, t.orgs.c
    query = select(o.org).join(t.connections, c.org_id == o.org_id).where(c.gateway.in_(kinds), c.token.is_not(None))
    return list(await connection.scalars(query.distinct().order_by(o.org)))


async def credentials(connection: AsyncConnection, org_id: int) -> dict[str, list[str]]:
    """Every key on the lists with its credentials; an alias is one of its older key's."""
    k, c = t.keys.c, t.credentials.c
    query = select(k.key_id).where(k.org_id == org_id, k.alias_of.is_(None), k.deleted.is_(False)).order_by(k.key_id)
    found: dict[str, list[str]] = {key: [] for key in await connection.scalars(query)}
    names = select(c.key, c.credential).where(c.org_id == org_id, c.has_left.is_(False)).order_by(c.key, c.credential)
    for key, name in await connection.execute(names):
        if key in found:
            found[key].append(name)
    return found


async def booked(
    connection: AsyncConnection, org_id: int, account: Connection, owners: dict[str, str], first_day: int, last_day: int
) -> dict[tuple[str, int], tuple[int, int]]:
    """(key, UTC day) → (nano-USD as reported or computed, calls) of what came in by a connection, corrections left out: they are
    ours, not the gateway's. For a connection that counts nothing, of what it was observed to say."""
    start, end = first_day * DAY_US, (last_day + 1) * DAY_US
    table = t.journal if account.counts else t.observed
    c = table.c
    day = (c.time_us - c.time_us % DAY_US).label("day")  # its first microsecond
    name = account.connection_id
    mine = [c.kind == journal.USAGE, c.source == f"connection/{name}"] if account.counts else [c.connection_id == name]
    query = select(c.key, day, func.sum(func.coalesce(c.cost, 0)), func.count())
    query = query.where(c.org_id == org_id, c.time_us >= start, c.time_us < end, *mine)
    found: dict[tuple[str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for key, when, spent, calls in await connection.execute(query.group_by(c.key, day)):
        place = (owners.get(str(key), str(key)), int(when) // DAY_US)
        before = found[place]
        found[place] = (before[0] + int(spent), before[1] + int(calls))
    return dict(found)
