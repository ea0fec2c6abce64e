"""Owns the clock as a command: orgs with something due by now are looked at, whether or not anything is sent to them (W5)."""

from sqlalchemy import select

from .service import Service
from .store.tables import orgs

MOST_ORGS = 500


async def pulse_once(service: Service) -> int:
    """Does what is due; how many orgs it looked at."""
    query = select(orgs.c.org).where(orgs.c.due_us <= service.clock()).order_by(orgs.c.due_us).limit(MOST_ORGS)
    async with service.database.reader.connect() as connection:
        due = list(await connection.scalars(query))
    if due:
        await service.pulse(due)
    return len(due)
