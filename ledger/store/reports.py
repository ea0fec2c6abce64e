"""Owns reading: what the API and the command line show, computed with the same core functions that book.

Everything takes a connection whose transaction is one snapshot, and returns plain values ready for JSON: amounts as decimal
text, times as RFC 3339.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Table, and_, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core import entries as e
from ..core.books import ORG, Books
from ..core.caps import Breach, Cap, Enforce, Guardrail, Rule, Sum, Waits, counted
from ..core.connections import Connection
from ..core.labels import History, amended, as_of
from ..core.money import usd_text
from ..core.window import Window, date_of, day_at
from ..wire.times import moment_text
from . import books as projections
from . import journal
from . import tables as t

Json = dict[str, Any]


class Head(NamedTuple):
    """Where an org's journal stands, and what was set of the org."""

    org: str
    org_id: int
    seq: int
    recorded_us: int
    org_seq: int
    zone: str
    enforce: str
    brake: int


_O = t.orgs.c
_HEADS = select(_O.org, _O.org_id, _O.seq, _O.recorded_us, _O.org_seq, _O.zone, _O.enforce, _O.brake).where(_O.seq > 0)
_HEAD = _HEADS.where(_O.org == bindparam("name"))
HEAD = _HEAD.where(_O.org_id == bindparam("org"))


async def head(connection: AsyncConnection, org: str) -> Head | None:
    """An org, if anything was ever booked for it."""
    row = (await connection.execute(_HEAD, {"name": org})).one_or_none()
    return None if row is None else Head(*row)


async def orgs(connection: AsyncConnection, after: str = "", limit: int = 100) -> list[Head]:
    """Orgs by name."""
    return [Head(*row) for row in await connection.execute(_HEADS.where(_O.org > after).order_by(_O.org).limit(limit))]


def org_json(head: Head) -> Json:
    """An org as the API shows it."""
    return {
        "org": head.org, "time_zone": head.zone, "enforce": head.enforce, "brake": head.brake, "seq": head.seq,
        "recorded_at": moment_text(head.recorded_us),
    }  # fmt: skip


async def page(connection: AsyncConnection, head: Head, table: Table, column: str, after: str, limit: int, *where: Any) -> list[str]:
    """Ids of an org's things after an id, in order."""
    c = table.c
    query = select(c[column]).where(c.org_id == head.org_id, c[column] > after, *where).order_by(c[column]).limit(limit)
    return list(await connection.scalars(query))


async def books_about(connection: AsyncConnection, head: Head, keys: Sequence[str], scopes: Iterable[str] = ()) -> Books:
    """The org's books as far as these keys, their workspaces, and these other scopes go."""
    ids = {*keys, *(scope[4:] for scope in scopes if scope.startswith("key:"))}
    k = t.keys.c
    mine = and_(k.org_id == head.org_id, or_(k.key_id.in_(ids), k.alias_of.in_(ids)))
    homes = set(await connection.scalars(select(k.workspace).where(mine).distinct()))
    homes |= {scope.partition(":")[2] for scope in scopes if scope.startswith("workspace:")}
    all_scopes = [ORG, *(f"key:{key}" for key in ids), *(f"workspace:{home}" for home in homes)]
    only = {
        t.keys: or_(k.key_id.in_(ids), k.alias_of.in_(ids)),
        t.workspaces: t.workspaces.c.workspace_id.in_(homes),
        t.credentials: t.credentials.c.key.in_(ids),
        t.confirmations: t.confirmations.c.key.in_(ids),
        t.caps: t.caps.c.scope.in_(all_scopes),
        t.connections: None,
        t.breaches: t.breaches.c.scope.in_(all_scopes),
        t.waits: t.waits.c.key.in_(ids),
        t.spoken: None,
        t.labels: t.labels.c.scope.in_(all_scopes),
    }
    return (await projections.load(connection, {head.org: head.org_id}, only))[head.org]


def rule_json(rule: Rule) -> Json:
    """A rule as it is written in a cap or a guardrail."""
    return {
        "period": rule.period, "limit_usd": usd_text(rule.limit), "action": rule.action, "thresholds": list(rule.thresholds),
        "include_byok": rule.include_byok, "on_unpriced": rule.on_unpriced, "resume": rule.resume, "enforce": rule.enforce,
        "approval": rule.approval, "backstop_percent": rule.backstop_percent,
    }  # fmt: skip


async def caps(connection: AsyncConnection, head: Head) -> list[Json]:
    """Every explicit cap of an org."""
    return [cap_json(cap) for cap in (await _policies(connection, head)).caps.values()]


def cap_json(cap: Cap) -> Json:
    """A cap as the API shows it."""
    return {"cap": cap.cap_id, "scope": cap.scope, **rule_json(cap.rule), "version": cap.seq}


async def guardrails(connection: AsyncConnection, head: Head) -> list[Json]:
    """Every guardrail of an org."""
    return [guardrail_json(rail) for rail in (await _policies(connection, head)).guardrails.values()]


def guardrail_json(rail: Guardrail) -> Json:
    """A guardrail as the API shows it."""
    named = {"guardrail": rail.guardrail_id, "each": rail.each, "in": list(rail.within), "except": list(rail.except_)}
    return named | rule_json(rail.rule) | {"version": rail.seq}


async def connections(connection: AsyncConnection, head: Head) -> list[Json]:
    """Every connection of an org, by id."""
    query = select(t.connections).where(t.connections.c.org_id == head.org_id).order_by(t.connections.c.connection_id)
    return [connection_json(projections.connection_of(row)) for row in await connection.execute(query)]


async def connection_row(connection: AsyncConnection, head: Head, name: str) -> Any:
    """One connection's row; None if there is none of that name."""
    c = t.connections.c
    query = select(t.connections).where(c.org_id == head.org_id, c.connection_id == name)
    return (await connection.execute(query)).one_or_none()


def connection_json(c: Connection) -> Json:
    """A connection as the API shows it."""
    return {
        "connection": c.connection_id, "gateway": c.gateway, "address": c.address, "token": c.token, "secret": c.secret,
        "direction": c.direction, "counts": c.counts, "adopt_keys": c.adopt_keys, "keys": c.keys, "workspaces": c.workspaces,
        "version": c.seq,
    }  # fmt: skip


async def _policies(connection: AsyncConnection, head: Head) -> Books:
    skipped = (t.keys, t.workspaces, t.credentials, t.confirmations, t.connections, t.breaches, t.waits, t.spoken, t.labels)
    return (await projections.load(connection, {head.org: head.org_id}, dict.fromkeys(skipped)))[head.org]


def labels_json(books: Books, scope: str) -> dict[str, str]:
    """The labels that stand on a scope now (S9)."""
    return as_of(books.labels.get(scope, {}), day_at(books.recorded_us, books.zone))


async def org_labels(connection: AsyncConnection, heads: Sequence[Head]) -> dict[str, dict[str, str]]:
    """The labels that stand on orgs now, by org."""
    c, said = t.labels.c, dict[int, dict[str, History]]()
    query = select(c.org_id, c.name, c.since, c.value).where(c.org_id.in_([head.org_id for head in heads]), c.scope == ORG)
    for org_id, name, since, value in await connection.execute(query):
        labels = said.setdefault(org_id, {})
        labels[name] = amended(labels.get(name, ()), since, value)
    return {head.org: as_of(said.get(head.org_id, {}), day_at(head.recorded_us, head.zone)) for head in heads}


async def label_history(connection: AsyncConnection, head: Head) -> dict[str, dict[str, History]]:
    """What was said of every label of an org, by scope and name (S9)."""
    c, said = t.labels.c, dict[str, dict[str, History]]()
    query = select(c.scope, c.name, c.since, c.value).where(c.org_id == head.org_id).order_by(c.scope, c.name, c.since)
    for scope, name, since, value in await connection.execute(query):
        labels = said.setdefault(scope, {})
        labels[name] = (*labels.get(name, ()), (since, value))
    return said


def balance_json(books: Books, scope: str, window: Any) -> Json:
    """One balance, as in the contract."""
    used = books.used(scope, window.period, window.start)
    caps = [
        {"cap": cap.cap_id, "limit_usd": usd_text(cap.rule.limit), "left_usd": usd_text(max(0, cap.rule.limit - counted(cap.rule, used)))}
        for cap in books.caps_on(scope)
        if cap.rule.period is window.period
    ]
    return used_json(scope, window, used) | {"caps": caps}


def used_json(scope: str, window: Window, used: Sum) -> Json:
    """What a scope used in a window."""
    return {
        "scope": scope, "period": window.period, "start": moment_text(window.start_us), "end": moment_text(window.end_us),
        "spent_usd": usd_text(used.spent), "byok_usd": usd_text(used.byok), "held_usd": "0", "unpriced": used.unpriced,
        "requests": used.requests, "input_tokens": used.input_tokens, "output_tokens": used.output_tokens,
    }  # fmt: skip


def breach_json(breach: Breach) -> Json:
    """A breach, as in the contract (C7)."""
    return {
        "cap": breach.cap_id, "ordinal": breach.ordinal, "kind": breach.kind, "scope": breach.scope, "period": breach.period,
        "start": moment_text(breach.start_us), "end": moment_text(breach.end_us), "limit_usd": usd_text(breach.limit),
        "spent_usd": usd_text(breach.spent), "over_usd": usd_text(max(0, breach.spent - breach.limit)), "unpriced": breach.unpriced,
        "action": breach.action, "enforce": breach.enforce, "entry": breach.entry,
        "waits": breach.waits, "verdict": breach.verdict, "judged_by": breach.judged_by, "opened_at": moment_text(breach.opened_us),
        "closed_at": None if breach.closed_us is None else moment_text(breach.closed_us), "reason": breach.reason,
    }  # fmt: skip


async def breaches(connection: AsyncConnection, head: Head, *, before: tuple[int, str, int] | None = None, limit: int = 100,
                   open_only: bool = False, waiting: bool = False, cap: str | None = None,
                   scope: str | None = None, home: str | None = None) -> list[Json]:  # fmt: skip
    """Breaches, newest first; `waiting`: those that wait for a person (K4); `home`: only of that workspace and its keys."""
    b = t.breaches.c
    query = select(t.breaches).where(b.org_id == head.org_id)
    if waiting:
        query = query.where(b.closed_us.is_(None), b.waits != Waits.NOTHING, b.verdict.is_(None), b.enforce == Enforce.ON)
    if open_only:
        query = query.where(b.closed_us.is_(None))
    if cap is not None:
        query = query.where(b.cap_id == cap)
    if scope is not None:
        query = query.where(b.scope == scope)
    if home is not None:
        mine = select("key:" + t.keys.c.key_id).where(t.keys.c.org_id == head.org_id, t.keys.c.workspace == home)
        query = query.where(or_(b.scope == f"workspace:{home}", b.scope.in_(mine)))
    if before is not None:
        at, cap_id, ordinal = before
        query = query.where(
            or_(b.opened_us < at, and_(b.opened_us == at, or_(b.cap_id > cap_id, and_(b.cap_id == cap_id, b.ordinal < ordinal))))
        )
    rows = await connection.execute(query.order_by(b.opened_us.desc(), b.cap_id, b.ordinal.desc()).limit(limit))
    return [breach_json(projections.breach_of(row)) | {"opened_us": row.opened_us} for row in rows]


def _maybe(us: int | None) -> str | None:
    return None if us is None else moment_text(us)


async def entries(connection: AsyncConnection, head: Head, after: int, limit: int) -> list[Json]:
    """The journal, in sequence."""
    query = select(t.journal).where(t.journal.c.org_id == head.org_id, t.journal.c.seq > after).order_by(t.journal.c.seq).limit(limit)
    return [entry_json(journal.entry_of(row, head.org)) for row in await connection.execute(query)]


_PLAIN = {"key", "workspace", "model", "provider", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens",
          "reasoning_tokens", "audio_tokens", "images", "searches", "byok", "batch", "member", "end_user", "preset", "preset_version",
          "session", "tags", "hold", "response_id"}  # fmt: skip


def entry_json(entry: e.Entry) -> Json:
    """An entry with amounts and times as text."""
    if isinstance(entry, e.UsageRecorded):
        c = entry.command
        shown = {name: getattr(c.usage, name) for name in sorted(_PLAIN)}
        return {
            "seq": entry.seq, "type": "UsageRecorded", "recorded_at": moment_text(entry.recorded_us), "time": moment_text(c.time_us),
            "source": c.source, "id": c.event_id, "day": date_of(entry.day).isoformat(), **shown,
            "key": entry.key, "workspace": entry.workspace, "sent_key": c.usage.key,
            "cost_usd": None if c.booked is None else usd_text(c.booked), "cost_as_sent": c.cost_text,
            "computed_usd": None if c.computed is None else usd_text(c.computed), "card": c.card,
            "upstream_cost_usd": None if c.upstream is None else usd_text(c.upstream), "started_at": _maybe(c.usage.started_us),
        }  # fmt: skip
    fields = {"seq": entry.seq, "type": type(entry).__name__, "recorded_at": moment_text(entry.recorded_us)}
    return fields | {
        _SHOWN_AS.get(name, name): _shown(name, getattr(entry, name))
        for name in entry.__struct_fields__
        if name not in ("seq", "recorded_us", "digest")
    }


_SHOWN_AS = {
    "cap_id": "cap", "limit": "limit_usd", "spent": "spent_usd", "cost": "cost_usd", "price": "price_usd", "amount": "amount_usd",
    "start_us": "start", "end_us": "end", "hour_us": "hour", "time_us": "time", "started_us": "started_at",
    "confirmed_us": "confirmed_at",
}  # fmt: skip


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, Cap):
        return cap_json(value)
    if isinstance(value, Guardrail):
        return guardrail_json(value)
    if isinstance(value, Connection):
        return connection_json(value)
    if name.endswith("_us"):
        return _maybe(value)
    if name in ("limit", "spent", "cost", "price", "amount"):
        return usd_text(value)
    if name in ("day", "since", "asked"):
        return None if value is None else date_of(value).isoformat()
    if name == "parts":
        return [{"workspace": part.workspace, "weight": part.weight, "cost_usd": usd_text(part.cost)} for part in value]
    if name == "openings":
        return [{"scope": part.scope, "hour": moment_text(part.hour_us), "spent_usd": usd_text(part.used.spent)} for part in value]
    return value


async def key_counts(connection: AsyncConnection) -> list[tuple[str, int]]:
    """How many keys are in each state, over all orgs."""
    k = t.keys.c
    rows = await connection.execute(select(k.state, func.count()).where(k.alias_of.is_(None)).group_by(k.state))
    return [(state, int(count)) for state, count in rows]
