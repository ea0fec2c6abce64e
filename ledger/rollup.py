"""Owns the rollup's way along the journal: a step at a time, by one process, in a transaction of its own."""

from .service import Service
from .store import rollup
from .store.dialect import claim

RESTS = 2  # of three parts of time: reports can wait, since they read the tail; what is booked and asked meanwhile can't


async def rollup_once(service: Service) -> int:
    """Adds what was booked since to the rollup that reports read; how many steps it knows to be left: one, or none.

    What comes in while it reads can wait: a report reads it from the journal's tail.
    """
    async with service.database.reader.connect() as connection:
        if not await rollup.behind(connection):
            return 0
    async with service.database.writer.begin() as connection:
        if not await claim(connection, "rollup"):
            return 0
        return int(await rollup.follow(connection))
