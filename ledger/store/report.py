"""Owns reports: a question to sums, streamed a row at a time in constant memory, true for one seq of the journal.

From the rollup and the journal's tail where the rollup can answer, else from the journal, from the first entry that can matter.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import ORG
from ..core.questions import SUMS, Dimension, Kind, Only, Question, Row
from ..core.window import HOUR_US, Period, day_start_us, window_at
from . import lines, rollup
from . import tables as t
from .lines import QUARTER_US, Range
from .reports import Head
from .sql import first_day_of
from .streaming import stream_rows

EARLY_US = 48 * HOUR_US  # how long before its day begins, in any zone, usage of it may have been recorded (W3, W4)


async def rows(connection: AsyncConnection, head: Head, question: Question) -> AsyncGenerator[Row, None]:
    """The lines of a report, by window and then by dimensions. The caller's transaction is one snapshot; a caller that stops
    before the last line closes this before it uses the connection again."""
    source = await _lines(connection, head, question)
    query, width = _query(head, question, source), len(question.by)
    windows = _Windows(question)
    async with aclosing(stream_rows(connection, query)) as result:
        if question.timed and question.grain is not None:
            async for row in _merged(result, windows, width):
                yield row
            return
        async for at, *rest in result:
            yield Row(*windows.of_day(None if at in (None, "") else int(at)), _named(rest[:width]), tuple(map(int, rest[width:])))


async def _merged(result: Any, windows: "_Windows", width: int) -> AsyncIterator[Row]:
    """Quarters of an hour, in order, added up to the windows that they lie in; those of one window are in memory."""
    at, groups = (0, 0), dict[tuple[str | None, ...], list[int]]()
    async for quarter, *rest in result:
        window, values = windows.of_quarter(int(quarter)), _named(rest[:width])
        if window != at:
            for row in _flushed(at, groups):
                yield row
            at, groups = window, {}
        sums = groups.setdefault(values, [0] * len(SUMS))
        for n, part in enumerate(rest[width:]):
            sums[n] += int(part)
    for row in _flushed(at, groups):
        yield row


def _flushed(at: tuple[int, int], groups: dict[tuple[str | None, ...], list[int]]) -> list[Row]:
    ordered = sorted(groups.items(), key=lambda item: [value or "" for value in item[0]])
    return [Row(*at, values, tuple(sums)) for values, sums in ordered]


def _named(values: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(value or None for value in values)


class _Windows:
    """From what rows are grouped by to the window they are shown with, cut to the question's range."""

    def __init__(self, question: Question) -> None:
        self.q = question
        self._quarters = (0, 0)

    def of_day(self, day: int | None) -> tuple[int, int]:
        """The window that begins on a day; None: the whole range."""
        if day is None or self.q.grain is None:
            return self.q.start_us, self.q.end_us
        return self._cut(window_at(self.q.grain, day_start_us(day, self.q.zone), self.q.zone)[1:3])

    def of_quarter(self, quarter: int) -> tuple[int, int]:
        """The window that contains a quarter of an hour; quick where they come in order."""
        us = quarter * QUARTER_US
        if not self._quarters[0] <= us < self._quarters[1]:
            self._quarters = window_at(self.q.grain or Period.DAY, us, self.q.zone)[1:3]
        return self._cut(self._quarters)

    def _cut(self, window: tuple[int, int]) -> tuple[int, int]:
        return max(window[0], self.q.start_us), min(window[1], self.q.end_us)


async def _lines(connection: AsyncConnection, head: Head, question: Question) -> Any:
    """What is added up: see this module."""
    within = Range(question.start_us, question.end_us, True) if question.timed else Range(question.start, question.end, False)
    wanted = [one for one in _raw(question) if one.kind is not Kind.LABEL]
    keys = [lines.name_of(one) for one in wanted]
    if question.timed and question.grain is not None:
        keys.append("quarter")
    if not keys or question.grain is not None or len(wanted) < len(_raw(question)):
        keys.append("day")
    if not question.rolled:
        after = await seq_before(connection, head, question.start_us - EARLY_US)
        span = await lines.span(connection, head.org_id, head.zone, after, head.seq)
        found = lines.journal_lines(span, wanted, within, times="quarter" in keys)
    else:
        followed = min(await rollup.followed(connection, head.org_id), head.seq)
        span = await lines.span(connection, head.org_id, head.zone, followed, head.seq)
        found = (lines.rolled_lines(head.org_id, [one.kind for one in wanted], within), *lines.journal_lines(span, wanted, within))
    return union_all(*(lines.added_up(one, keys) for one in found))


async def seq_before(connection: AsyncConnection, head: Head, us: int) -> int:
    """The seq of the last entry that was recorded before an instant, 0 for none; recorded times never run backwards (W5)."""
    j, low, high = t.journal.c, 0, head.seq
    while low < high:
        middle = (low + high + 1) // 2
        recorded_us = await connection.scalar(select(j.recorded_us).where(j.org_id == head.org_id, j.seq == middle))
        low, high = (middle, high) if recorded_us is not None and recorded_us < us else (low, middle - 1)
    return low


def _raw(question: Question) -> list[Dimension]:
    """The dimensions that lines must carry: those asked for, and what labels stand on."""
    found = [one for one in question.dimensions if one.kind is not Kind.ORG]
    if any(one.kind is Kind.LABEL for one in found):
        found += [Dimension(Kind.WORKSPACE), Dimension(Kind.KEY)]
    return list(dict.fromkeys(found))


class _Joined(NamedTuple):
    """Lines with what their dimensions need beside them."""

    tables: Any
    line: Any
    values: dict[Dimension, ColumnElement[Any]]


def _joined(head: Head, question: Question, source: Any) -> _Joined:
    whole = source.subquery("lines")
    line, joined = whole.c, whole
    values: dict[Dimension, ColumnElement[Any]] = {}
    owner: Any = None
    if any(one.kind in (Kind.KEY, Kind.LABEL) for one in question.dimensions):
        alias = t.keys.alias("alias")
        linked = and_(alias.c.org_id == head.org_id, alias.c.key_id == line.key, alias.c.alias_of.is_not(None))
        joined, owner = joined.outerjoin(alias, linked), func.coalesce(alias.c.alias_of, line.key)
    for one in question.dimensions:
        if one.kind is Kind.ORG:
            values[one] = literal(head.org)
        elif one.kind is Kind.KEY:
            values[one] = owner
        elif one.kind is Kind.LABEL:
            joined, values[one] = _labelled(joined, head, one.name, line, owner)
        else:
            values[one] = line[lines.name_of(one)]
    return _Joined(joined, line, values)


def _query(head: Head, question: Question, source: Any) -> Any:
    joined, line, values = _joined(head, question, source)
    chosen = [values[one].label(f"d{n}") for n, one in enumerate(question.by)]
    at = _bucket(question, line).label("at")
    inner = select(at, *chosen, *(line[name] for name in SUMS)).select_from(joined).where(*_filters(question.only, values))
    got = inner.subquery("got").c
    sums = [func.sum(got[name]) for name in SUMS]
    keys = [got[f"d{n}"] for n in range(len(chosen))]
    if question.grain is not None:
        keys = [got.at, *keys]
        return select(*keys, *sums).group_by(*keys).order_by(*keys)
    whole = select(literal(None), *keys, *sums)
    return whole.group_by(*keys).order_by(*keys) if keys else whole.having(func.count() > 0)


async def entries(connection: AsyncConnection, head: Head, question: Question, most: int) -> tuple[int, list[int]]:
    """How many entries of the journal the lines of a report are the sum of, and the seqs of the newest (J6)."""
    within = Range(question.start_us, question.end_us, True) if question.timed else Range(question.start, question.end, False)
    wanted = [one for one in _raw(question) if one.kind is not Kind.LABEL]
    span = await lines.span(connection, head.org_id, head.zone, await seq_before(connection, head, question.start_us - EARLY_US), head.seq)
    joined = _joined(head, question, union_all(*lines.journal_lines(span, wanted, within, seqs=True)))
    where = _filters(question.only, joined.values)
    count = await connection.scalar(select(func.count()).select_from(joined.tables).where(*where))
    newest = select(joined.line.seq).select_from(joined.tables).where(*where).order_by(joined.line.seq.desc()).limit(most)
    return int(count or 0), list(await connection.scalars(newest))


def _bucket(question: Question, line: Any) -> ColumnElement[Any]:
    if question.grain is None:
        return literal(0)
    return line.quarter if question.timed else first_day_of(question.grain, line.day)


def _filters(only: Sequence[Only], values: dict[Dimension, ColumnElement[Any]]) -> list[ColumnElement[bool]]:
    return [func.coalesce(values[one.dimension], "") == (one.value or "") for one in only]


def _labelled(joined: Any, head: Head, name: str, line: Any, owner: Any) -> tuple[Any, ColumnElement[Any]]:
    """A label as it stood on the day of the line: the key's, else its workspace's, else the org's (S9)."""
    c, found = t.labels.c, list[Any]()
    until = func.lead(c.since).over(partition_by=c.scope, order_by=c.since).label("until")
    for scope in ("key:" + owner, "workspace:" + line.workspace, literal(ORG)):
        said = select(c.scope, c.since, until, c.value).where(c.org_id == head.org_id, c.name == name).subquery()
        stands = and_(said.c.scope == scope, line.day >= said.c.since, (said.c.until.is_(None)) | (line.day < said.c.until))
        joined = joined.outerjoin(said, stands)
        found.append(said.c.value)
    return joined, func.coalesce(*found, "")
