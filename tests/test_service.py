"""Commands that arrive together are booked together."""

import asyncio

import pytest
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


async def test_an_org_that_sends_much_holds_up_no_other(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """T1: whoever waits has a turn of its own, and the order of what one org sent stays as it was."""
    for most in ("MOST_TOGETHER", "MOST_IN_TURN"):
        monkeypatch.setattr(f"ledger.pipeline.{most}", 2)
    service = Service(database, Metrics(), lambda: NOW_US)
    busy = [asyncio.create_task(service.record([usage(f"{n:02}-{m}", 1) for m in range(2)], sender="acme")) for n in range(30)]
    await asyncio.sleep(0)
    (result,) = await service.record([usage("quiet", 1, org="other")], sender="other")
    assert (result.status, sum(task.done() for task in busy) < 10) == (Status.RECORDED, True)
    await asyncio.gather(*busy)
    async with database.reader.connect() as connection:
        query = select(t.journal.c.event_id).where(t.journal.c.event_id.is_not(None), t.journal.c.event_id != "quiet")
        names = list(await connection.scalars(query.order_by(t.journal.c.org_id, t.journal.c.seq)))
    assert names == [f"{n:02}-{m}" for n in range(30) for m in range(2)]
