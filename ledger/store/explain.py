"""Owns explanations: a key's state, a breach or a balance, down to the entries that made it (J6)."""

from typing import Any

from sqlalchemy import Row, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import ORG, Books, SumKey
from ..core.caps import Breach, Cap, Enforce, counted
from ..core.keys import State
from ..core.levels import enforced, reasons
from ..core.money import usd_text
from ..core.questions import Question
from ..core.window import Period, Window, window_at
from ..wire.journal import decode_fact
from ..wire.report import SUM_COLUMNS, about, sums_json
from ..wire.times import moment_text
from . import balances, journal, report, reports
from . import books as projections
from . import keys as keyed
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


async def _sums(connection: AsyncConnection, head: Head, books: Books, scope: str, window: Window) -> Any:
    wanted = [SumKey(part, window.period, window.start) for part in books.parts(scope)]
    await projections.load_sums(connection, [(head.org_id, books, wanted)])
    return books.used(scope, window.period, window.start)


async def key(connection: AsyncConnection, head: Head, key_id: str, now_us: int) -> Json | None:
    """Why a key is in the state it is in, what crossed, what was done, what happened since; None if nobody knows it."""
    books = await reports.books_about(connection, head, [key_id])
    if key_id not in books.keys:
        return None
    if (older := books.keys[key_id].alias_of) is not None:  # whose state and caps are its own too (S3)
        return await key(connection, head, older, now_us)
    found, now_us = books.keys[key_id], max(now_us, head.recorded_us)
    above = [(cap, window_at(cap.rule.period, now_us, head.zone)) for cap in books.caps_above(found)]
    used = {cap.cap_id: await _sums(connection, head, books, cap.scope, window) for cap, window in above}
    opened = [breach for breach in books.breaches.values() if books.cap(breach.cap_id) in [cap for cap, _ in above]]
    stopping = set(reasons(books, found))
    facts: Json = {
        "key": key_id, "workspace": found.workspace, "state": found.state, "since": moment_text(found.changed_us),
        "for_s": (now_us - found.changed_us) // 1_000_000, "reasons": sorted(stopping), "why": [], "others": [],
        "held": found.held,
    }  # fmt: skip
    for cap, window in above:
        stops = bool({f"cap:{cap.cap_id}", f"wait:{cap.cap_id}"} & stopping)  # over its limit, by unpriced calls, or till a person resumes
        line = _cap_line(books, cap, window, used[cap.cap_id], stops=stops)
        facts["why" if stops else "others"].append(line)
    facts["crossed"] = [row for breach in opened if (row := await _crossed(connection, head, breach))]
    facts["driver"] = await _driver(connection, head, books, f"key:{key_id}", above, opened)
    facts["commands"] = await keyed.commands(connection, head, keys=[key_id], limit=3)
    facts["effect"] = await _effect(connection, head, key_id, found.changed_us) if found.state is not State.ACTIVE else None
    facts["set_by"] = [row for cap, _ in above if f"cap:{cap.cap_id}" in stopping and (row := await _setter(connection, head, cap))]
    facts["until"] = _until(books, stopping, opened, found.held)
    day = await _sums(connection, head, books, f"key:{key_id}", window_at(Period.DAY, now_us, head.zone))
    facts["unpriced_today"] = day.unpriced
    facts["as_of"] = {"seq": head.seq, "recorded_at": moment_text(head.recorded_us)}
    return facts


def _cap_line(books: Books, cap: Cap, window: Window, used: Any, *, stops: bool) -> Json:
    spent = counted(cap.rule, used)
    return {
        "cap": cap.cap_id, "scope": cap.scope, "period": cap.rule.period, "start": moment_text(window.start_us),
        "end": moment_text(window.end_us), "spent_usd": usd_text(spent), "limit_usd": usd_text(cap.rule.limit),
        "over_usd": usd_text(max(0, spent - cap.rule.limit)), "would_allow": not stops and spent < cap.rule.limit,
        "unpriced": used.unpriced, "action": cap.rule.action, "enforce": enforced(books, cap), "resume": cap.rule.resume,
    }  # fmt: skip


async def _crossed(connection: AsyncConnection, head: Head, breach: Breach) -> Json | None:
    if breach.entry is None:
        return None
    entries = await journal.entries_at(connection, head.org_id, head.org, [breach.entry])
    return {"cap": breach.cap_id, **reports.entry_json(entries[breach.entry])} if breach.entry in entries else None


async def _driver(
    connection: AsyncConnection, head: Head, books: Books, scope: str, above: list[tuple[Cap, Window]], opened: list[Breach]
) -> Json | None:
    """What most of the key's spend in the breached window shares: a session, else a model."""
    windows = [window for cap, window in above if any(breach.cap_id == cap.cap_id for breach in opened)]
    if not windows:
        return None
    where = and_(J.org_id == head.org_id, _of_scope(books, scope), _in_window(head, windows[0]), J.kind == journal.USAGE)
    whole = int(await connection.scalar(select(func.sum(J.cost)).where(where)) or 0)
    for name in ("session", "model"):
        spent = func.sum(J.cost).label("spent")
        query = select(J[name], spent).where(where, J[name].is_not(None)).group_by(J[name]).order_by(spent.desc().nulls_last()).limit(1)
        row = (await connection.execute(query)).one_or_none()
        if row is not None and whole and row.spent:
            return {"by": name, "value": row[0], "spent_usd": usd_text(int(row.spent)), "share": f"{int(row.spent) * 100 // whole}%"}
    return None


async def _effect(connection: AsyncConnection, head: Head, key_id: str, since_us: int) -> Json:
    """What the key still did after it was told to stop: calls that were in flight, or a gateway that does not obey."""
    where = and_(J.org_id == head.org_id, J.key == key_id, J.kind == journal.USAGE, J.recorded_us > since_us)
    row = (await connection.execute(select(func.count(), func.sum(J.cost), func.max(J.time_us)).where(where))).one()
    last = None if row[2] is None else moment_text(int(row[2]))
    return {"calls_after": int(row[0]), "cost_usd": usd_text(int(row[1] or 0)), "quiet_since": last}


async def _setter(connection: AsyncConnection, head: Head, cap: Cap) -> Json | None:
    """Who set the cap as it stands, and what it was before (T3)."""
    data = await connection.scalar(select(J.data).where(J.org_id == head.org_id, J.seq == cap.seq))
    fact = None if data is None else decode_fact(data)
    if fact is None:
        return None
    was = getattr(fact, "was", None)
    before = None if was is None else usd_text(was.rule.limit)
    return {"cap": cap.cap_id, "by": getattr(fact, "by", None), "at": moment_text(fact.recorded_us), "was_usd": before, "seq": cap.seq}


def _until(books: Books, stopping: set[str], opened: list[Breach], held: str | None) -> str | None:
    caps = {cap for cap in map(books.cap, (reason.partition(":")[2] for reason in stopping)) if cap is not None}
    if held is not None or any(reason.startswith("wait:") for reason in stopping) or any(cap.rule.resume == "manual" for cap in caps):
        return "a person resumes it"
    ends = [breach.end_us for breach in opened if breach.enforce is Enforce.ON and f"cap:{breach.cap_id}" in stopping]
    return moment_text(max(ends)) if ends else None


async def balance(connection: AsyncConnection, head: Head, scope: str, period: Period, at_us: int) -> Json | None:
    """A balance, and the newest of the entries that it is the sum of."""
    books = await reports.books_about(connection, head, [], [scope])
    window = window_at(period, at_us, head.zone)
    await _sums(connection, head, books, scope, window)
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
    states = select(J.data).where(J.org_id == head.org_id, J.kind == "KeyStateChanged", J.recorded_us == found.opened_us).order_by(J.seq)
    told = [decode_fact(data) for (data,) in await connection.execute(states.limit(MOST_ENTRIES))]
    done = [reports.entry_json(fact) for fact in told if f"cap:{cap_id}" in getattr(fact, "reasons", ())]
    return {"breach": reports.breach_json(found), "crossed": await _crossed(connection, head, found), "done": done}
