"""Owns explanations of a balance, a line of a report or a breach, down to the entries that made it (J6). See `keystate` for keys."""

from typing import Any

from sqlalchemy import Row, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import ORG, Books, SumKey
from ..core.caps import Breach, Sum, Verdict
from ..core.entries import BreachJudged, KeyStateChanged
from ..core.money import usd_text
from ..core.questions import Question
from ..core.window import Period, Window, window_at
from ..wire.journal import decode_fact
from ..wire.report import SUM_COLUMNS, about, sums_json
from ..wire.times import moment_text
from . import balances, journal, report, reports
from . import books as projections
from . import tables as t
from .reports import Head, Json

J = t.journal.c
MOST_ENTRIES = 100


def _of_scope(books: Books, scope: str) -> Any:
    """Which rows of the journal count for a scope."""
    kind, _, subject = scope.partition(":")
    if kind == ORG:
        return J.cost.is_not(None) | (J.kind == journal.USAGE)
    if kind == "workspace":
        return J.workspace == subject
    return J.key.in_([part[4:] for part in books.parts(scope)])


def _in_window(head: Head, window: Window) -> Any:
    if window.period is Period.HOUR:  # a correction is in the hour of the call that it corrects (J3); a shared cost is in none
        first = t.journal.alias("first").c
        calls, called = (
            and_(c.org_id == head.org_id, c.kind == journal.USAGE, c.time_us >= window.start_us, c.time_us < window.end_us)
            for c in (J, first)
        )
        return or_(calls, J.corrects.in_(select(first.seq).where(called)))
    return and_(J.day >= window.start if window.period is not Period.LIFETIME else J.day.is_not(None), J.day < window.end)


async def load_sum(connection: AsyncConnection, head: Head, books: Books, scope: str, window: Window) -> Sum:
    """What a scope and its aliases used in a window, once the books know it."""
    wanted = [SumKey(part, window.period, window.start) for part in books.parts(scope)]
    await projections.load_sums(connection, [(head.org_id, books, wanted)])
    return books.used(scope, window.period, window.start)


async def crossed(connection: AsyncConnection, head: Head, breach: Breach) -> Json | None:
    """The entry that took a breach's window to its limit; None where none did: a cap that was set, a key that moved (C3)."""
    if breach.entry is None:
        return None
    entries = await journal.entries_at(connection, head.org_id, head.org, [breach.entry])
    return {"cap": breach.cap_id, **reports.entry_json(entries[breach.entry])} if breach.entry in entries else None


async def balance(connection: AsyncConnection, head: Head, scope: str, period: Period, at_us: int) -> Json | None:
    """A balance, and the newest of the entries that it is the sum of."""
    books = await reports.books_about(connection, head, [], [scope])
    window = window_at(period, at_us, head.zone)
    await load_sum(connection, head, books, scope, window)
    if period is Period.HOUR:
        await balances.count_hour(connection, head, books, [scope], window)
    where = and_(J.org_id == head.org_id, _of_scope(books, scope), _in_window(head, window))
    billed = func.sum(case((or_(J.kind.in_((journal.USAGE, journal.SHARED)), J.corrects.is_not(None)), J.cost), else_=0))
    query = select(func.count(), billed, func.min(J.seq), func.max(J.seq)).where(where)
    count, spent, first, last = (await connection.execute(query)).one()
    rows = await connection.execute(select(t.journal).where(where).order_by(J.seq.desc()).limit(MOST_ENTRIES))
    return {
        "balance": reports.balance_json(books, scope, window), "entries": int(count), "entries_usd": usd_text(int(spent or 0)),
        "first_seq": first, "last_seq": last, "newest": [reports.entry_json(journal.entry_of(row, head.org)) for row in rows],
        "as_of": {"seq": head.seq, "recorded_at": moment_text(head.recorded_us)},
    }  # fmt: skip


async def line(connection: AsyncConnection, head: Head, asked: Question) -> Json:
    """A line of a report: its sums, and the newest of the entries that it is the sum of."""
    sums = [row.sums async for row in report.rows(connection, head, asked)]
    count, newest = await report.entries(connection, head, asked, MOST_ENTRIES)
    entries = await journal.entries_at(connection, head.org_id, head.org, newest)
    return {
        **about(asked, head.org, head.seq, head.recorded_us), "where": [f"{only.dimension}={only.value or ''}" for only in asked.only],
        "sums": sums_json(sums[0] if sums else (0,) * len(SUM_COLUMNS)), "entries": count,
        "newest": [reports.entry_json(entries[seq]) for seq in newest],
    }  # fmt: skip


async def breach(connection: AsyncConnection, head: Head, name: str) -> Json | None:
    """A breach `CAP/ORDINAL`: as it opened, the entry that crossed, and the commands that followed."""
    cap_id, _, ordinal = name.rpartition("/")
    if not (ordinal.isascii() and ordinal.isdigit()) or len(ordinal) > 18:
        return None
    b = t.breaches.c
    query = select(t.breaches).where(b.org_id == head.org_id, b.cap_id == cap_id, b.ordinal == int(ordinal))
    row: Row[Any] | None = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    found = projections.breach_of(row)
    done = await _done(connection, head, found)
    return {
        "breach": reports.breach_json(found), "crossed": await crossed(connection, head, found),
        "done": [reports.entry_json(fact) for fact in done[:MOST_ENTRIES]], "changes": len(done),
    }  # fmt: skip


async def _done(connection: AsyncConnection, head: Head, breach: Breach) -> list[KeyStateChanged]:
    """What became of keys by a breach while it was open: also of those that came under it later, or after a person approved (K4)."""
    after = await report.seq_before(connection, head, breach.opened_us)
    until = head.seq if breach.closed_us is None else await report.seq_before(connection, head, breach.closed_us + 1)
    query = select(J.data).where(J.org_id == head.org_id, J.seq > after, J.seq <= until, J.kind.in_(("KeyStateChanged", "BreachJudged")))
    done, ended = list[KeyStateChanged](), ""
    for (data,) in await connection.execute(query.order_by(J.seq)):
        fact = decode_fact(data)
        if isinstance(fact, BreachJudged) and (fact.cap_id, fact.ordinal) == (breach.cap_id, breach.ordinal):
            ended = f"approved:{fact.by}: {fact.why}" if fact.verdict is Verdict.APPROVED else ""
        elif isinstance(fact, KeyStateChanged) and {f"cap:{breach.cap_id}", ended} & set(fact.reasons):
            done.append(fact)
    return done
