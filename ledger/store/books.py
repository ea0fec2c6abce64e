"""Owns how books are loaded from the projections; `saving` writes them.

Structure (keys, caps, open breaches …) is loaded whole for an org; sums are loaded as they are needed (`core.needs`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Select, Table, bindparam, func, literal, select, true, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import Books, Said, SumKey
from ..core.caps import BRAKE, Action, Breach, Cap, Enforce, Guardrail, Rule, Sum
from ..core.connections import Connection
from ..core.keys import Confirmation, Key, State, Workspace
from ..core.labels import amended
from ..core.window import MINUTE_US, Period, next_first_day
from . import tables as t
from .bulk import chunks, insert_new

SUMS = ("spent", "byok", "unpriced", "requests", "input_tokens", "output_tokens")
_RULE = [str(column.name) for column in t.caps.columns][3:13]
MOST_JOINED = 5  # windows that are asked for in one statement: each may name `bulk.MOST_VALUES` scopes
_HEADS = select(t.orgs.c.org, t.orgs.c.org_id, t.orgs.c.seq).where(t.orgs.c.org.in_(bindparam("orgs", expanding=True)))
_decode_said = msgspec.json.Decoder(list[tuple[int, int, int, int | None]]).decode


async def heads(connection: AsyncConnection, orgs: Iterable[str], *, open_new: bool) -> dict[str, tuple[int, int]]:
    """Each org's id and the seq of its last entry; unknown orgs get a row where `open_new`, else are left out."""
    found: dict[str, tuple[int, int]] = {}
    for part in chunks(orgs):
        found.update((org, (org_id, seq)) for org, org_id, seq in await connection.execute(_HEADS, {"orgs": part}))
    new = [org for org in orgs if org not in found] if open_new else []
    if new:
        blank: dict[str, Any] = dict.fromkeys(("seq", "recorded_us", "latest_us", "latest_day", "taken_back", "org_seq"), 0)
        blank |= {"zone": "UTC", "enforce": "on", "brake": BRAKE}
        await insert_new(connection, t.orgs, [{"org": org, **blank} for org in new])
        found.update(await heads(connection, new, open_new=False))
    return found


Where = Mapping[Table, ColumnElement[bool] | None]


async def load(connection: AsyncConnection, orgs: Mapping[str, int], only: Where | None = None) -> dict[str, Books]:
    """The books of orgs (name → id) as saved, without their sums. `only`: the rows of some tables that are wanted; None: none of
    them, and without breaches nothing of when they opened."""
    only = only or {}
    shelf = {org_id: Books(org, complete=False) for org, org_id in orgs.items()}
    for part in chunks(shelf):
        for row in await connection.execute(select(t.orgs).where(t.orgs.c.org_id.in_(part))):
            books = shelf[row.org_id]
            books.seq, books.recorded_us, books.latest_us = row.seq, row.recorded_us, row.latest_us
            books.latest_day, books.taken_back = row.latest_day, row.taken_back
            books.org_seq, books.zone, books.enforce = row.org_seq, row.zone, type(books.enforce)(row.enforce)
            books.brake = row.brake
        for table, read in _READERS.items():
            where = only.get(table, true())
            if where is None:
                continue
            query = select(table).where(table.c.org_id.in_(part), where)
            if table is t.breaches:
                query = query.where(t.breaches.c.closed_us.is_(None))
            for row in await connection.execute(query.order_by(*table.primary_key.columns)):
                read(shelf[row.org_id], row)
        if only.get(t.breaches, true()) is None:
            continue
        for org_id, at_us in await connection.execute(_stops(part)):
            shelf[org_id].stops.append(at_us)
        last = func.max(t.breaches.c.ordinal)
        query = select(t.breaches.c.org_id, t.breaches.c.cap_id, last).where(t.breaches.c.org_id.in_(part))
        for org_id, cap_id, ordinal in await connection.execute(query.group_by(t.breaches.c.org_id, t.breaches.c.cap_id)):
            shelf[org_id].ordinals[cap_id] = ordinal
    for books in shelf.values():
        books.changed.clear()
    return {books.org: books for books in shelf.values()}


def _stops(orgs: list[int]) -> Select[int, int]:
    """When breaches that stop keys opened, in the last minute of each org's own time (K4)."""
    b, o = t.breaches.c, t.orgs.c
    query = select(b.org_id, b.opened_us).join(t.orgs, o.org_id == b.org_id)
    query = query.where(b.org_id.in_(orgs), b.opened_us > o.recorded_us - MINUTE_US)
    return query.where(b.enforce == Enforce.ON, b.action != Action.ALERT).order_by(b.org_id, b.opened_us)


def _values(row: Any) -> dict[str, Any]:
    return {str(name): value for name, value in row._mapping.items() if name != "org_id"}


def _rule(row: Any) -> Rule:
    values = {name: getattr(row, name) for name in _RULE} | {"thresholds": msgspec.json.decode(row.thresholds)}
    values["limit"] = values.pop("limit_nanos")
    return msgspec.convert(values | {"include_byok": bool(row.include_byok), "approval": bool(row.approval)}, Rule)


def read_workspace(books: Books, row: Any) -> None:
    """Puts a row of `workspaces` in books."""
    books.workspaces[row.workspace_id] = Workspace(workspace_id=row.workspace_id, deleted=bool(row.deleted), seq=row.seq)


def read_key(books: Books, row: Any) -> None:
    """Puts a row of `keys` in books. By place, not by name: an org may have a hundred thousand keys."""
    _, key_id, workspace, state, revision, changed_us, held, by, leaking, alias_of, deleted, seq = row
    books.put_key(Key(
        key_id=key_id, workspace=workspace, state=State(state), revision=revision, changed_us=changed_us, held=held, by=by,
        leaking=bool(leaking), alias_of=alias_of, deleted=bool(deleted), seq=seq,
    ))  # fmt: skip


def _read_credential(books: Books, row: Any) -> None:
    if row.has_left:
        books.left[row.credential] = row.key
        return
    books.credentials[row.credential] = row.key
    books.names.setdefault(row.key, {})[row.credential] = None


def _read_confirmation(books: Books, row: Any) -> None:
    _, key, credential, connection, revision, state, mark, confirmed_us = row
    books.confirmations[key, credential, connection] = Confirmation(
        key=key, credential=credential, connection=connection, revision=revision, state=State(state), mark=mark, confirmed_us=confirmed_us
    )  # fmt: skip


def read_cap(books: Books, row: Any) -> None:
    """Puts a row of `caps` in books."""
    books.put_cap(Cap(cap_id=row.cap_id, scope=row.scope, rule=_rule(row), seq=row.seq), None)


def read_guardrail(books: Books, row: Any) -> None:
    """Puts a row of `guardrails` in books."""
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
    t.workspaces: read_workspace,
    t.keys: read_key,
    t.credentials: _read_credential,
    t.confirmations: _read_confirmation,
    t.caps: read_cap,
    t.guardrails: read_guardrail,
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
    parts = [(period, start, part) for (period, start), scopes in by_window.items() for part in chunks(scopes)]
    for some in chunks(parts, MOST_JOINED):
        query = sums_of(tuple((period, len({org_id for org_id, _ in part}) == 1) for period, _, part in some))
        values = {name: value for n, window in enumerate(some) for name, value in values_of(n, *window).items()}
        for period, start, org_id, scope, *sums in map(tuple, await connection.execute(query, values)):
            shelf[org_id].put_sum(SumKey(scope, Period(period), start), Sum(*map(int, sums)))


@lru_cache(maxsize=512)
def sums_of(windows: tuple[tuple[Period, bool], ...]) -> Any:
    """The statement that asks for so many windows, each of one org or of several: made once."""
    return union_all(*(_window_sums(n, *window) for n, window in enumerate(windows)))


def _window_sums(n: int, period: Period, one_org: bool) -> Any:
    """The sums of scopes in the nth window; of a single org, so that a database spread by org asks one place."""
    table, column = (t.hours, t.hours.c.hour_us) if period is Period.HOUR else (t.days, t.days.c.day)
    c, start = table.c, bindparam(f"start{n}", type_=t.Big)
    sums = (func.sum(c[name]) for name in SUMS)
    query = select(literal(period.value), start.label("start"), c.org_id, c.scope, *sums).group_by(c.org_id, c.scope)
    scopes = bindparam(f"scopes{n}", expanding=True)
    query = (
        query.where(c.org_id == bindparam(f"org{n}"), c.scope.in_(scopes))
        if one_org
        else query.where(tuple_(c.org_id, c.scope).in_(scopes))
    )
    return query if period is Period.LIFETIME else query.where(column >= start, column < bindparam(f"end{n}", type_=t.Big))


def values_of(n: int, period: Period, start: int, pairs: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """The nth window's values of such a statement; `pairs`: (org_id, scope)."""
    orgs = {org_id for org_id, _ in pairs}
    values: dict[str, Any] = {f"start{n}": start, f"scopes{n}": pairs if len(orgs) > 1 else [scope for _, scope in pairs]}
    if len(orgs) == 1:
        values[f"org{n}"] = orgs.pop()
    if period is not Period.LIFETIME:
        values[f"end{n}"] = start + 1 if period is Period.HOUR else next_first_day(period, start)
    return values


async def load_after(connection: AsyncConnection, org_id: int, books: Books, after: Mapping[Period, int]) -> None:
    """Loads every row of days or hours that begins after a start: usage that was booked ahead of its time."""
    for period, start in after.items():
        table, column = (t.hours, t.hours.c.hour_us) if period is Period.HOUR else (t.days, t.days.c.day)
        for row in await connection.execute(select(table).where(table.c.org_id == org_id, column > start)):
            books.sums.setdefault(SumKey(row[1], period, row[2]), Sum(*row[3:]))
