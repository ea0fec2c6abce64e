"""Owns how a run of usage is added up, and how its sums change the books: a part of the fold (J1), and most of its work.

Adding a sum is the same as adding its parts one by one; so a run is grouped by key and day before any scope is looked at.
"""

from collections.abc import Iterable
from operator import attrgetter

from . import entries as e
from .books import Books
from .caps import Sum

_time_us = attrgetter("command.time_us")
Slot = tuple[str, str, int, int | None]  # key, workspace, day, hour
ScopeSlot = tuple[str, int, int | None]  # scope, day, hour


def summed(run: Iterable[e.UsageRecorded]) -> dict[Slot, Sum]:
    """Usage added up by (key, workspace, day, hour)."""
    sums: dict[Slot, Sum] = {}
    for entry in run:
        slot = (entry.key, entry.workspace, entry.day, entry.hour_us)
        part = sums.get(slot)
        if part is None:
            part = sums[slot] = Sum()
        command = entry.command
        usage = command.usage
        cost = command.computed if command.cost is None else command.cost
        if cost is None:
            part.unpriced += 1
        else:
            part.spent += cost
        if usage.byok and command.upstream is not None:
            part.byok += command.upstream
        part.requests += 1
        part.input_tokens += usage.input_tokens
        part.output_tokens += usage.output_tokens
    return sums


def by_scope(books: Books, sums: dict[Slot, Sum]) -> dict[ScopeSlot, Sum]:
    """Sums by slot added up to every scope they count for, by (scope, day, hour) (M7)."""
    scopes: dict[ScopeSlot, Sum] = {}
    for (key, workspace, day, hour_us), part in sums.items():
        for scope in books.scopes_of(key, workspace):
            whole = scopes.get((scope, day, hour_us))
            if whole is None:
                whole = scopes[scope, day, hour_us] = Sum()
            whole.add(part)
    return scopes


def fold_usage(books: Books, run: list[e.UsageRecorded], sums: dict[ScopeSlot, Sum]) -> None:
    """Applies a run of usage whose sums by scope are known."""
    for (scope, day, hour_us), part in sums.items():
        books.book(scope, day, hour_us, part)
        books.latest_day = max(books.latest_day, day)
        room = books.rooms.get(scope)
        if room is not None:
            room.left -= part.spent + part.byok
    last = run[-1]
    books.seq, books.recorded_us = last.seq, last.recorded_us
    latest_us = max(map(_time_us, run))
    books.latest_us = max(books.latest_us, latest_us)
