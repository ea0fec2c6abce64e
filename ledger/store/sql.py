"""Owns expressions that the two databases write differently; whoever uses them need not know which it is."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from ..core.window import Period


class json_text(FunctionElement[str]):
    """`json_text(column, name)`: a field of an object that is kept as JSON text, as text; null where it is not there."""

    type = Text()
    inherit_cache = True


@compiles(json_text, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    column, name = element.clauses
    return f"(CAST({compiler.process(column, **options)} AS json) ->> CAST({compiler.process(name, **options)} AS text))"


@compiles(json_text, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    column, name = element.clauses
    return f"(SELECT value FROM json_each({compiler.process(column, **options)}) WHERE key = {compiler.process(name, **options)})"


class json_row(FunctionElement[str]):
    """`json_row(column, …)`: values as a JSON array, as text: so that rows of several tables can come in one answer."""

    type = Text()
    inherit_cache = True


@compiles(json_row, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(json_build_array({compiler.process(element.clauses, **options)}) AS text)"


@compiles(json_row, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_array({compiler.process(element.clauses, **options)})"


class _FirstDay(FunctionElement[int]):
    type = BigInteger()
    inherit_cache = True
    unit = "day"


class month_of(_FirstDay):
    """`month_of(day)`: the number of the first day of a day number's month."""

    inherit_cache = True
    unit = "month"


class year_of(_FirstDay):
    """`year_of(day)`: the number of the first day of a day number's year."""

    inherit_cache = True
    unit = "year"


@compiles(month_of, "postgresql")
@compiles(year_of, "postgresql")
def _(element: Any, compiler: Any, **options: Any) -> str:
    day = compiler.process(element.clauses, **options)
    epoch = "DATE '1970-01-01'"
    return f"(CAST(date_trunc('{element.unit}', CAST({epoch} + CAST({day} AS integer) AS timestamp)) AS date) - {epoch})"


@compiles(month_of, "sqlite")
@compiles(year_of, "sqlite")
def _(element: Any, compiler: Any, **options: Any) -> str:
    day = compiler.process(element.clauses, **options)
    return f"(CAST(strftime('%s', {day} * 86400, 'unixepoch', 'start of {element.unit}') AS INTEGER) / 86400)"


def first_day_of(period: Period, day: ColumnElement[int]) -> ColumnElement[int]:
    """The first day of the window of a period that contains a day; as `window.first_day`."""
    if period is Period.WEEK:
        return day - (day + 3) % 7
    return {Period.MONTH: month_of(day), Period.YEAR: year_of(day)}.get(period, day)
