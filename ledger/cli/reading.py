"""Owns the commands that show: get, explain."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.keys import State
from ..core.questions import Question, QuestionError
from ..core.window import Period
from ..service import system_clock
from ..store import explain as explaining
from ..store import heard, keystate, reports
from ..store import keys as keyed
from ..store import tables as t
from ..wire.report import ask
from ..wire.times import moment_text
from .balances import unmet
from .common import Format, FormatOption, OrgOption, Wrong, moment_of, opened, out, plain, refuse, run, scope_of, show, tell, the_org
from .explaining import breach_lines, key_lines, sum_lines

ALL = 10**6


class Told(StrEnum):
    """How an explanation is printed: it is no list, so CSV has no place for it."""

    TABLE = "table"
    JSON = "json"


class Things(StrEnum):
    """What can be listed."""

    ORGS = "orgs"
    WORKSPACES = "workspaces"
    KEYS = "keys"
    CAPS = "caps"
    GUARDRAILS = "guardrails"
    CONNECTIONS = "connections"
    BREACHES = "breaches"
    COMMANDS = "commands"


_COLUMNS = {
    Things.ORGS: ("org", "time_zone", "enforce", "seq", "recorded_at"),
    Things.WORKSPACES: ("workspace", "deleted"),
    Things.KEYS: ("key", "workspace", "state", "confirmed", "revision", "reasons"),
    Things.CAPS: ("cap", "scope", "period", "limit_usd", "action", "thresholds", "resume", "enforce"),
    Things.GUARDRAILS: ("guardrail", "each", "in", "except", "period", "limit_usd", "action", "resume", "enforce"),
    Things.CONNECTIONS: ("connection", "gateway", "address", "direction", "counts", "token", "secret", "silent_since"),
    Things.BREACHES: ("cap", "ordinal", "scope", "period", "limit_usd", "spent_usd", "over_usd", "action", "opened_at", "closed_at"),
    Things.COMMANDS: ("key", "credential", "revision", "state", "delivery", "attempts", "created_at", "confirmed_at", "error"),
}


def get(
    things: Annotated[Things, typer.Argument(help="What to list.")],
    org: OrgOption = None,
    state: Annotated[State | None, typer.Option(help="keys: active, paused or revoked.")] = None,
    workspace: Annotated[str | None, typer.Option(help="keys: of one workspace.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="breaches: only those that are open.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List orgs, workspaces, keys, caps, guardrails, connections, breaches or commands.

    The caps that a guardrail makes for each of its keys or workspaces are not among the caps: `ledger balances` shows them.
    """

    async def work() -> None:
        if things is not Things.KEYS:
            refuse({"--state": state, "--workspace": workspace}, f"is of keys, not of {things}: leave it out, or list keys")
        if things is not Things.BREACHES:
            refuse({"--open": open_only}, f"is of breaches, not of {things}: leave it out, or list breaches")
        if things is Things.ORGS:
            refuse({"--org": org}, "goes with what an org has, and all orgs are listed: leave it out")
        async with opened() as database, database.snapshot() as connection:
            if things is Things.ORGS:
                rows = [reports.org_json(head) for head in await reports.orgs(connection, limit=ALL)]
            else:
                rows = await _listed(connection, await the_org(connection, org), things, state, workspace, open_only)
        show(rows, form, _COLUMNS[things])

    run(work)


async def _listed(
    connection: AsyncConnection, head: reports.Head, things: Things, state: State | None, workspace: str | None, open_only: bool
) -> list[dict[str, Any]]:
    if things is Things.CAPS:
        return await reports.caps(connection, head)
    if things is Things.GUARDRAILS:
        return await reports.guardrails(connection, head)
    if things is Things.CONNECTIONS:
        silent = await heard.silent(connection, system_clock(), head.org_id)
        since = {name: moment_text(us) for (_, name), us in silent.items()}
        return [row | {"silent_since": since.get(row["connection"])} for row in await reports.connections(connection, head)]
    if things is Things.BREACHES:
        return await reports.breaches(connection, head, limit=ALL, open_only=open_only)
    if things is Things.COMMANDS:
        return await keyed.commands(connection, head, limit=ALL)
    if things is Things.WORKSPACES:
        c = t.workspaces.c
        return [
            {"workspace": name}
            for name in await reports.page(connection, head, t.workspaces, "workspace_id", "", ALL, c.deleted.is_(False))
        ]
    where = [t.keys.c.deleted.is_(False)]
    where += [t.keys.c.state == state, t.keys.c.alias_of.is_(None)] if state else []  # an alias has no state of its own
    where += [t.keys.c.workspace == workspace] if workspace else []
    ids = await reports.page(connection, head, t.keys, "key_id", "", ALL, *where)
    rows: list[dict[str, Any]] = []
    for at in range(0, len(ids), 5000):
        rows += await keyed.keys_json(connection, head, ids[at : at + 5000])
    return rows


def explain(
    what: Annotated[str | None, typer.Argument(help="key:ID, a scope with --period, or a breach CAP/ORDINAL.")] = None,
    org: OrgOption = None,
    period: Annotated[Period | None, typer.Option(help="Explain the balance of this period instead.")] = None,
    at: Annotated[str | None, typer.Option(help="With --period: a moment in the balance's window, or a day; now if left out.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="A line of a report: what holds of it, such as model:openai/gpt-5.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --where: the first day, or a moment.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --where: the day after the last, or a moment.")] = None,
    form: Annotated[Told, typer.Option("--format", help="table or json.")] = Told.TABLE,
) -> None:
    """Explain a key's state, a balance, a breach or a line of a report, down to the entries."""

    async def work() -> None:
        now_us, notes = system_clock(), list[str]()
        if (what is None) == (not where):
            raise Wrong("say what to explain: key:ID, a scope with --period, a breach CAP/ORDINAL, or --where for a line of a report")
        if period is None and what is not None and (what == "org" or what.startswith("workspace:")):
            raise Wrong(f"{what!r} is explained by its balance: say --period, such as --period day")
        if where:
            refuse({"--period": period}, "goes with a scope, not with --where: say --from and --to, or leave it out")
        else:
            refuse({"--from": start, "--to": end}, "goes with --where: say which line of a report, or leave it out")
        if period is None:
            refuse({"--at": at}, "goes with --period: say of which balance, such as --period day, or leave it out")
        async with opened() as database, database.reporting.snapshot() as connection:
            head = await the_org(connection, org)
            now_us = max(now_us, head.recorded_us)
            if what is None:
                facts = await explaining.line(connection, head, _asked(start, end, where or [], head, now_us))
            elif period is not None:
                facts = await explaining.balance(connection, head, scope_of(what), period, _at(at, head, now_us))
                notes = await unmet(connection, head, [what])
            elif what.startswith("key:"):
                facts = await keystate.key(connection, head, what[4:], now_us)
            else:
                facts = await explaining.breach(connection, head, what)
        if facts is None:
            hint = "" if what and (":" in what or "/" in what) else ": say key:ID, a scope with --period, or a breach CAP/ORDINAL"
            raise Wrong(f"there is no {what!r} in org {head.org!r}{hint}")
        for note in notes:
            out.print(Text(plain(note), style="yellow")) if form is Told.TABLE else tell("note", "yellow", note)
        if form is Told.TABLE:
            told = sum_lines if "newest" in facts else breach_lines if "breach" in facts else key_lines
            out.print(plain("\n".join(told(facts))), highlight=False, markup=False, soft_wrap=True)
        else:
            print(json.dumps(facts, indent=2, default=str))

    run(work)


def _at(text: str | None, head: reports.Head, now_us: int) -> int:
    moment = moment_of("--at", text, head.zone)
    return now_us if moment is None else moment


def _asked(start: str | None, end: str | None, where: list[str], head: reports.Head, now_us: int) -> Question:
    try:
        return ask(start, end, (), None, where, None, head.zone, now_us)
    except QuestionError as error:
        raise Wrong(f"--{error.field}: {error}") from None
