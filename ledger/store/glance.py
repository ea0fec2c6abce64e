"""Owns the glance: balances as `balances.standing` has them, by a single statement, for those who ask the same time and again.

One statement sees one moment, so it needs no transaction around it. But which rows it must ask for, only rows can say: a key's
workspace, the caps on it, the org's time zone. So what an answer took is remembered, and asked for in one piece the next time.
The rows that it hangs on are read again with it, and it is an answer only if they call for nothing that was not asked for.
"""

import json
from collections import defaultdict, namedtuple
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Table, literal_column, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import Books, SumKey
from ..core.caps import Sum
from ..core.window import Period, windows_at
from . import balances, reports
from . import books as projections
from . import tables as t
from .dialect import Database
from .reports import Head, Json
from .sql import json_row

MOST_REMEMBERED = 5_000
MOST_BALANCES = 20  # in one glance: more are seldom asked for again, and cost more than the way there


class Asked(NamedTuple):
    """What is asked for: scopes of an org in windows."""

    org: str
    scopes: tuple[str, ...]
    periods: tuple[Period, ...]

    def fits(self) -> bool:
        """Whether it is for a glance: an hour's usage is read from the journal."""
        return Period.HOUR not in self.periods and 0 < len(self.scopes) * len(self.periods) <= MOST_BALANCES


class _Took(NamedTuple):
    """What an answer took: the org as it was found, the scopes whose caps mattered, and those whose sums did, by period."""

    head: Head
    capped: frozenset[str]
    summed: Mapping[Period, tuple[str, ...]]


class Glances:
    """Remembers what answers took; nothing of what they said."""

    def __init__(self) -> None:
        self._took: dict[Asked, _Took] = {}

    async def standing(self, database: Database, asked: Asked, at_us: int | None, clock_us: int) -> tuple[Head, list[Json]] | None:
        """Balances in the windows that contain an instant (None: now), and the head that they are true for; None for an org that
        was never opened."""
        took = self._took.get(asked)
        if took is not None:
            async with database.glance() as connection:
                found = await _glance(connection, asked, took, at_us, clock_us)
            if found is not None:
                return found
        async with database.snapshot() as connection:
            head = await reports.head(connection, asked.org)
            if head is None:
                return None
            moment, now_us = _moments(at_us, clock_us, head)
            books = await balances.knowing(connection, head, asked.scopes, asked.periods, moment)
        wanted = balances.wanted(books, asked.scopes, asked.periods, moment)
        self._remember(asked, _Took(head, frozenset(balances.capped(books, asked.scopes)), _by_period(wanted)))
        return head, balances.shown(books, asked.scopes, asked.periods, moment, now_us)

    def _remember(self, asked: Asked, took: _Took) -> None:
        if len(self._took) >= MOST_REMEMBERED:
            self._took.clear()
        self._took[asked] = took


def _moments(at_us: int | None, clock_us: int, head: Head) -> tuple[int, int]:
    """The instant whose windows are meant, and now, which is held to the org's last recorded time (W5)."""
    now_us = max(clock_us, head.recorded_us)
    return (now_us if at_us is None else at_us), now_us


def _by_period(sums: set[SumKey]) -> dict[Period, tuple[str, ...]]:
    """In one order, so that what asks for the same windows is the same statement."""
    scopes: dict[Period, list[str]] = {period: [] for period in Period}
    for key in sums:
        scopes[key.period].append(key.scope)
    return {period: tuple(found) for period, found in scopes.items() if found}


async def _glance(
    connection: AsyncConnection, asked: Asked, took: _Took, at_us: int | None, clock_us: int
) -> tuple[Head, list[Json]] | None:
    """The answer, if what it takes is within what one took before."""
    windows = windows_at(_moments(at_us, clock_us, took.head)[0], took.head.zone)
    values: dict[str, Any] = {
        "org": took.head.org_id, "name": asked.org, "scopes": list(took.capped),
        "ids": [scope[4:] for scope in asked.scopes if scope.startswith("key:")],
        "homes": [scope[10:] for scope in asked.scopes if scope.startswith("workspace:")],
    }  # fmt: skip
    for n, (period, scopes) in enumerate(took.summed.items()):
        values |= projections.values_of(n, period, windows[period].start, [(took.head.org_id, scope) for scope in scopes])
    read: dict[str, list[list[Any]]] = defaultdict(list)
    for text in await connection.scalars(_statement(tuple(took.summed)), values):
        kind, *row = json.loads(text)
        read[kind].append(row)
    if not read["head"]:
        return None
    head = Head(*read["head"][0])
    books = _structure(head, read)
    moment, now_us = _moments(at_us, clock_us, head)
    wanted = balances.wanted(books, asked.scopes, asked.periods, moment)
    sums = {SumKey(scope, period, windows[period].start): Sum() for period, scopes in took.summed.items() for scope in scopes}
    if not balances.capped(books, asked.scopes) <= took.capped or not wanted <= sums.keys():
        return None
    for period, start, _, scope, *parts in read["sum"]:
        sums[SumKey(scope, Period(period), start)] = Sum(*parts)
    for key in wanted:
        books.put_sum(key, sums[key])
    return head, balances.shown(books, asked.scopes, asked.periods, moment, now_us)


def _structure(head: Head, read: Mapping[str, list[list[Any]]]) -> Books:
    books = balances.books_of(head)
    for row in read["home"]:
        projections.read_workspace(books, _Workspace(*row))
    for row in read["key"]:
        projections.read_key(books, row)
    balances.know_homes(books)
    for row in read["cap"]:
        projections.read_cap(books, _Cap(*row))
    for row in read["rail"]:
        projections.read_guardrail(books, _Guardrail(*row))
    return books


def _named(name: str, table: Table) -> Any:
    return namedtuple(name, table.columns.keys())


_Workspace, _Cap, _Guardrail = _named("_Workspace", t.workspaces), _named("_Cap", t.caps), _named("_Guardrail", t.guardrails)


@lru_cache(maxsize=128)
def _statement(periods: tuple[Period, ...]) -> Any:
    """Asks for the head, the rows of workspaces, keys, caps and guardrails, and the sums of some windows: each row an array that
    begins with what it is."""
    parts = {"head": reports.HEAD, "home": balances.HOMES, "key": balances.KEYS, "cap": balances.CAPS}
    parts["rail"] = balances.RAILS.order_by(None)
    parts["sum"] = projections.sums_of(tuple((period, True) for period in periods))
    return union_all(*(_tagged(kind, part) for kind, part in parts.items()))


def _tagged(kind: str, part: Any) -> Any:
    rows = part.subquery(kind + "s")
    return select(json_row(literal_column(f"'{kind}'"), *rows.columns))
