"""Owns how books are saved: every projection's rows, and only those that changed; `books` loads them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Table, delete, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import Books, SumKey
from ..core.caps import Rule
from ..core.labels import standing
from ..core.window import Period, windows_at
from . import tables as t
from .bulk import chunks, update_rows, upsert_rows


def due_us(books: Books, now_us: int) -> int | None:
    """When the clock will next have something to do for an org: a window with a breach ends, or one booked ahead begins."""
    due = [breach.end_us for breach in books.breaches.values()]
    windows = windows_at(max(now_us, books.recorded_us), books.zone)
    today, hour = windows[Period.DAY], windows[Period.HOUR]
    due += [today.end_us] if books.latest_day > today.start else []
    due += [hour.end_us] if books.counts_hours() and books.latest_us >= hour.end_us else []
    return min(due, default=None)


def _rule_values(rule: Rule) -> tuple[Any, ...]:
    thresholds = msgspec.json.encode(rule.thresholds).decode()
    return (str(rule.period), rule.limit, str(rule.action), thresholds, rule.include_byok, str(rule.on_unpriced),
            str(rule.resume), str(rule.enforce), rule.approval, rule.backstop_percent)  # fmt: skip


def _cap_values(books: Books, cap_id: str) -> tuple[Any, ...] | None:
    cap = books.caps.get(cap_id)
    return cap and (cap.cap_id, cap.scope, *_rule_values(cap.rule), cap.seq)


def _guardrail_values(books: Books, rail_id: str) -> tuple[Any, ...] | None:
    rail = books.guardrails.get(rail_id)
    if rail is None:
        return None
    within, except_ = (msgspec.json.encode(names).decode() for names in (rail.within, rail.except_))
    return (rail.guardrail_id, rail.each, within, except_, *_rule_values(rail.rule), rail.seq)


def _connection_values(books: Books, connection_id: str) -> tuple[Any, ...] | None:
    c = books.connections.get(connection_id)
    if c is None:
        return None
    keys, workspaces = (msgspec.json.encode(names, order="sorted").decode() for names in (c.keys, c.workspaces))
    return (c.connection_id, str(c.gateway), c.address, c.token, c.secret, str(c.direction), c.counts, c.adopt_keys,
            keys, workspaces, c.seq)  # fmt: skip


def _breach_values(books: Books, at: tuple[str, int]) -> tuple[Any, ...]:
    b = books.history[at]
    return (b.cap_id, b.ordinal, str(b.kind), b.scope, str(b.period), b.start_us, b.end_us, b.limit, b.spent, b.unpriced,
            str(b.action), str(b.enforce), b.entry, str(b.waits), b.opened_us, b.verdict and str(b.verdict), b.judged_by,
            b.closed_us, b.reason)  # fmt: skip


def _key_values(books: Books, key_id: str) -> tuple[Any, ...]:
    k = books.keys[key_id]
    return (k.key_id, k.workspace, str(k.state), k.revision, k.changed_us, k.held, k.by, k.leaking, k.alias_of, k.deleted, k.seq)


def _confirmation_values(books: Books, at: tuple[str, str, str]) -> tuple[Any, ...]:
    c = books.confirmations[at]
    return (c.key, c.credential, c.connection, c.revision, str(c.state), c.mark, c.confirmed_us)


def _workspace_values(books: Books, workspace_id: str) -> tuple[Any, ...]:
    workspace = books.workspaces[workspace_id]
    return (workspace.workspace_id, workspace.deleted, workspace.seq)


def _spoken_values(books: Books, cap_id: str) -> tuple[Any, ...]:
    said = sorted(books.spoken[cap_id], key=lambda word: (word[:3], word.percent or 0))
    return (cap_id, msgspec.json.encode(said).decode())


def _credential_values(books: Books, name: str) -> tuple[Any, ...] | None:
    if name in books.credentials:
        return name, books.credentials[name], False
    return (name, books.left[name], True) if name in books.left else None


def _wait_values(books: Books, at: tuple[str, str]) -> tuple[Any, ...] | None:
    return at if at[1] in books.waits.get(at[0], ()) else None


def _label_values(books: Books, at: tuple[str, str, int]) -> tuple[Any, ...]:
    scope, name, since = at
    return (scope, name, since, standing(books.labels[scope][name], since))


def _sum_values(books: Books, key: SumKey) -> tuple[Any, ...]:
    s = books.sums[key]
    return (key.scope, key.start, s.spent, s.byok, s.unpriced, s.requests, s.input_tokens, s.output_tokens)


_WRITERS: dict[str, tuple[Table, Callable[[Books, Any], tuple[Any, ...] | None]]] = {
    "workspace": (t.workspaces, _workspace_values),
    "key": (t.keys, _key_values),
    "credential": (t.credentials, _credential_values),
    "confirmation": (t.confirmations, _confirmation_values),
    "cap": (t.caps, _cap_values),
    "guardrail": (t.guardrails, _guardrail_values),
    "connection": (t.connections, _connection_values),
    "breach": (t.breaches, _breach_values),
    "spoken": (t.spoken, _spoken_values),
    "wait": (t.waits, _wait_values),
    "label": (t.labels, _label_values),
    "day": (t.days, _sum_values),
    "hour": (t.hours, _sum_values),
}


class Changes(msgspec.Struct):
    """Rows that a batch changed: to write and to remove by table, and each org's head."""

    written: dict[Table, list[tuple[Any, ...]]]
    removed: dict[Table, list[tuple[Any, ...]]]
    heads: list[tuple[Any, ...]]


def changes(shelf: Sequence[tuple[int, Books]], now_us: int) -> Changes:
    """What changed in books, which forget that it did. Rows are sorted, so that two writers can't deadlock."""
    written: dict[Table, list[tuple[Any, ...]]] = defaultdict(list)
    removed: dict[Table, list[tuple[Any, ...]]] = defaultdict(list)
    for org_id, books in shelf:
        for kind, key in books.changed:
            table, row_of = _WRITERS[kind]
            row = row_of(books, key)
            if row is not None:
                written[table].append((org_id, *row))
            else:
                removed[table].append((org_id, *key) if isinstance(key, tuple) else (org_id, key))
        books.forget_changes()
    for rows in written.values():
        rows.sort()  # each begins with its primary key, and no two have the same
    heads = [
        (org_id, books.seq, books.recorded_us, books.latest_us, books.latest_day, books.taken_back, books.org_seq, books.zone,
         str(books.enforce), books.brake, due_us(books, now_us))
        for org_id, books in sorted(shelf, key=lambda pair: pair[0])
    ]  # fmt: skip
    return Changes(written, removed, heads)


_HEAD = ("org_id", "seq", "recorded_us", "latest_us", "latest_day", "taken_back", "org_seq", "zone", "enforce", "brake", "due_us")


async def write(connection: AsyncConnection, changed: Changes) -> None:
    """Writes changed rows."""
    for table in t.PROJECTIONS:
        for part in chunks(sorted(changed.removed.get(table, ()))):
            columns = tuple_(*table.primary_key.columns)
            await connection.execute(delete(table).where(columns.in_(part)))
        await upsert_rows(connection, table, changed.written.get(table, ()))
    await update_rows(connection, t.orgs, _HEAD, changed.heads)


async def save(connection: AsyncConnection, shelf: Sequence[tuple[int, Books]], now_us: int) -> None:
    """Writes what changed in books."""
    await write(connection, changes(shelf, now_us))
