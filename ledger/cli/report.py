"""Owns `ledger report`: what HTTP gives, for a terminal, CSV or JSON."""

import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..core.questions import Question, QuestionError, Row
from ..service import system_clock
from ..store import report as asking
from ..store import reports
from ..wire import focus
from ..wire import report as written
from .common import OrgOption, Wrong, opened, out, plain, run, the_org, widened


class ReportFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    FOCUS = "focus"


def report(
    by: Annotated[list[str] | None, typer.Option(help="org, workspace, key, member, end_user, model, provider, preset, preset_version, "
                                                 "session, tag:NAME, label:NAME or charge; comma-separated or repeated.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="The first day, or a moment; this month's first if left out.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The day after the last, or a moment; tomorrow if left out.")] = None,
    grain: Annotated[str | None, typer.Option(help="hour, day, week, month or year; one line for the whole range if left out.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="Only lines with this, such as tag:team=web; may be repeated.")] = None,
    zone: Annotated[str | None, typer.Option(help="Whose days; the org's if left out.")] = None,
    org: OrgOption = None,
    form: Annotated[ReportFormat, typer.Option("--format", help="focus: FOCUS 1.2 as CSV, a row a day.")] = ReportFormat.TABLE,
) -> None:  # fmt: skip
    """Report what was spent, by any dimensions, in windows of any grain; totals equal the balances to the nano.

    Deleted and rotated keys are there; calls without a price stand beside the money.
    """

    async def work() -> None:
        async with opened() as database, database.reporting.snapshot() as connection:
            head = await the_org(connection, org)
            ask = focus.ask_focus if form is ReportFormat.FOCUS else written.ask
            try:
                asked = ask(start, end, by or [], grain, where or [], zone, head.zone, max(system_clock(), head.recorded_us))
            except QuestionError as error:
                raise Wrong(f"--{error.field}: {error}") from None
            labels = await reports.label_history(connection, head) if form is ReportFormat.FOCUS else {}
            async with aclosing(asking.rows(connection, head, asked)) as rows:
                if form is ReportFormat.TABLE:
                    await _table(head, asked, rows)
                    return
                if form is ReportFormat.FOCUS:
                    texts = focus.as_focus(head.org, asked.zone, head.seq, labels, rows)
                elif form is ReportFormat.CSV:
                    texts = written.as_csv(asked, rows)
                else:
                    texts = written.as_json(written.about(asked, head.org, head.seq, head.recorded_us), asked, rows)
                async for text in texts:
                    sys.stdout.write(text)

    run(work)


async def _table(head: reports.Head, asked: Question, rows: AsyncIterator[Row]) -> None:
    """Amounts are whole at any width: names wrap. Unpriced calls and BYOK have a column where there are any."""
    windows = ["start"] if asked.grain is not None else []
    about = [*windows, *map(str, asked.by)] or [""]  # the word total has a place of its own
    names = [*about, "spent_usd", "unpriced", "byok_usd", "requests", "input_tokens", "output_tokens"]
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True, footer_style="bold")
    total = [0] * len(written.SUM_COLUMNS)
    lines: list[list[str]] = []
    async for row in rows:
        total = [sum(pair) for pair in zip(total, row.sums, strict=True)]
        said = written.row_json(asked, row)
        lines.append([_cell(name, said.get(name, "")) for name in names])
    sums = written.sums_json(total)
    shown = [n for n, name in enumerate(names) if name not in ("unpriced", "byok_usd") or sums[name] not in (0, "0")]
    for n in shown:
        name, amount = names[n], names[n] in written.SUM_COLUMNS
        footer = "total" if n == 0 else _cell(name, sums.get(name, ""))
        table.add_column(name, footer=footer, justify="right" if amount else "left", no_wrap=amount or name == "start", overflow="fold")
    for line in lines:
        table.add_row(*(Text(plain(line[n])) for n in shown))  # what others named is no markup
    widened(table)
    out.print(table)
    told = written.about(asked, head.org, head.seq, head.recorded_us)
    out.print(f"[dim]{told['from']} to {told['to']}, {asked.zone}; as of seq {head.seq}[/]")


def _cell(name: str, value: object) -> str:
    if name == "unpriced":
        return f"+ {value} unpriced" if value else ""
    return "(none)" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
