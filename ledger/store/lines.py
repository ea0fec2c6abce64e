"""Owns the lines that reports add up, in one shape wherever they come from: the rollup by day, or the journal itself.

A line has the booked day (W4), a quarter of an hour where time is asked for, every dimension as text (empty: none) and sums.
A correction is a line of the call that it corrects, with its own money (J3); a part of a shared cost has no key.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Select, Text, and_, bindparam, case, cast, func, literal, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.questions import ROLLED, SUMS, Charge, Dimension, Kind
from ..core.window import SECOND_US, Period, day_at, day_start_us, first_day, next_first_day
from . import journal
from . import tables as t
from .sql import json_text

# Every zone's offset is a multiple of it, and all clock changes that are still to come; some of before 2023 were at 00:01 (Newfoundland,
# Gaza, Casey): by hour, that one minute is told with the rest of its quarter.
QUARTER_US = 15 * 60 * SECOND_US
J = t.journal.c
_Column = ColumnElement[Any]


class Month(NamedTuple):
    """What was the present month for entries from a seq and an instant on: its first day."""

    seq: int
    start_us: int
    first: int


class Span(NamedTuple):
    """Entries of one org after a seq, up to another. The values may be a statement's parameters.

    Attributes:
      month: the first day of the month in which the first of them was recorded, by the org's zone then.
      months: those that began until the last of them was, with the clock or with another zone: the seq and the instant from
        which on each was the present one, and its first day.
    """

    org_id: Any
    after: Any
    until: Any
    month: Any
    months: tuple[Month, ...] = ()


_BOUND = Span._fields[:4]  # the parameters of a statement on a span


class Range(NamedTuple):
    """Half-open: days, or instants where `timed`."""

    start: int
    end: int
    timed: bool


async def span(connection: AsyncConnection, org_id: int, zone: str, after: int, until: int) -> Span:
    """The span of entries after a seq up to another. `zone`: the org's now; those recorded under another one know it (W4)."""
    first_us, last_us = (await connection.execute(_ends(), {"org": org_id, "first": after + 1, "last": until})).one()
    moved = (await connection.execute(_ZONES, {"org": org_id, "after": after})).all()
    zone, seq = moved[0].was if moved else zone, 0
    first = month = first_day(Period.MONTH, day_at(first_us or 0, zone))
    months: list[Month] = []
    for change in (one for one in moved if one.seq <= until):
        months += _months(seq, first, change.recorded_us, zone)
        zone, seq = change.zone, change.seq
        first = first_day(Period.MONTH, day_at(change.recorded_us, zone))
        months.append(Month(seq, change.recorded_us, first))
    return Span(org_id, after, until, month, (*months, *_months(seq, first, last_us or 0, zone)))


_WAS, _IS = json_text(J.data, "was_time_zone"), json_text(J.data, "time_zone")
_ZONES = (
    select(J.seq, J.recorded_us, _WAS.label("was"), _IS.label("zone"))
    .where(J.org_id == bindparam("org"), J.seq > bindparam("after", type_=t.Big), text(t.ORG_CHANGED), _WAS != _IS)
    .order_by(J.seq)
)


@cache
def _ends() -> Select[int, int]:
    query = select(func.min(J.recorded_us), func.max(J.recorded_us)).where(J.org_id == bindparam("org"))
    return query.where(J.seq.in_((bindparam("first", type_=t.Big), bindparam("last", type_=t.Big))))


def rolled_lines(org_id: int, kinds: Iterable[Kind], within: Range | None) -> Any:
    """Lines of the rollup."""
    r = t.rollup.c
    columns = [r[kind.value] for kind in kinds]
    query = select(r.day, *columns, *(r[name] for name in SUMS)).where(r.org_id == org_id)
    return query if within is None else query.where(r.day >= within.start, r.day < within.end)


def journal_lines(
    of: Span,
    dimensions: Sequence[Dimension],
    within: Range | None,
    *,
    times: bool = False,
    seqs: bool = False,
    before_us: int | None = None,
) -> tuple[Any, Any]:
    """Lines of a span of the journal, of calls and of corrections.

    `times`: with the quarter of an hour that each call ended in; `seqs`: with the entry's seq; `before_us`: only of calls that
    ended before.
    """
    mine = and_(J.org_id == of.org_id, J.seq > of.after, J.seq <= of.until)
    shared = J.kind == journal.SHARED
    usage = select(
        J.day,
        *([_quarter(J.time_us)] if times else []),
        *([J.seq] if seqs else []),
        *(_value(one, J, case((shared, Charge.SHARED.value), else_=_charge(of, Charge.USAGE, Charge.LATE))) for one in dimensions),
        func.coalesce(J.cost, 0).label("spent"),
        case((J.byok, func.coalesce(J.upstream, 0)), else_=0).label("byok"),
        case((J.cost.is_(None), 1), else_=0).label("unpriced"),
        case((shared, 0), else_=1).label("requests"),
        *(func.coalesce(J[name], 0).label(name) for name in SUMS[4:]),
    ).where(mine, J.kind.in_((journal.USAGE, journal.SHARED)))
    first = t.journal.alias("first")
    fixes = select(
        J.day,
        *([_quarter(first.c.time_us)] if times else []),
        *([J.seq] if seqs else []),
        *(_value(one, first.c, _charge(of, Charge.CORRECTION, Charge.LATE_CORRECTION)) for one in dimensions),
        J.cost.label("spent"),
        literal(0).label("byok"),
        cast(json_text(J.data, "unpriced"), BigInteger).label("unpriced"),
        literal(0).label("requests"),
        *(literal(0).label(name) for name in SUMS[4:]),
    )
    fixes = fixes.join(first, and_(first.c.org_id == J.org_id, first.c.seq == J.corrects)).where(mine, J.corrects.is_not(None))
    if within is not None:
        usage, fixes = usage.where(*_inside(J.day, J.time_us, within)), fixes.where(*_inside(J.day, first.c.time_us, within))
    if before_us is not None:
        usage, fixes = usage.where(J.time_us < before_us), fixes.where(first.c.time_us < before_us)
    return usage, fixes


def added_up(found: Any, keys: Sequence[str]) -> Any:
    """Lines that are the same in some columns, at least one, as one line. Done before lines of several kinds are joined: each
    kind is a plain group-by then, which the database can share out to workers."""
    line = found.subquery().c
    sums = [func.sum(line[name]).label(name) for name in SUMS]
    return select(*(line[key] for key in keys), *sums).group_by(*(line[key] for key in keys))


def _quarter(time_us: _Column) -> _Column:
    return time_us.op("/")(QUARTER_US).label("quarter")


def _inside(day: _Column, time_us: _Column, within: Range) -> tuple[_Column, _Column]:
    at = time_us if within.timed else day
    return at >= within.start, at < within.end


def _value(one: Dimension, row: Any, charge: _Column) -> _Column:
    """A dimension of a row of the journal, as text."""
    if one.kind is Kind.CHARGE:
        found = charge
    elif one.kind is Kind.TAG:
        found = func.coalesce(json_text(row.tags, one.name), "")
    elif one.kind is Kind.PRESET_VERSION:
        found = func.coalesce(cast(row.preset_version, Text), "")
    else:
        found = func.coalesce(row[one.kind.value], "")
    return found.label(name_of(one))


def name_of(one: Dimension) -> str:
    """What the column of a dimension is called inside a query; names may be longer than a database's identifiers."""
    return f"{one.kind}_{blake2b(one.name.encode(), digest_size=8).hexdigest()}" if one.name else one.kind.value


def _charge(of: Span, timely: Charge, late: Charge) -> _Column:
    """An entry is late where the month of its day was over when it was recorded, by the zone that the org had then (W4)."""
    ended = [(and_(J.seq >= seq, J.recorded_us >= start_us), J.day < first) for seq, start_us, first in reversed(of.months)]
    before = J.day < of.month
    return case((case(*ended, else_=before) if ended else before, late.value), else_=timely.value)


def _months(seq: int, month: int, last_us: int, zone: str) -> Iterator[Month]:
    """The months after one that had begun at an instant."""
    first = next_first_day(Period.MONTH, month)
    while (start_us := day_start_us(first, zone)) <= last_us:
        yield Month(seq, start_us, first)
        first = next_first_day(Period.MONTH, first)


def rollup_rows(of: Span) -> tuple[Any, dict[str, Any]]:
    """What a span adds to the rollup, in its column order, and the parameters of that statement."""
    return _rollup_rows(of.months), dict(zip(_BOUND, of, strict=False))


@lru_cache(maxsize=8)
def _rollup_rows(months: tuple[Month, ...]) -> Any:
    """Made once for all spans in which the same months began: mostly none."""
    of = Span(*[bindparam(name, type_=t.Big) for name in _BOUND], months=months)
    dimensions = [Dimension(kind) for kind in ROLLED]
    lines = union_all(*journal_lines(of, dimensions, None)).subquery("lines").c
    keys = [lines[str(column.name)] for column in t.rollup.columns if column.primary_key and column.name != "org_id"]
    sums = [cast(func.sum(lines[str(column.name)]), BigInteger) for column in t.rollup.columns if not column.primary_key]
    return select(of.org_id.label("org_id"), *keys, *sums).group_by(*keys)
