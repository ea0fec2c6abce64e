"""The process killed between any two steps of `record`, on both databases: nothing lost, nothing doubled (J5)."""

import subprocess
import sys
from pathlib import Path

import pytest

from ledger.core.caps import Action, Rule
from ledger.core.commands import SetCap, Status
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.record import Shelf, record
from ledger.store import balances, outbox, reports
from ledger.store.dialect import Database
from ledger.store.replay import verify
from tests.store.events import NOW_US, usage

# The steps of the one transaction, by the functions that take them; the process dies before or after each.
STEPS = ("ledger.record.lock_orgs", "ledger.record.load", "ledger.record.find", "ledger.record.execute", "ledger.store.journal.append",
         "ledger.store.outbox.put", "ledger.record.append", "ledger.record.save", "commit")  # fmt: skip
CHILD = Path(__file__).with_name("dying_child.py")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_kill_at_any_step_loses_nothing_and_doubles_nothing(database: Database, database_url: str, step: str, when: str) -> None:
    shelf = Shelf()
    cap = SetCap(org="acme", by="will", cap="day", scope="key:k", rule=Rule(period=Period.DAY, limit=Nanos(5 * USD), action=Action.PAUSE))
    await record(database, shelf, [cap, usage("before", 1)], NOW_US)
    child = subprocess.run([sys.executable, str(CHILD), database_url, step, when], capture_output=True, timeout=60, check=False)
    assert child.returncode == -9, child.stderr.decode()
    booked = await record(database, shelf, [usage(f"e{n}", 1) for n in range(6)], NOW_US)  # the sender tries again
    committed = (step, when) == ("commit", "after")
    assert {result.status for result in booked.results} == {Status.DUPLICATE if committed else Status.RECORDED}
    async with database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        assert await verify(connection, head.org_id, "acme", lambda _: None) is None
        (balance,) = await balances.standing(connection, head, ["key:k"], [Period.DAY], NOW_US)
        assert (balance["spent_usd"], balance["requests"]) == ("7.00", 7)
        assert len(await reports.breaches(connection, head)) == 1
        assert [row.topic for row in await outbox.take(connection, 100)].count("ledger.key-commands") == 1
