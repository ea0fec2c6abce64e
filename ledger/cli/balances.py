"""Owns `ledger balances`: what was spent, what every cap above leaves, once or as a table that lives."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.window import Period
from ..service import system_clock
from ..store import balances as standing
from ..store import keys as keyed
from ..store import reports
from ..store import tables as t
from ..store.dialect import Database
from .common import Format, FormatOption, OrgOption, moment_of, opened, out, plain, refuse, run, scope_of, show, tell, the_org

ALL = 10**6
EVERY_S = 1.0
_COLUMNS = ("scope", "period", "spent_usd", "unpriced_calls", "byok_usd", "requests", "tightest", "left_usd", "percent", "end")
_CAPS = ("scope", "cap", "period", "spent_usd", "unpriced_calls", "byok_usd", "limit_usd", "left_usd", "percent", "forecast_usd", "end", "")

_NOTHING = (None, "", "0")
_MAY_GO = ("unpriced_calls", "byok_usd", "forecast_usd")  # where no row has any
_GO_FIRST = ("requests", "end", "forecast_usd")
NARROW = 110  # characters across


def balances(
    scope: Annotated[list[str] | None, typer.Argument(help="org, workspace:ID or key:ID; all of them if left out.")] = None,
    org: OrgOption = None,
    period: Annotated[list[Period] | None, typer.Option(help="hour, day, week, month, year, lifetime; may be repeated.")] = None,
    at: Annotated[str | None, typer.Option(help="A moment in the windows, RFC 3339, or a day of the org's zone; now if left out.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Count only what was recorded by this moment.")] = None,
    until: Annotated[str | None, typer.Option(help="Count only calls that ended before this moment.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="A table that is kept up to date until Ctrl-C, nearest its cap first.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what was spent in the windows that contain a moment, and what every cap above leaves.

    Of the caps above a scope the tightest is named: the one that leaves least. A forecast is what its window will have
    seen at its end at its pace so far.
    """

    async def work() -> None:
        moments = {"--at": at, "--as-of": as_of, "--until": until}
        if watch:
            other = None if form is Format.TABLE else form
            refuse(moments | {"--format": other}, "does not go with --watch, a table of what is now: leave out one of the two")
        scopes = [scope_of(text) for text in scope or ()]
        async with opened() as database:
            if watch:
                await _watch(database, org, scopes, period or [Period.DAY])
                return
            head, rows, notes = await _read(database, org, scopes, period or [Period.DAY], moments)
        if form is Format.TABLE:
            out.print(_tables(head, rows, notes))
            return
        for note in notes:
            tell("note", "yellow", note)
        show(rows, form, _COLUMNS)

    run(work)


async def _watch(database: Database, org: str | None, scopes: list[str], periods: Sequence[Period]) -> None:
    with Live(console=out, auto_refresh=False, screen=False) as live:
        try:
            while True:
                head, rows, notes = await _read(database, org, scopes, periods, {})
                live.update(_tables(head, sorted(rows, key=_nearness), notes), refresh=True)
                await asyncio.sleep(EVERY_S)
        except asyncio.CancelledError:  # Ctrl-C
            return


def _nearness(row: dict[str, Any]) -> int:
    """Sorts what is nearest its cap to the top: a screen ends before all the keys do."""
    return -max((cap["percent"] or 0 for cap in row["above"] if cap["tightest"]), default=0)


async def _read(
    database: Database, org: str | None, scopes: list[str], periods: Sequence[Period], moments: Mapping[str, str | None]
) -> tuple[reports.Head, list[dict[str, Any]], list[str]]:
    async with database.reporting.snapshot() as connection:
        head = await the_org(connection, org)
        at = moment_of("--at", moments.get("--at"), head.zone)
        as_of, until = (moment_of(option, moments.get(option)) for option in ("--as-of", "--until"))  # no days: by its start, or its end?
        notes = await unmet(connection, head, scopes)
        scopes = scopes or await _all_scopes(connection, head)
        now_us = max(system_clock(), head.recorded_us)
        moment = standing.meant_us(at, as_of, until, now_us)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(scopes), 1000):
            part = scopes[start : start + 1000]
            if as_of is not None or until is not None:
                rows += await standing.stood(connection, head, part, periods, moment, as_of, until)
            else:
                rows += await standing.standing(connection, head, part, periods, moment, now_us)
    return head, rows, notes


async def unmet(connection: AsyncConnection, head: reports.Head, scopes: list[str]) -> list[str]:
    """What there is to say of scopes that nobody has met, since what is misspelt reads as 0."""
    met = {"org"}
    for kind, table, column in (("key", t.keys, "key_id"), ("workspace", t.workspaces, "workspace_id")):
        names = [scope.partition(":")[2] for scope in scopes if scope.startswith(f"{kind}:")]
        found = await reports.page(connection, head, table, column, "", ALL, table.c[column].in_(names)) if names else []
        met |= {f"{kind}:{name}" for name in found}
    notes: list[str] = []
    for scope in dict.fromkeys(scope for scope in scopes if scope not in met):
        owner = await keyed.owner_of(connection, head, scope[4:]) if scope.startswith("key:") else ""
        elsewhere = owner and f"key:{owner}" != scope
        notes.append(f"{scope} is a credential of key:{owner}: look there" if elsewhere else f"{scope}: nobody has met it, so it is 0")
    return notes


async def _all_scopes(connection: AsyncConnection, head: reports.Head) -> list[str]:
    homes = await reports.page(connection, head, t.workspaces, "workspace_id", "", ALL)
    keys = await reports.page(connection, head, t.keys, "key_id", "", ALL)
    return ["org", *(f"workspace:{home}" for home in homes), *(f"key:{key}" for key in keys)]


def _tables(head: reports.Head, rows: list[dict[str, Any]], notes: Sequence[str]) -> Group:
    """The balances, each with the tightest of its caps; for a single scope every cap above it."""
    parts: list[Any] = [_table(_COLUMNS, [_with_tightest(row) for row in rows])]
    if len({row["scope"] for row in rows}) == 1 and rows[0]["above"]:
        caps = [cap | _beside(cap) | {"": "tightest" if cap["tightest"] else ""} for cap in rows[0]["above"]]
        parts += ["", _table(_CAPS, caps)]
    return Group(*parts, *(Text(plain(note), style="yellow") for note in notes), Text(f"as of seq {head.seq}", style="dim"))


def _beside(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "unpriced_calls": f"+ {row['unpriced']} unpriced" if row["unpriced"] else "",
        "percent": "" if row.get("percent") is None else f"{row['percent']} %",
    }


def _with_tightest(row: dict[str, Any]) -> dict[str, Any]:
    cap = next((cap for cap in row["above"] if cap["tightest"]), None)
    named = {"tightest": "no cap" if not row["above"] else ""}
    if cap is not None:
        name = f"{cap['cap'].removesuffix(row['scope'])}…" if cap["cap"].endswith(f"/{row['scope']}") else cap["cap"]  # a guardrail's
        named = {"tightest": f"{name} ({cap['period']})", "left_usd": f"{cap['left_usd']} of {cap['limit_usd']}", "end": cap["end"]}
    return row | named | _beside(row | {"percent": cap and cap["percent"]})


def _table(columns: Sequence[str], rows: list[dict[str, Any]]) -> Table:
    """Amounts are whole at any width: names wrap, and columns that can be done without give way."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    said = {name for name in columns if any(row.get(name) not in _NOTHING for row in rows)}
    columns = [name for name in columns if (name in said or name not in _MAY_GO) and (out.width >= NARROW or name not in _GO_FIRST)]
    for name in columns:
        right, wraps = name.endswith("_usd") or name in ("requests", "percent"), name in ("scope", "cap", "tightest")
        heading = {"unpriced_calls": "unpriced", "end": "until"}.get(name, name)
        table.add_column(heading, justify="right" if right else "left", no_wrap=not wraps, overflow="fold")
    for row in rows:
        spent = row.get("percent", "").removesuffix(" %")
        style = "red" if spent.isdigit() and int(spent) >= 100 else "yellow" if spent.isdigit() and int(spent) >= 80 else None
        table.add_row(*(Text(plain(str(row.get(name) if row.get(name) is not None else ""))) for name in columns), style=style)
    return table
