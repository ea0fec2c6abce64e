"""Owns the proof and the repair of the projections: the journal folded from nothing, held against what is saved (J1, M7).

Replay sends nothing. Both read the journal in pages; the books of one org at a time are in memory.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import ORG, Books, SumKey
from ..core.caps import Sum, total
from ..core.fold import fold
from ..core.window import Period, date_of
from . import books as projections
from . import journal, rollup, saving
from . import tables as t
from .dialect import prefer_indexes

Progress = Callable[[int], None]
_STATE = (
    "seq", "recorded_us", "latest_us", "latest_day", "taken_back", "org_seq", "zone", "enforce", "brake", "workspaces", "keys",
    "credentials", "left", "confirmations", "caps", "guardrails", "connections", "breaches", "ordinals", "spoken", "waits", "labels",
)  # fmt: skip


async def folded(connection: AsyncConnection, org_id: int, org: str, progress: Progress) -> Books:
    """The books that an org's journal makes. Raises journal.GapError."""
    books = Books(org)
    await prefer_indexes(connection)
    async for page in journal.pages(connection, org_id, org):
        fold(books, page)
        progress(len(page))
    return books


async def replay(connection: AsyncConnection, org_id: int, org: str, progress: Progress) -> Books:
    """Drops an org's projections and writes them anew from its journal. The caller has the org's lock."""
    books = await folded(connection, org_id, org, progress)
    for table in t.PROJECTIONS:
        await connection.execute(delete(table).where(table.c.org_id == org_id))
    await saving.save(connection, [(org_id, books)], books.recorded_us)
    await rollup.forget(connection, org_id)
    return books


async def verify(connection: AsyncConnection, org_id: int, org: str, progress: Progress) -> str | None:
    """The first difference between an org's projections and its journal, in words; None if there is none.

    The caller's transaction must see one snapshot.
    """
    try:
        right = await folded(connection, org_id, org, progress)
    except journal.GapError as error:
        return str(error)
    saved = (await projections.load(connection, {org: org_id}))[org]
    for table, period in ((t.days, Period.DAY), (t.hours, Period.HOUR)):
        for row in await connection.execute(select(table).where(table.c.org_id == org_id)):
            saved.sums[SumKey(row[1], period, row[2])] = Sum(*row[3:])
    differences = (f"org {org}: {what}" for what in (*_differences(right, saved), *_parts(saved)))
    closed = await _closed(connection, org_id, right)
    differing = closed or await _rolled(connection, org_id, right)
    return next(differences, differing and f"org {org}: {differing}")


def _differences(right: Books, saved: Books) -> Iterator[str]:
    for name in _STATE:
        ours, theirs = getattr(saved, name), getattr(right, name)
        if isinstance(theirs, dict):
            for key in sorted({*ours, *theirs}, key=str):
                if ours.get(key) != theirs.get(key):
                    yield f"{name} {key}: saved {ours.get(key)}, the journal says {theirs.get(key)}"
        elif ours != theirs:
            yield f"{name}: saved {ours}, the journal says {theirs}"
    for key in sorted({*saved.sums, *right.sums}):
        if key.period in (Period.DAY, Period.HOUR) and (found := saved.sums.get(key, Sum())) != (due := right.sums.get(key, Sum())):
            when = date_of(key.start) if key.period is Period.DAY else key.start
            yield f"{key.period} {when} of {key.scope}: saved {found}, the journal says {due}"


def _parts(saved: Books) -> Iterator[str]:
    """M7: on every day, the org is the sum of its workspaces and of its keys."""
    by_day: dict[tuple[int, str], list[Sum]] = defaultdict(list)
    for key, part in saved.sums.items():
        if key.period is Period.DAY:
            by_day[key.start, key.scope.partition(":")[0]].append(part)
    for day in sorted({day for day, _ in by_day}):
        whole = total(by_day[day, "org"])
        for kind in ("workspace", "key"):
            if (parts := total(by_day[day, kind])) != whole:
                yield f"day {date_of(day)}: the org's {whole} is not the sum of its {kind}s, {parts}"


async def _rolled(connection: AsyncConnection, org_id: int, right: Books) -> str | None:
    """Whether what reports read says the same of every day as the journal (M7)."""
    sums = await rollup.by_day(connection, org_id, right.zone, right.seq)
    days = {key.start: part for key, part in right.sums.items() if key.scope == ORG and key.period is Period.DAY}
    for day in sorted({*sums, *days}):
        if (found := sums.get(day, Sum())) != (due := days.get(day, Sum())):
            return f"the rollup's {date_of(day)}: {found}, the journal says {due}"
    return None


async def _closed(connection: AsyncConnection, org_id: int, right: Books) -> str | None:
    rows: dict[Any, Any] = {}
    for row in await connection.execute(select(t.breaches).where(t.breaches.c.org_id == org_id)):
        rows[row.cap_id, row.ordinal] = projections.breach_of(row)
    for at in sorted({*rows, *right.history}):
        if rows.get(at) != right.history.get(at):
            return f"breach {at}: saved {rows.get(at)}, the journal says {right.history.get(at)}"
    return None
