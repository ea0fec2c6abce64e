"""Owns when connections were heard: the hours in which calls came in by each, for a while, and which have fallen silent since."""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.connections import Direction
from ..core.rhythm import silent_since
from ..core.window import HOUR_US
from .bulk import upsert_rows
from .tables import connections, heard, orgs

KEPT_US = 15 * 24 * HOUR_US  # two weekends


async def note(connection: AsyncConnection, hours: Mapping[tuple[int, str], int]) -> None:
    """Notes the latest time, microseconds, at which each (org's id, connection) was heard, by its hour; forgets what is long ago."""
    rows = {(org_id, name, us - us % HOUR_US) for (org_id, name), us in hours.items()}
    await upsert_rows(connection, heard, sorted(rows))
    for org_id, name, hour_us in sorted(rows):
        mine = (heard.c.org_id == org_id, heard.c.connection_id == name)
        await connection.execute(delete(heard).where(*mine, heard.c.hour_us < hour_us - KEPT_US))


async def silent(connection: AsyncConnection, now_us: int, org_id: int | None = None) -> dict[tuple[str, str], int]:
    """(org, connection) → since when it has been silent for longer than it ever is. All orgs', or one's."""
    h, c = heard.c, connections.c
    query = select(orgs.c.org, h.connection_id, h.hour_us).join(orgs, orgs.c.org_id == h.org_id)
    query = query.join(connections, (c.org_id == h.org_id) & (c.connection_id == h.connection_id))
    query = query.where(c.direction != str(Direction.OUT), *((h.org_id == org_id,) if org_id is not None else ()))
    hours: dict[tuple[str, str], list[int]] = defaultdict(list)
    for org, name, hour_us in await connection.execute(query.order_by(h.org_id, h.connection_id, h.hour_us)):
        hours[org, name].append(hour_us)
    return {place: since for place, them in hours.items() if (since := silent_since(them, now_us)) is not None}
