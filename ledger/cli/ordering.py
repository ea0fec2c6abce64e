"""Owns the commands that order: apply a policy file; pause, resume and revoke by a person."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core import entries as e
from ..core.caps import Rule, limit_text
from ..core.commands import Command, Reason, RemoveCap, RemoveConnection, RemoveGuardrail, Result, Status, TurnKey
from ..core.keys import State
from ..core.window import date_of
from ..store import accounts, reports
from ..store import keys as keyed
from ..store import tables as t
from ..store.bulk import chunks
from .common import OrgOption, ReasonOption, Wrong, YesOption, at_terminal, opened, out, person, plain, run, serving, tell, the_org
from .policy import Policy, PolicyError, read_policies

ScopeArgument = Annotated[str, typer.Argument(help="key:ID; or workspace:ID or org, for every key in it.")]
_REMOVING = (RemoveCap, RemoveGuardrail, RemoveConnection)
_STYLE = {"+": "green", "~": "yellow", "-": "red", "!": "bold"}


def apply(
    file: Annotated[Path, typer.Argument(help="YAML: org, connections, workspaces, keys, guardrails, caps.", exists=True, dir_okay=False)],
    plan: Annotated[bool, typer.Option("--plan", help="Only show; exit code 2 if there are differences.")] = False,
    yes: YesOption = False,
    prune: Annotated[bool, typer.Option("--prune", help="Also remove caps, guardrails and connections that are not in the file.")] = False,
) -> None:
    """Make orgs, connections, workspaces, keys, guardrails and caps as a file says; shows first what would change, whom it would stop.

    What it leaves out of an org (time_zone, enforce, brake, labels) or of a key stays as it is.
    """
    code = run(lambda: carry_out(str(file), _text(file), plan=plan, yes=yes, prune=prune))
    if code:
        raise typer.Exit(code)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Wrong(f"{file}: line {line}: is not UTF-8 text: save it as UTF-8") from None


async def carry_out(name: str, text: str, *, plan: bool, yes: bool, prune: bool) -> int:
    """Shows what a policy would change and makes it so; the exit code. `name` is what a fault is said to be in. Raises Wrong."""
    try:
        policies = read_policies(text)
    except PolicyError as error:
        raise Wrong(f"{name}: {error}") from None
    async with serving() as service:
        orders: list[Command] = []
        unmet: list[str] = []
        for policy in policies:
            async with service.database.snapshot() as connection:
                head = await reports.head(connection, policy.org)
                caps = await reports.caps(connection, head) if head else []
                rails = await reports.guardrails(connection, head) if head else []
                gateways = await reports.connections(connection, head) if head else []
                credentials = await accounts.credentials(connection, head.org_id) if head else {}
                unmet += policy.unmet(await _known(connection, head, policy, credentials) if head else ())
            names = {row["cap"] for row in caps}, {row["guardrail"] for row in rails}, {row["connection"] for row in gateways}
            orders += policy.orders(*names, credentials, by=person(), prune=prune)
        rehearsal = await service.rehearse(orders)
        _refuse(name, orders, rehearsal.results)
        lines = [line for entries in rehearsal.entries.values() for entry in entries if (line := _line(entry))]
        out.print(Text("\n").join(map(_styled, lines)) if lines else "[green]no differences[/]")
        for what in unmet:
            tell("note", "yellow", f"{what}: if it is not meant for later, is it misspelt?")
        if not lines or plan:
            return 2 if lines else 0
        if not yes and not at_terminal():
            raise Wrong("nobody is there to ask: say --yes")
        if not yes and not typer.confirm("make it so?"):
            return 1
        _refuse(name, orders, await service.record(orders))
        out.print("[green]done[/]")
    return 0


async def _known(connection: AsyncConnection, head: reports.Head, policy: Policy, credentials: Mapping[str, Sequence[str]]) -> set[str]:
    """Those of the scopes that a policy's rules name which the books have."""
    known = {f"key:{name}" for names in credentials.values() for name in names}
    for kind, table, column in (("workspace", t.workspaces, "workspace_id"), ("key", t.keys, "key_id")):
        names = [scope.removeprefix(f"{kind}:") for _, scope in policy.named() if scope.startswith(f"{kind}:")]
        for some in chunks(names):
            found = await reports.page(connection, head, table, column, "", len(some), table.c[column].in_(some))
            known |= {f"{kind}:{name}" for name in found}
    return known


def _refuse(name: str, orders: list[Command], results: list[Result]) -> None:
    """Raises Wrong for what the books refuse; what was to go and is gone, since somebody else was at it too, is as the file says."""
    wrong = [
        result
        for order, result in zip(orders, results, strict=True)
        if result.status is Status.REJECTED and not (isinstance(order, _REMOVING) and result.reason is Reason.NOT_FOUND)
    ]
    refused = [result.detail or str(result.reason) for result in wrong]
    if refused:
        raise Wrong(f"{name}: " + "; ".join(refused))


def _styled(line: str) -> Text:
    return Text.assemble((line[0], _STYLE[line[0]]), plain(line[1:]))


def _line(entry: e.Entry) -> str | None:
    """An entry that would be made, as a line of a plan; its first character says what it does."""
    match entry:
        case e.OrgOpened():
            return f"+ org, {entry.time_zone}, enforce {entry.enforce}"
        case e.OrgChanged():
            was = f"{entry.was_time_zone}, enforce {entry.was_enforce}, brake {entry.was_brake}"
            return f"~ org: {was} → {entry.time_zone}, enforce {entry.enforce}, brake {entry.brake}"
        case e.WorkspaceOpened():
            return f"+ workspace:{entry.workspace}"
        case e.KeyRegistered():
            return f"+ key:{entry.key} in {entry.workspace}"
        case e.KeyMoved():
            return f"~ key:{entry.key}: {entry.was} → {entry.workspace}"
        case e.CredentialAdded() | e.CredentialRemoved():
            return f"~ key:{entry.key}: credential {'added' if isinstance(entry, e.CredentialAdded) else 'removed'}"
        case e.LabelsSet():
            return _labels_line(entry)
        case e.CapSet():
            return _policy_line("cap", entry.cap.cap_id, entry.cap, entry.was)
        case e.GuardrailSet():
            return _policy_line("guardrail", entry.guardrail.guardrail_id, entry.guardrail, entry.was)
        case e.CapRemoved() | e.GuardrailRemoved():
            gone = f"cap {entry.cap.cap_id}" if isinstance(entry, e.CapRemoved) else f"guardrail {entry.guardrail.guardrail_id}"
            return f"- {gone}"
        case e.ConnectionSet():
            return _account_line(entry)
        case e.ConnectionRemoved():
            return f"- connection {entry.connection.connection_id}"
        case e.KeyStateChanged():
            return f"! key:{entry.key} would be {entry.state} at once {', '.join(entry.reasons)}".rstrip()
        case _:
            return None


def _labels_line(entry: e.LabelsSet) -> str:
    told = (f"{name} {entry.was[name] or '(none)'} → {value or '(none)'}" for name, value in entry.labels.items())
    return f"~ {entry.scope}: {', '.join(told)}, from {date_of(entry.since)}"


def _account_line(entry: e.ConnectionSet) -> str:
    now, was = entry.connection, entry.was
    if was is None:
        return f"+ connection {now.connection_id}: {now.gateway}, {now.direction}" + ("" if now.counts else ", counts nothing")
    changed = [name for name in now.__struct_fields__ if name != "seq" and getattr(now, name) != getattr(was, name)]
    return f"~ connection {now.connection_id}: another {', '.join(changed)}"


def _policy_line(kind: str, name: str, now: e.Cap | e.Guardrail, was: e.Cap | e.Guardrail | None) -> str:
    """What is told beside the limit: of a new policy what is not usual, of a changed one what is another."""
    usual = replace(now, rule=Rule(period=now.rule.period, limit=now.rule.limit, action=now.rule.action))
    new, old = _phrases(now), _phrases(was or usual)
    told = [part for part in new if new[part] != old[part] or (was is None and part == "subject")]
    after = ", ".join(filter(None, (_rule_text(now.rule), *(new[part] for part in told))))
    if was is None:
        return f"+ {kind} {name}: {after}"
    before = ", ".join(filter(None, (_rule_text(was.rule), *(old[part] for part in told))))
    return f"~ {kind} {name}: {before} → {after}"


def _rule_text(rule: Rule) -> str:
    return f"{limit_text(rule.limit, rule.period)}, {rule.action}"


def _phrases(policy: e.Cap | e.Guardrail) -> dict[str, str]:
    """All that a policy says beside its limit, in the words of the file."""
    rule = policy.rule
    if isinstance(policy, e.Cap):
        subject = f"on {policy.scope}"
    else:
        subject = f"each {policy.each} in {' '.join(policy.within)}" + (f" except {' '.join(policy.except_)}" if policy.except_ else "")
    plain_words = ("include_byok", "on_unpriced", "resume", "enforce", "approval")
    return {
        "subject": subject,
        "thresholds": f"thresholds {' '.join(map(str, rule.thresholds)) or 'none'}",
        **{word: f"{word} {str(getattr(rule, word)).lower()}" for word in plain_words},
        "backstop": "" if rule.backstop_percent is None else f"backstop {rule.backstop_percent} %",
    }


def _turn(scope: str, state: State, org: str | None, reason: str, *, ask: bool = False) -> None:
    async def work() -> int:
        async with opened() as database, database.snapshot() as connection:
            head = await the_org(connection, org)
            kind, _, subject = scope.partition(":")
            if kind not in ("key", "workspace") and scope != "org":
                raise Wrong(f"{scope!r} is not key:ID, workspace:ID or org")
            where = [t.keys.c.key_id == subject] if kind == "key" else [t.keys.c.workspace == subject] if kind == "workspace" else []
            keys = await reports.page(connection, head, t.keys, "key_id", "", 10**6, t.keys.c.alias_of.is_(None), *where)
        if not keys:
            raise Wrong(f"there is no key under {scope!r}")
        if ask and not typer.confirm(f"{scope}, keys: {len(keys)}. End them for good?"):
            return 1
        async with serving() as service:
            by = person()
            results = await service.record([TurnKey(org=head.org, by=by, key=key, state=state, why=reason) for key in keys])
            async with service.database.snapshot() as connection:
                rows = {row["key"]: row for row in await keyed.keys_json(connection, head, keys[:5000])}
        for key, result in zip(keys, results, strict=True):
            if result.status is Status.REJECTED and (kind == "key" or result.reason is not Reason.CONFLICT):  # of many, some may be gone
                raise Wrong(result.detail or "refused")
            row = rows.get(key, {"state": "", "reasons": []})
            why = f"  still: {', '.join(row['reasons'])}" if state is State.ACTIVE and row["reasons"] else ""
            out.print(plain(f"key:{key}  {result.detail or row['state']}{why}"), markup=False)
        return 0

    if code := run(work):
        raise typer.Exit(code)


def pause(scope: ScopeArgument, reason: ReasonOption, org: OrgOption = None) -> None:
    """Hold keys paused until a person resumes them."""
    _turn(scope, State.PAUSED, org, reason)


def resume(scope: ScopeArgument, reason: ReasonOption, org: OrgOption = None) -> None:
    """Lift a person's pause, and the wait for a person; a cap in breach still stops a key."""
    _turn(scope, State.ACTIVE, org, reason)


def revoke(scope: ScopeArgument, reason: ReasonOption, org: OrgOption = None, yes: YesOption = False) -> None:
    """End keys for good. At a terminal it asks first: nothing brings them back."""
    _turn(scope, State.REVOKED, org, reason, ask=not yes and at_terminal())
