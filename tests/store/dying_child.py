"""Books six events and dies by SIGKILL before or after one step: `dying_child.py URL STEP before|after`."""

import asyncio
import importlib
import inspect
import os
import signal
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from ledger.record import Shelf, record
from ledger.store.dialect import connect
from tests.store.events import NOW_US, usage


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(step: str, when: str) -> None:
    """Replaces a step by one that kills the process before or after doing its work."""
    where, _, name = step.rpartition(".")
    module = importlib.import_module(where)
    real = getattr(module, name)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        result = await real(*args, **kwargs)
        die()
        return result

    def called(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            die()
        real(*args, **kwargs)
        die()

    setattr(module, name, awaited if inspect.iscoroutinefunction(real) else called)


async def main(url: str, step: str, when: str) -> None:
    database = connect(url)
    if step == "commit":
        from sqlalchemy import event

        if when == "before":
            event.listen(database.writer.sync_engine, "commit", lambda _: die())
    else:
        die_at(step, when)
    await record(database, Shelf(), [usage(f"e{n}", 1) for n in range(6)], NOW_US)
    die()


asyncio.run(main(*sys.argv[1:]))
