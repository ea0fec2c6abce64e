"""Owns balances: what scopes used in a window, every cap above them with what it leaves, and how a balance stood before (J7)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import ORG, Books, SumKey
from ..core.caps import Cap, Enforce, Sum, counted
from ..core.execute import AHEAD_US
from ..core.keys import Workspace
from ..core.levels import enforced
from ..core.money import usd_text
from ..core.questions import SUMS, Charge, Dimension, Kind
from ..core.window import Period, Window, window_at, windows_at
from ..wire.times import moment_text
from . import books as projections
from . import lines, reports
from . import tables as t
from .bulk import chunks
from .report import EARLY_US, seq_before
from .reports import Head, Json

PARTS = (Dimension(Kind.WORKSPACE), Dimension(Kind.KEY), Dimension(Kind.CHARGE))


async def standing(
    connection: AsyncConnection, head: Head, scopes: Sequence[str], periods: Sequence[Period], at_us: int, now_us: int | None = None
) -> list[Json]:
    """What scopes used in the windows that contain an instant, and every cap above them in its own window then.

    `now_us`: where it lies in a window, what that window's end will have seen is forecast; None: `at_us`.
    """
    books = await knowing(connection, head, scopes, periods, at_us)
    return shown(books, scopes, periods, at_us, at_us if now_us is None else now_us)


async def knowing(connection: AsyncConnection, head: Head, scopes: Sequence[str], periods: Sequence[Period], at_us: int) -> Books:
    """Books that know what `shown` reads."""
    books = await caps_about(connection, head, scopes)
    await projections.load_sums(connection, [(head.org_id, books, wanted(books, scopes, periods, at_us))])
    if Period.HOUR in periods:
        await count_hour(connection, head, books, scopes, windows_at(at_us, head.zone)[Period.HOUR])
    return books


def wanted(books: Books, scopes: Iterable[str], periods: Iterable[Period], at_us: int) -> set[SumKey]:
    """The sums that `shown` reads: those of the scopes, and of every cap above them."""
    windows = windows_at(at_us, books.zone)
    sums = {SumKey(part, period, windows[period].start) for scope in scopes for period in periods for part in books.parts(scope)}
    for cap in {cap.cap_id: cap for scope in scopes for cap in _caps_above(books, scope)}.values():
        sums |= {SumKey(part, cap.rule.period, windows[cap.rule.period].start) for part in books.parts(cap.scope)}
    return sums


def shown(books: Books, scopes: Iterable[str], periods: Sequence[Period], at_us: int, now_us: int) -> list[Json]:
    """The balances of scopes in the windows that contain an instant, from books that know them."""
    windows = windows_at(at_us, books.zone)
    above = {scope: above_json(books, _caps_above(books, scope), windows, now_us) for scope in scopes}
    return [reports.balance_json(books, scope, windows[period]) | {"above": above[scope]} for scope in above for period in periods]


async def count_hour(connection: AsyncConnection, head: Head, books: Books, scopes: Iterable[str], hour: Window) -> None:
    """Puts into books what scopes used in an hour, from the journal: rows of hours are kept under an hour cap only, and only since
    it was made."""
    after = await seq_before(connection, head, hour.start_us - AHEAD_US)
    span = await lines.span(connection, head.org_id, head.zone, after, head.seq)
    line = union_all(*lines.journal_lines(span, PARTS, lines.Range(hour.start_us, hour.end_us, True))).subquery("lines").c
    query = select(line.workspace, line.key, *(func.sum(line[name]) for name in SUMS[:6])).where(_by_the_hour(line))
    used = defaultdict[str, Sum](Sum)
    for home, key, *sums in map(tuple, await connection.execute(query.group_by(line.workspace, line.key))):
        for scope in (ORG, f"workspace:{home}", f"key:{key}"):
            used[scope].add(Sum(*map(int, sums)))
    for part in {part for scope in scopes for part in books.parts(scope)}:
        books.put_sum(SumKey(part, Period.HOUR, hour.start), used[part])


def _by_the_hour(line: Any) -> ColumnElement[bool]:
    """A shared cost has a day and no hour: no hour cap counts it, so no hour's balance does (C3)."""
    return line.charge != Charge.SHARED.value


_W, _K, _C, _G = t.workspaces.c, t.keys.c, t.caps.c, t.guardrails.c
_ORG = bindparam("org")
KEYS = select(t.keys).where(_K.org_id == _ORG, or_(*(column.in_(bindparam("ids", expanding=True)) for column in (_K.key_id, _K.alias_of))))
HOMES = select(t.workspaces).where(_W.org_id == _ORG, _W.workspace_id.in_(bindparam("homes", expanding=True)))
CAPS = select(t.caps).where(_C.org_id == _ORG, _C.scope.in_(bindparam("scopes", expanding=True)))
RAILS = select(t.guardrails).where(_G.org_id == _ORG).order_by(_G.guardrail_id)


async def caps_about(connection: AsyncConnection, head: Head, scopes: Sequence[str]) -> Books:
    """Books that know the caps on some scopes, on their keys' workspaces and on the org, and nothing else: by few statements,
    made once, since balances are asked for often."""
    books = books_of(head)
    for ids in chunks(scope[4:] for scope in scopes if scope.startswith("key:")):
        for row in await connection.execute(KEYS, {"org": head.org_id, "ids": ids}):
            projections.read_key(books, row)
    for homes in chunks(scope[10:] for scope in scopes if scope.startswith("workspace:")):
        for row in await connection.execute(HOMES, {"org": head.org_id, "homes": homes}):
            projections.read_workspace(books, row)
    know_homes(books)
    for some in chunks(capped(books, scopes)):
        for row in await connection.execute(CAPS, {"org": head.org_id, "scopes": some}):
            projections.read_cap(books, row)
    for row in await connection.execute(RAILS, {"org": head.org_id}):
        projections.read_guardrail(books, row)
    return books


def books_of(head: Head) -> Books:
    """Books that know of an org what its head says."""
    books = Books(head.org, complete=False)
    books.seq, books.recorded_us, books.zone, books.enforce = head.seq, head.recorded_us, head.zone, Enforce(head.enforce)
    return books


def know_homes(books: Books) -> None:
    """A key's workspace is one that there is: books that know the key's row need no row of it."""
    homes = {key.workspace for key in books.keys.values()} - books.workspaces.keys()
    books.workspaces |= {home: Workspace(workspace_id=home) for home in homes}


def capped(books: Books, scopes: Iterable[str]) -> set[str]:
    """The scopes whose caps matter to some, once books know their keys and workspaces. Also those of keys and workspaces that
    nobody has met: a cap may stand before the first call."""
    return {ORG, *scopes, *(f"key:{key}" for key in books.keys), *(f"workspace:{home}" for home in books.workspaces)}


def _scopes_above(books: Books, scope: str) -> Iterable[str]:
    kind, _, subject = scope.partition(":")
    if kind == "key":
        yield books.owner(scope)
        if subject in books.keys:
            yield f"workspace:{books.keys[subject].workspace}"
    elif kind == "workspace":
        yield scope
    yield ORG


def _caps_above(books: Books, scope: str) -> list[Cap]:
    return [cap for one in _scopes_above(books, scope) for cap in books.caps_on(one)]


def left(cap: Cap, used: Sum) -> int:
    """What a cap leaves; nano-USD, never less than nothing."""
    return max(0, cap.rule.limit - counted(cap.rule, used))


def above_json(books: Books, caps: Sequence[Cap], windows: Mapping[Period, Window], now_us: int) -> list[Json]:
    """Caps with what they leave; all must hold (C2), so the one that leaves least is the tightest, the first of equals."""
    used = {cap.cap_id: books.used(cap.scope, cap.rule.period, windows[cap.rule.period].start) for cap in caps}
    tightest = min(caps, key=lambda cap: left(cap, used[cap.cap_id]), default=None)
    return [_cap_json(books, cap, windows[cap.rule.period], used[cap.cap_id], now_us) | {"tightest": cap is tightest} for cap in caps]


def _cap_json(books: Books, cap: Cap, window: Window, used: Sum, now_us: int) -> Json:
    spent = counted(cap.rule, used)
    coming = forecast(spent, window, now_us)
    return {
        "cap": cap.cap_id, "scope": cap.scope, "period": window.period, "start": moment_text(window.start_us),
        "end": moment_text(window.end_us), "limit_usd": usd_text(cap.rule.limit), "spent_usd": usd_text(used.spent),
        "byok_usd": usd_text(used.byok), "unpriced": used.unpriced, "left_usd": usd_text(left(cap, used)),
        "percent": spent * 100 // cap.rule.limit if cap.rule.limit else 100, "action": cap.rule.action, "enforce": enforced(books, cap),
        "forecast_usd": None if coming is None else usd_text(coming),
    }  # fmt: skip


def forecast(spent: int, window: Window, now_us: int) -> int | None:
    """What a window will have seen at its end if it goes on at its pace so far; nano-USD. None for one without an end, or
    that does not contain now."""
    if window.period is Period.LIFETIME or not window.start_us < now_us < window.end_us:
        return None
    return spent * (window.end_us - window.start_us) // (now_us - window.start_us)


def meant_us(at_us: int | None, recorded_us: int | None, until_us: int | None, now_us: int) -> int:
    """The instant whose windows are meant: what was said, else the last one that `stood` would count, else now."""
    last_us = None if until_us is None else until_us - 1  # at `until_us` itself another window may begin
    return next((one for one in (at_us, last_us, recorded_us) if one is not None), now_us)


async def stood(
    connection: AsyncConnection,
    head: Head,
    scopes: Sequence[str],
    periods: Sequence[Period],
    at_us: int,
    recorded_us: int | None,
    until_us: int | None,
) -> list[Json]:  # fmt: skip
    """As `standing`, but counting only what was recorded by an instant, or spent before one (J7); read from the journal.

    Without caps: what limits stood then is not what stands now.
    """
    books = await caps_about(connection, head, scopes)
    seq = head.seq if recorded_us is None else await seq_before(connection, head, recorded_us + 1)
    shown: list[Json] = []
    for scope in scopes:
        for window in (window_at(period, at_us, head.zone) for period in periods):
            used = await _used_then(connection, head, books, scope, window, seq, until_us)
            shown.append(reports.used_json(scope, window, used) | {"caps": [], "above": []})
    return shown


async def _used_then(
    connection: AsyncConnection, head: Head, books: Books, scope: str, window: Window, seq: int, until_us: int | None
) -> Sum:
    ever = window.period is Period.LIFETIME
    after = 0 if ever else min(seq, await seq_before(connection, head, window.start_us - EARLY_US))
    span = await lines.span(connection, head.org_id, head.zone, after, seq)
    hours = window.period is Period.HOUR
    within = None if ever else lines.Range(window.start, window.end, hours)
    line = union_all(*lines.journal_lines(span, PARTS, within, before_us=until_us)).subquery("lines").c
    query = select(*(func.coalesce(func.sum(line[name]), 0) for name in SUMS[:6])).where(counts_for(books, scope, line))
    query = query.where(_by_the_hour(line)) if hours else query
    return Sum(*map(int, (await connection.execute(query)).one()))


def counts_for(books: Books, scope: str, line: Any) -> ColumnElement[bool]:
    """Which lines count for a scope, a key's aliases with it (S3)."""
    kind, _, subject = scope.partition(":")
    if kind == "key":
        return line.key.in_([part[4:] for part in books.parts(scope)])
    return line.workspace == subject if kind == "workspace" else or_(line.workspace.is_not(None), line.workspace.is_(None))
