"""Owns how reports are asked for and written: ranges as dates or moments; answers as JSON and as CSV, a piece at a time."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ..core.money import usd_text
from ..core.questions import Question, QuestionError, Row, parse_by, parse_grain, parse_where, question
from ..core.window import Period, date_of, day_at, day_start_us, first_day, is_zone
from .fields import can_be_kept
from .times import moment_text, parse_day, parse_moment

SUM_COLUMNS = ("spent_usd", "byok_usd", "unpriced", "requests", "input_tokens", "output_tokens", "cached_input_tokens",
               "cache_write_tokens", "reasoning_tokens")  # fmt: skip
Json = dict[str, Any]
_STARTS_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def ask(
    start: str | None, end: str | None, by: Sequence[str], grain: str | None, where: Sequence[str], zone: str | None, home: str, now_us: int
) -> Question:
    """A question from its words; left out, the range is the present month up to today. Raises QuestionError."""
    zone = zone or home
    for field, texts in (("by", by), ("where", where)):
        if not all(map(can_be_kept, texts)):
            raise QuestionError(field, "contains a NUL or half a surrogate pair")
    if not is_zone(zone):
        raise QuestionError("zone", f"{zone[:64]!r} is not in the tz database")
    today = day_at(now_us, zone)
    start_us = _instant("from", start, zone) if start is not None else day_start_us(first_day(Period.MONTH, today), zone)
    end_us = _instant("to", end, zone) if end is not None else day_start_us(today + 1, zone)
    days = day_at(start_us, zone), day_at(max(start_us, end_us - 1), zone) + 1
    return question(start_us, end_us, days, parse_by(by), parse_grain(grain), parse_where(where), zone, home)


def _instant(field: str, text: str, zone: str) -> int:
    """A date (the instant at which that day begins in the zone) or a moment."""
    if len(text) == 10:
        try:
            return parse_day(text, zone)
        except ValueError as error:
            raise QuestionError(field, f"{text!r} {error}") from None
    try:
        return parse_moment(text.replace(" ", "+"))
    except ValueError as error:
        raise QuestionError(field, f"{error}; or send a date, such as 2026-03-08") from None


def about(asked: Question, org: str, seq: int, recorded_us: int) -> Json:
    """What stands at the head of an answer: the question as it was understood, and the seq that the answer is true for."""
    return {
        "org": org, "from": moment_text(asked.start_us), "to": moment_text(asked.end_us), "zone": asked.zone,
        "by": [str(one) for one in asked.by], "grain": asked.grain, "seq": seq, "recorded_at": moment_text(recorded_us),
    }  # fmt: skip


def sums_json(sums: Sequence[int]) -> Json:
    """Sums as they are shown: money as text, the unpriced calls beside it (M4)."""
    return dict(zip(SUM_COLUMNS, (usd_text(sums[0]), usd_text(sums[1]), *sums[2:]), strict=True))


def row_json(asked: Question, row: Row) -> Json:
    """A line of a report."""
    named = {str(one): value for one, value in zip(asked.by, row.values, strict=True)}
    return {"start": moment_text(row.start_us), "end": moment_text(row.end_us), **named, **sums_json(row.sums)}


async def as_json(head: Json, asked: Question, rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    """One JSON object: the head, the lines, their total."""
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "rows": ['
    total, comma = [0] * len(SUM_COLUMNS), ""
    async for row in rows:
        total = [sum(pair) for pair in zip(total, row.sums, strict=True)]
        yield f"{comma}\n{json.dumps(row_json(asked, row), ensure_ascii=False)}"
        comma = ","
    yield f'\n], "total": {json.dumps(sums_json(total))}}}\n'


def columns(asked: Question) -> list[str]:
    """The columns of a report."""
    return ["start", "end", *map(str, asked.by), *SUM_COLUMNS]


async def as_csv(asked: Question, rows: AsyncIterator[Row]) -> AsyncIterator[str]:
    """A header and a line each; an empty cell is nothing."""
    yield csv_line(columns(asked))
    async for row in rows:
        yield csv_line(list(row_json(asked, row).values()))


def csv_line(cells: Sequence[Any]) -> str:
    """One record of a CSV file (RFC 4180)."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow(["" if cell is None else csv_cell(cell) for cell in cells])
    return buffer.getvalue()


def csv_cell(cell: Any) -> Any:
    """A cell that no spreadsheet runs as a formula (OWASP): senders choose names. Amounts stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in _STARTS_FORMULA and not _NUMBER.fullmatch(cell) else cell


def file_name(org: str, asked: Question, seq: int, kind: str) -> str:
    """A name for a file that holds an answer: what it is of, and the seq that it is true for."""
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_.") else "-" for letter in org)
    return f"{safe}_{date_of(asked.start)}_{date_of(asked.end)}_seq{seq}{kind}.csv"
