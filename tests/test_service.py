"""Commands that arrive together are booked together."""

import asyncio

from sqlalchemy import select

from ledger.core.commands import Status
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import tables as t
from ledger.store.dialect import Database
from tests.store.events import NOW_US, usage


async def test_what_comes_while_a_small_batch_is_booked_is_booked_in_one_after_it(database: Database) -> None:
    """Each is answered for its own commands, and stands in the journal in the order it came."""
    service = Service(database, Metrics(), lambda: NOW_US)
    first = asyncio.create_task(service.record([usage("first", 1)]))
    await asyncio.sleep(0)
    later = [asyncio.create_task(service.record([usage(f"later-{n}", 1), usage("first", 1)])) for n in range(10)]
    assert [result.status for result in await first] == [Status.RECORDED]
    for results in await asyncio.gather(*later):
        assert [result.status for result in results] == [Status.RECORDED, Status.DUPLICATE]
    assert service.metrics.registry.get_sample_value("ledger_batch_seconds_count") == 2
    async with database.reader.connect() as connection:
        query = select(t.journal.c.event_id).where(t.journal.c.event_id.is_not(None)).order_by(t.journal.c.seq)
        assert list(await connection.scalars(query)) == ["first", *(f"later-{n}" for n in range(10))]
