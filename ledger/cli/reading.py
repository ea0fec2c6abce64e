"""Owns the commands that show: get, balances, explain."""

import json
from enum import StrEnum
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.questions import Question, QuestionError
from ..core.window import Period
from ..service import system_clock
from ..store import explain as explaining
from ..store import heard, reports
from ..store import keys as keyed
from ..store import tables as t
from ..wire.report import ask
from ..wire.times import moment_text, parse_moment
from .common import Format, FormatOption, OrgOption, Wrong, opened, out, plain, run, show, the_org

ALL = 10**6


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
    state: Annotated[str | None, typer.Option(help="keys: active, paused or revoked.")] = None,
    workspace: Annotated[str | None, typer.Option(help="keys: of one workspace.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="breaches: only those that are open.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List orgs, workspaces, keys, caps, guardrails, connections, breaches or commands."""

    async def work() -> None:
        async with opened() as database, database.snapshot() as connection:
            if things is Things.ORGS:
                rows = [reports.org_json(head) for head in await reports.orgs(connection, limit=ALL)]
            else:
                rows = await _listed(connection, await the_org(connection, org), things, state, workspace, open_only)
        show(rows, form, _COLUMNS[things])

    run(work)


async def _listed(
    connection: AsyncConnection, head: reports.Head, things: Things, state: str | None, workspace: str | None, open_only: bool
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
    where += [t.keys.c.state == state] if state else []
    where += [t.keys.c.workspace == workspace] if workspace else []
    ids = await reports.page(connection, head, t.keys, "key_id", "", ALL, *where)
    rows: list[dict[str, Any]] = []
    for at in range(0, len(ids), 5000):
        rows += await keyed.keys_json(connection, head, ids[at : at + 5000])
    return rows


def _moment(at: str | None) -> int | None:
    try:
        return None if at is None else parse_moment(at)
    except ValueError as error:
        raise Wrong(f"--at: {error}") from None


def explain(
    what: Annotated[str | None, typer.Argument(help="key:ID, a scope with --period, or a breach CAP/ORDINAL.")] = None,
    org: OrgOption = None,
    period: Annotated[Period | None, typer.Option(help="Explain the balance of this period instead.")] = None,
    at: Annotated[str | None, typer.Option(help="A moment in the balance's window.")] = None,
    where: Annotated[list[str] | None, typer.Option(help="A line of a report: what holds of it, such as model:openai/gpt-5.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="With --where: the first day, or a moment.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="With --where: the day after the last, or a moment.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Explain a key's state, a balance, a breach or a line of a report, down to the entries."""

    async def work() -> None:
        at_us, now_us = _moment(at), system_clock()
        if (what is None) == (not where):
            raise Wrong("say what to explain: key:ID, a scope with --period, a breach CAP/ORDINAL, or --where for a line of a report")
        async with opened() as database, database.snapshot() as connection:
            head = await the_org(connection, org)
            now_us = max(now_us, head.recorded_us)
            if what is None:
                facts = await explaining.line(connection, head, _asked(start, end, where or [], head, now_us))
            elif period is not None:
                facts = await explaining.balance(connection, head, what, period, at_us or now_us)
            elif what.startswith("key:"):
                facts = await explaining.key(connection, head, what[4:], now_us)
            else:
                facts = await explaining.breach(connection, head, what)
        if facts is None:
            raise Wrong(f"there is no {what!r} in org {head.org!r}")
        if form is Format.TABLE and what is not None and what.startswith("key:") and period is None:
            out.print(plain("\n".join(key_lines(facts))), highlight=False, markup=False)
        elif form is Format.TABLE and "newest" in facts:
            out.print(plain("\n".join(sum_lines(facts))), highlight=False, markup=False)
        else:
            print(json.dumps(facts, indent=2, default=str))

    run(work)


def _asked(start: str | None, end: str | None, where: list[str], head: reports.Head, now_us: int) -> Question:
    try:
        return ask(start, end, (), None, where, None, head.zone, now_us)
    except QuestionError as error:
        raise Wrong(f"--{error.field}: {error}") from None


MOST_SHOWN = 20


def sum_lines(facts: dict[str, Any]) -> list[str]:
    """A balance or a line of a report, and the newest entries that it is the sum of."""
    sums = facts.get("sums") or facts["balance"]
    about = facts["balance"] if "balance" in facts else {"scope": ", ".join(facts["where"]), "period": "", **facts}
    start, end = about.get("start") or facts.get("from"), about.get("end") or facts.get("to")
    unpriced = f" + {sums['unpriced']} unpriced" if sums["unpriced"] else ""
    lines = [f"{about['scope']} {about['period'] or ''}  ${sums['spent_usd']}{unpriced}   {start or 'ever'} to {end or 'now'}"]
    for cap in about.get("caps", ()):
        lines.append(f"{'cap':<9}{cap['cap']}: ${cap['left_usd']} left of ${cap['limit_usd']}")
    lines.append(f"{'entries':<9}{facts['entries']}, the newest first")
    for entry in facts["newest"][:MOST_SHOWN]:
        cost = "unpriced" if entry.get("cost_usd") is None and "cost" not in entry else f"${entry.get('cost_usd') or entry.get('cost')}"
        named = entry.get("id") or (f"corrects {entry['corrects']}: {entry['why']}" if "corrects" in entry else entry["type"])
        lines.append(f"{'':<9}seq {entry['seq']}  {cost}  {entry.get('key') or ''}  {entry.get('model') or ''}  {named}")
    seq = facts["seq"] if "seq" in facts else facts["as_of"]["seq"]
    return [*lines, f"{'as of':<9}seq {seq}"]


def key_lines(facts: dict[str, Any]) -> list[str]:
    """The state of a key as a few aligned lines."""
    took = f"{facts['for_s'] // 3600}h{facts['for_s'] // 60 % 60:02d}m{facts['for_s'] % 60:02d}s"
    lines = [f"key:{facts['key']}  {facts['state'].upper()} since {facts['since']} ({took})   {facts['workspace']}"]

    def add(name: str, text: str | None) -> None:
        if text:
            lines.append(f"{name:<9}{text}")

    for cap in facts["why"]:
        add("why", f"{cap['cap']}, {cap['scope']} {cap['period']}: ${cap['spent_usd']} of ${cap['limit_usd']}, over by ${cap['over_usd']}")
    add("held", facts["held"])
    add("others", ", ".join(_other(cap) for cap in facts["others"]))
    for row in facts["crossed"]:
        add("crossed", f"seq {row['seq']}  {row['id']}  ${row['cost_usd']}  {row['model'] or ''}")
    if driver := facts["driver"]:
        add("driver", f"{driver['by']} {driver['value']}: {driver['share']} of it, ${driver['spent_usd']}")
    for command in facts["commands"][:1]:
        sent, confirmed = (
            command["attempted_at"] or "not yet",
            command["confirmed_at"] or f"not yet ({command['error'] or command['delivery']})",
        )
        add("command", f"{command['state']}, revision {command['revision']}, sent {sent}, confirmed {confirmed}")
    if effect := facts["effect"]:
        quiet = f"; last call {effect['quiet_since']}" if effect["calls_after"] else ""
        add("effect", f"{effect['calls_after']} calls after, ${effect['cost_usd']}{quiet}")
    add("unsure", f"{facts['unpriced_today']} unpriced calls today" if facts["unpriced_today"] else None)
    for row in facts["set_by"]:
        add("set by", f"{row['by']}, {row['at']}, seq {row['seq']}" + (f", it was ${row['was_usd']}" if row["was_usd"] else ""))
    add("until", facts["until"])
    add("as of", f"seq {facts['as_of']['seq']}, {facts['as_of']['recorded_at']}")
    return lines


def _other(cap: dict[str, Any]) -> str:
    verdict = "would allow" if cap["would_allow"] else "over, but only " + ("observed" if cap["enforce"] == "observe" else "alerts")
    return f"{cap['cap']} ${cap['spent_usd']} of ${cap['limit_usd']} ({verdict})"
