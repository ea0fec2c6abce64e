"""Owns one batch: what it found in the journal, what came of it, and the one place where its entries are made."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from . import entries as e
from . import levels
from .books import ORG, Books
from .caps import Sum, total
from .commands import Result, Status
from .fold import fold
from .window import Period

MOST_A_DAY = 10**18  # T4: of nano-USD or tokens for an org
MOST_EVER = 4 * 10**18  # T4: of nano-USD or tokens in an org's whole life; no sum, of a year or of any scope, comes near 64 bits
MOST_BOOKED = 2 * MOST_EVER  # with what corrections took back: reports add that up apart from what it was taken off


class Found(msgspec.Struct):
    """What the journal already held for a batch's commands.

    Attributes:
      known: digest → seq of the entry it became (J2). originals: seq → entries that repeats or corrections name.
      prices: seq → nano-USD that an earlier correction set. openings: what scopes used in the present hour and later ones (C5).
    """

    known: dict[bytes, int] = {}
    originals: dict[int, e.Entry] = {}
    prices: dict[int, int] = {}
    openings: tuple[e.Opening, ...] = ()


RECORDED = Result(Status.RECORDED)


class Batch:
    """The one place where entries are made: gives each its sequence and time, folds it, keeps it.

    Attributes:
      results: one per command, in order.
      entries: what the batch became, in sequence; facts: those of them that are not usage.
      seen: identity → entry of what it booked.
      refused: identities of the present run that would have burst the sums of their day.
      leaks: by the name a call comes with: when it was confirmed to be stopped, and at which revision (K6).
      usage: what was booked, added up; mismatches: how many events claimed a workspace other than their key's (S4); late:
        how many were booked more than an hour after their own time.
    """

    def __init__(self, books: Books, now_us: int, found: Found) -> None:
        self.books = books
        self.found = found
        self.now_us = max(now_us, books.recorded_us)  # W5
        self.results: list[Result] = []
        self.entries: list[e.Entry] = []
        self.facts: list[e.AnyFact] = []
        self.seen: dict[bytes, e.Entry] = {}
        self.refused: set[bytes] = set()
        self.leaks: dict[str, tuple[int, int]] = {}
        self.usage = Sum()
        self.mismatches = self.late = 0

    def first(self, digest: bytes) -> e.Entry:
        """The entry that an identity became the first time, in this batch or before it."""
        return self.seen.get(digest) or self.found.originals[self.found.known[digest]]

    def refuse(self, entry: e.UsageRecorded) -> None:
        """Takes back what was to be booked."""
        self.refused.add(entry.command.digest)
        del self.seen[entry.command.digest]

    def bursts(self, days: Mapping[int, Sum]) -> bool:
        """Whether this, by day, would take the org past what a day of it, or its whole life, may come to."""
        used = self.books.used
        if not all(used(ORG, Period.DAY, day).holds(part, MOST_A_DAY) for day, part in days.items()):
            return True
        ever, part = used(ORG, Period.LIFETIME, 0), total(days.values())
        return not ever.holds(part, MOST_EVER) or ever.spent + self.books.taken_back + part.spent > MOST_BOOKED

    def emit(self, kind: type[Any], /, **fields: Any) -> int:
        """Journals and folds one entry that is not usage; its seq."""
        entry = kind(seq=self.books.seq + 1, recorded_us=self.now_us, **fields)
        self.entries.append(entry)
        self.facts.append(entry)
        fold(self.books, (entry,))
        return entry.seq

    def settle(self, *scopes: str, entry: int | None = None, keys: Sequence[str] = ()) -> None:
        """See `levels.settle`."""
        levels.settle(self.books, self.now_us, scopes, self.emit, entry, keys)
