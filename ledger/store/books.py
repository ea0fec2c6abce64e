"""Owns how books are loaded and saved: every projection's rows, and only those that changed.

Structure (keys, caps, open breaches …) is loaded whole for an org; sums are loaded as they are needed (`core.needs`).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Table, and_, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import Books, Said, SumKey
from ..core.caps import Breach, Cap, Guardrail, Rule, Sum
from ..core.connections import Connection
from ..core.keys import Confirmation, Key, Workspace
from ..core.labels import amended, standing
from ..core.window import Period, next_first_day, window_at
from . import tables as t
from .dialect import chunks, insert_new, update_rows, upsert_rows

SUMS = ("spent", "byok", "unpriced", "requests", "input_tokens", "output_tokens")
_RULE = [str(column.name) for column in t.caps.columns][3:11]
_decode_said = msgspec.json.Decoder(list[tuple[int, int, int, int | None]]).decode


async def heads(connection: AsyncConnection, orgs: Iterable[str], *, open_new: bool) -> dict[str, tuple[int, int]]:
    """Each org's id and the seq of its last entry; unknown orgs get a row where `open_new`, else are left out."""
    found: dict[str, tuple[int, int]] = {}
    for part in chunks(orgs):
        rows = await connection.execute(select(t.orgs.c.org, t.orgs.c.org_id, t.orgs.c.seq).where(t.orgs.c.org.in_(part)))
        found.update((row.org, (row.org_id, row.seq)) for row in rows)
    new = [org for org in orgs if org not in found] if open_new else []
    if new:
        blank = {"seq": 0, "recorded_us": 0, "latest_us": 0, "latest_day": 0, "org_seq": 0, "zone": "UTC", "enforce": "on"}
        await insert_new(connection, t.orgs, [{"org": org, **blank} for org in new])
        found.update(await heads(connection, new, open_new=False))
    return found


Where = Mapping[Table, ColumnElement[bool]]


async def load(connection: AsyncConnection, orgs: Mapping[str, int], only: Where | None = None) -> dict[str, Books]:
    """The books of orgs (name → id) as saved, without their sums. `only`: the rows of some tables that are wanted."""
    only = only or {}
    shelf = {org_id: Books(org, complete=False) for org, org_id in orgs.items()}
    for part in chunks(shelf):
        for row in await connection.execute(select(t.orgs).where(t.orgs.c.org_id.in_(part))):
            books = shelf[row.org_id]
            books.seq, books.recorded_us, books.latest_us = row.seq, row.recorded_us, row.latest_us
            books.latest_day = row.latest_day
            books.org_seq, books.zone, books.enforce = row.org_seq, row.zone, type(books.enforce)(row.enforce)
        for table, read in _READERS.items():
            query = select(table).where(table.c.org_id.in_(part))
            if table is t.breaches:
                query = query.where(t.breaches.c.closed_us.is_(None))
            if table in only:
                query = query.where(only[table])
            for row in await connection.execute(query.order_by(*table.primary_key.columns)):
                read(shelf[row.org_id], row)
        last = func.max(t.breaches.c.ordinal)
        query = select(t.breaches.c.org_id, t.breaches.c.cap_id, last).where(t.breaches.c.org_id.in_(part))
        for org_id, cap_id, ordinal in await connection.execute(query.group_by(t.breaches.c.org_id, t.breaches.c.cap_id)):
            shelf[org_id].ordinals[cap_id] = ordinal
    for books in shelf.values():
        books.changed.clear()
    return {books.org: books for books in shelf.values()}


def _values(row: Any) -> dict[str, Any]:
    return {str(name): value for name, value in row._mapping.items() if name != "org_id"}


def _rule(row: Any) -> Rule:
    values = {name: getattr(row, name) for name in _RULE} | {"thresholds": msgspec.json.decode(row.thresholds)}
    values["limit"] = values.pop("limit_nanos")
    return msgspec.convert(values | {"include_byok": bool(row.include_byok)}, Rule)


def _read_workspace(books: Books, row: Any) -> None:
    books.workspaces[row.workspace_id] = Workspace(workspace_id=row.workspace_id, deleted=bool(row.deleted), seq=row.seq)


def _read_key(books: Books, row: Any) -> None:
    values = _values(row)
    books.put_key(msgspec.convert(values | {"deleted": bool(row.deleted)}, Key))


def _read_credential(books: Books, row: Any) -> None:
    books.credentials[row.credential] = row.key
    books.names.setdefault(row.key, {})[row.credential] = None


def _read_confirmation(books: Books, row: Any) -> None:
    values = _values(row)
    books.confirmations[row.key, row.credential, row.connection] = msgspec.convert(values, Confirmation)


def _read_cap(books: Books, row: Any) -> None:
    books.put_cap(Cap(cap_id=row.cap_id, scope=row.scope, rule=_rule(row), seq=row.seq), None)


def _read_guardrail(books: Books, row: Any) -> None:
    books.guardrails[row.guardrail_id] = guardrail_of(row)


def guardrail_of(row: Any) -> Guardrail:
    """A guardrail from its row."""
    return Guardrail(
        guardrail_id=row.guardrail_id, each=row.each, within=tuple(msgspec.json.decode(row.within)),
        except_=tuple(msgspec.json.decode(row.except_)), rule=_rule(row), seq=row.seq,
    )  # fmt: skip


def connection_of(row: Any) -> Connection:
    """A connection from its row."""
    values = _values(row) | {name: msgspec.json.decode(getattr(row, name)) for name in ("keys", "workspaces")}
    return msgspec.convert(values | {"counts": bool(row.counts), "adopt_keys": bool(row.adopt_keys)}, Connection)


def _read_connection(books: Books, row: Any) -> None:
    books.connections[row.connection_id] = connection_of(row)


def breach_of(row: Any) -> Breach:
    """A breach from its row."""
    values = _values(row)
    values["limit"] = values.pop("limit_nanos")
    return msgspec.convert(values, Breach)


def _read_breach(books: Books, row: Any) -> None:
    breach = breach_of(row)
    books.breaches[breach.cap_id, breach.kind] = books.history[breach.cap_id, breach.ordinal] = breach


def _read_spoken(books: Books, row: Any) -> None:
    books.spoken[row.cap_id] = frozenset(Said(*said) for said in _decode_said(row.said))


def _read_wait(books: Books, row: Any) -> None:
    books.waits.setdefault(row.cap_id, set()).add(row.key)


def _read_label(books: Books, row: Any) -> None:
    labels = books.labels.setdefault(row.scope, {})
    labels[row.name] = amended(labels.get(row.name, ()), row.since, row.value)


_READERS = {
    t.workspaces: _read_workspace,
    t.keys: _read_key,
    t.credentials: _read_credential,
    t.confirmations: _read_confirmation,
    t.caps: _read_cap,
    t.guardrails: _read_guardrail,
    t.connections: _read_connection,
    t.breaches: _read_breach,
    t.spoken: _read_spoken,
    t.waits: _read_wait,
    t.labels: _read_label,
}


async def load_sums(connection: AsyncConnection, wanted: Iterable[tuple[int, Books, Iterable[SumKey]]]) -> None:
    """Loads sums into the books of orgs: rows of days and hours, and longer windows as sums of days. What has no row is
    nothing."""
    by_window: dict[tuple[Period, int], list[tuple[int, str]]] = defaultdict(list)
    shelf: dict[int, Books] = {}
    for org_id, books, keys in wanted:
        shelf[org_id] = books
        for key in keys:
            books.put_sum(key, Sum())
            if books.may_hold(key.scope):
                by_window[key.period, key.start].append((org_id, key.scope))
    for (period, start), scopes in by_window.items():
        table, column = (t.hours, t.hours.c.hour_us) if period is Period.HOUR else (t.days, t.days.c.day)
        end = start + 1 if period is Period.HOUR else next_first_day(period, start)
        query = select(table.c.org_id, table.c.scope, *(func.sum(table.c[name]) for name in SUMS)).group_by(table.c.org_id, table.c.scope)
        if period is not Period.LIFETIME:
            query = query.where(column >= start, column < end)
        for part in chunks(scopes):
            for row in await connection.execute(query.where(_among(table, part))):
                org_id, scope, *sums = tuple(row)
                shelf[org_id].put_sum(SumKey(scope, period, start), Sum(*map(int, sums)))


def _among(table: Table, pairs: Sequence[tuple[int, str]]) -> ColumnElement[bool]:
    """Rows of these (org_id, scope); of a single org, so that a database spread by org asks one place."""
    orgs = {org_id for org_id, _ in pairs}
    if len(orgs) == 1:
        return and_(table.c.org_id == orgs.pop(), table.c.scope.in_([scope for _, scope in pairs]))
    return tuple_(table.c.org_id, table.c.scope).in_(pairs)


async def load_after(connection: AsyncConnection, org_id: int, books: Books, after: Mapping[Period, int]) -> None:
    """Loads every row of days or hours that begins after a start: usage that was booked ahead of its time."""
    for period, start in after.items():
        table, column = (t.hours, t.hours.c.hour_us) if period is Period.HOUR else (t.days, t.days.c.day)
        for row in await connection.execute(select(table).where(table.c.org_id == org_id, column > start)):
            books.sums.setdefault(SumKey(row[1], period, row[2]), Sum(*row[3:]))


def due_us(books: Books, now_us: int) -> int | None:
    """When the clock will next have something to do for an org: a window with a breach ends, or one booked ahead begins."""
    due = [breach.end_us for breach in books.breaches.values()]
    today, hour = (window_at(period, max(now_us, books.recorded_us), books.zone) for period in (Period.DAY, Period.HOUR))
    due += [today.end_us] if books.latest_day > today.start else []
    due += [hour.end_us] if books.counts_hours() and books.latest_us >= hour.end_us else []
    return min(due, default=None)


def _rule_values(rule: Rule) -> tuple[Any, ...]:
    thresholds = msgspec.json.encode(rule.thresholds).decode()
    return (str(rule.period), rule.limit, str(rule.action), thresholds, rule.include_byok, str(rule.on_unpriced),
            str(rule.resume), str(rule.enforce))  # fmt: skip


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
            str(b.action), str(b.enforce), b.entry, b.opened_us, b.closed_us, b.reason)  # fmt: skip


def _key_values(books: Books, key_id: str) -> tuple[Any, ...]:
    k = books.keys[key_id]
    return (k.key_id, k.workspace, str(k.state), k.revision, k.changed_us, k.held, k.by, k.alias_of, k.deleted, k.seq)


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
    return (name, books.credentials[name]) if name in books.credentials else None


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
        books.changed.clear()
        for at in [at for at, breach in books.history.items() if breach.closed_us is not None]:
            del books.history[at]
    for table, rows in written.items():
        width = len(table.primary_key.columns)
        rows.sort(key=lambda row: row[:width])
    heads = [
        (org_id, books.seq, books.recorded_us, books.latest_us, books.latest_day, books.org_seq, books.zone, str(books.enforce),
         due_us(books, now_us))
        for org_id, books in sorted(shelf, key=lambda pair: pair[0])
    ]  # fmt: skip
    return Changes(written, removed, heads)


_HEAD = ("org_id", "seq", "recorded_us", "latest_us", "latest_day", "org_seq", "zone", "enforce", "due_us")


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
