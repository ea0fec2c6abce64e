"""Owns why a key is in the state it is in and until when: whatever stops it, what crossed, what was done, what happened since (J6)."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import Books
from ..core.caps import Action, Breach, Cap, Kind, Resume, counted, level
from ..core.entries import KeyStateChanged
from ..core.keys import Key, State
from ..core.levels import action_of, enforced, reasons
from ..core.money import usd_text
from ..core.questions import Dimension
from ..core.questions import Kind as By
from ..core.window import FOREVER_US, Period, Window, window_at
from ..wire.journal import decode_fact
from ..wire.times import moment_text
from . import balances, journal, lines, report, reports
from . import keys as keyed
from . import tables as t
from .explain import crossed, load_sum
from .inbox import SUPERSEDED
from .reports import Head, Json

J = t.journal.c
MOST_COMMANDS = 100
_DRIVERS = (Dimension(By.SESSION), Dimension(By.MODEL))


class Above(NamedTuple):
    """A cap that stops a key: the window that it is explained by, and its open breaches.

    That is the window that contains now, but for a breach that has ended and was not closed yet, whose own it is."""

    cap: Cap
    window: Window
    open: list[Breach]

    @property
    def acting(self) -> list[Breach]:
        """The breaches that stop the key, if the cap is enforced."""
        return [breach for breach in self.open if breach.acts and action_of(self.cap, breach.kind) is not Action.ALERT]


async def key(connection: AsyncConnection, head: Head, name: str, now_us: int) -> Json | None:
    """Why a key is in the state it is in, by any of its names (S1); None if nobody knows it."""
    books = await reports.books_about(connection, head, [name])
    if name not in books.keys:
        owner = await keyed.owner_of(connection, head, name)
        return None if owner == name else await key(connection, head, owner, now_us)
    if (older := books.keys[name].alias_of) is not None:  # whose state and caps are its own too (S3)
        return await key(connection, head, older, now_us)
    found, now_us = books.keys[name], max(now_us, head.recorded_us)
    above = [_above(books, cap, now_us) for cap in books.caps_above(found)]
    stopping = set(reasons(books, found))
    facts: Json = {
        "key": name, "workspace": found.workspace, "state": found.state, "since": moment_text(found.changed_us),
        "for_s": (now_us - found.changed_us) // 1_000_000, "revision": found.revision, "reasons": sorted(stopping), "why": [], "others": [],
        "held": found.held, "leaking": found.leaking, "turned": await _turned(connection, head, found),
    }  # fmt: skip
    for one in above:
        await load_sum(connection, head, books, one.cap.scope, one.window)
        stops = bool({f"cap:{one.cap.cap_id}", f"wait:{one.cap.cap_id}"} & stopping)
        facts["why" if stops else "others"].append(_cap_line(books, one, f"wait:{one.cap.cap_id}" in stopping, stops=stops))
    facts["crossed"] = [row for one in above for breach in one.open if (row := await crossed(connection, head, breach))]
    facts["driver"] = await _driver(connection, head, books, f"key:{name}", next((one.window for one in above if one.open), None))
    facts["commands"] = await _commands(connection, head, found)
    facts["effect"] = await _effect(connection, head, found) if found.state is not State.ACTIVE else None
    named = {reason.partition(":")[2] for reason in stopping if not reason.startswith("held:")}
    setters = [await _setter(connection, head, one.cap) for one in above if one.cap.cap_id in named]
    facts["set_by"] = [row for row in setters if row is not None]
    facts["until"] = _until(found, stopping, [one for one in above if f"cap:{one.cap.cap_id}" in stopping], now_us)
    day = await load_sum(connection, head, books, f"key:{name}", window_at(Period.DAY, now_us, head.zone))
    facts["unpriced_today"] = day.unpriced
    facts["as_of"] = {"seq": head.seq, "recorded_at": moment_text(head.recorded_us)}
    return facts


def _above(books: Books, cap: Cap, now_us: int) -> Above:
    found = [breach for kind in Kind if (breach := books.breaches.get((cap.cap_id, kind))) is not None]
    at_us = min([now_us, *(breach.end_us - 1 for breach in found)])
    return Above(cap, window_at(cap.rule.period, at_us, books.zone), found)


def _cap_line(books: Books, one: Above, waiting: bool, *, stops: bool) -> Json:
    cap, window = one.cap, one.window
    used = books.used(cap.scope, window.period, window.start)
    spent, reached = counted(cap.rule, used), [kind for kind in Kind if level(cap.rule, kind, used)]
    asks = [{"breach": f"{b.cap_id}/{b.ordinal}", "kind": b.kind, "waits": b.waits, "verdict": b.verdict} for b in one.open]
    return {
        "cap": cap.cap_id, "scope": cap.scope, "period": cap.rule.period, "start": moment_text(window.start_us),
        "end": moment_text(window.end_us), "spent_usd": usd_text(spent), "limit_usd": usd_text(cap.rule.limit),
        "over_usd": usd_text(max(0, spent - cap.rule.limit)), "would_allow": not stops and not reached, "reached": reached,
        "unpriced": used.unpriced, "action": cap.rule.action, "enforce": enforced(books, cap), "resume": cap.rule.resume,
        "waiting": waiting, "breaches": asks,
    }  # fmt: skip


async def _turned(connection: AsyncConnection, head: Head, found: Key) -> Json | None:
    """The entry by which a key came into its state, with the reasons of then; None for one that never left its first."""
    after = await report.seq_before(connection, head, found.changed_us)
    query = select(J.data).where(J.org_id == head.org_id, J.seq > after, J.kind == "KeyStateChanged", J.recorded_us == found.changed_us)
    until = await report.seq_before(connection, head, found.changed_us + 1)
    for (data,) in await connection.execute(query.where(J.seq <= until).order_by(J.seq.desc())):
        fact = decode_fact(data)
        if isinstance(fact, KeyStateChanged) and (fact.key, fact.state) == (found.key_id, found.state):
            return {"seq": fact.seq, "by": fact.by, "reasons": list(fact.reasons)}
    return None


async def _driver(connection: AsyncConnection, head: Head, books: Books, scope: str, window: Window | None) -> Json | None:
    """What most of the key's spend in the breached window shares, corrections with it: a session, else the model of most of it."""
    if window is None:
        return None
    ever, hours = window.period is Period.LIFETIME, window.period is Period.HOUR
    after = 0 if ever else await report.seq_before(connection, head, window.start_us - report.EARLY_US)
    span = await lines.span(connection, head.org_id, head.zone, after, head.seq)
    bounds = (window.start_us, window.end_us) if hours else (window.start, window.end)
    within = None if ever else lines.Range(*bounds, hours)
    line = union_all(*lines.journal_lines(span, (*balances.PARTS, *_DRIVERS), within)).subquery("lines").c
    mine, spent = balances.counts_for(books, scope, line), func.sum(line.spent).label("spent")
    whole = int(await connection.scalar(select(spent).where(mine)) or 0)
    for one in _DRIVERS:
        value = line[lines.name_of(one)]
        query = select(value, spent).where(mine, value != "").group_by(value).order_by(spent.desc()).limit(1)
        row = (await connection.execute(query)).first()
        most = row is not None and (one.kind is not By.SESSION or int(row.spent) * 2 >= whole)
        if row is not None and most and whole > 0 and row.spent:
            share = f"{int(row.spent) * 100 // whole}%"
            return {"by": one.kind, "value": row[0], "spent_usd": usd_text(int(row.spent)), "share": share}
    return None


async def _commands(connection: AsyncConnection, head: Head, found: Key) -> list[Json]:
    """What every gateway was told of what is wanted now, under each of the key's names; nothing while that was not handed on."""
    rows = await keyed.commands(connection, head, keys=[found.key_id], limit=MOST_COMMANDS)
    return [row for row in rows if row["revision"] == found.revision and row["delivery"] != SUPERSEDED]


async def _effect(connection: AsyncConnection, head: Head, found: Key) -> Json:
    """What the key still did after it was told to stop: calls that were in flight, or a gateway that does not obey; their corrections
    with them. A call of before that came late is none of them (W2)."""
    since_us = found.changed_us
    after = and_(J.org_id == head.org_id, J.seq > await report.seq_before(connection, head, since_us + 1))
    calls = and_(after, J.key == found.key_id, J.kind == journal.USAGE, J.time_us > since_us)
    count, cost, last_us = (await connection.execute(select(func.count(), func.sum(J.cost), func.max(J.time_us)).where(calls))).one()
    fix = t.journal.alias("fix").c
    corrected = select(func.sum(fix.cost)).join(t.journal, and_(J.org_id == fix.org_id, J.seq == fix.corrects))
    fixed = await connection.scalar(corrected.where(fix.org_id == head.org_id, calls))
    quiet = None if last_us is None else moment_text(int(last_us))
    return {"calls_after": int(count), "cost_usd": usd_text(int(cost or 0) + int(fixed or 0)), "quiet_since": quiet}


async def _setter(connection: AsyncConnection, head: Head, cap: Cap) -> Json | None:
    """Who set the cap as it stands, and what it was before (T3)."""
    data = await connection.scalar(select(J.data).where(J.org_id == head.org_id, J.seq == cap.seq))
    fact = None if data is None else decode_fact(data)
    if fact is None:
        return None
    was = getattr(fact, "was", None)
    before = None if was is None else usd_text(was.rule.limit)
    return {"cap": cap.cap_id, "by": getattr(fact, "by", None), "at": moment_text(fact.recorded_us), "was_usd": before, "seq": cap.seq}


def _until(found: Key, stopping: set[str], above: Sequence[Above], now_us: int) -> str | None:
    """What has to happen before the key comes back, all of it; None for one that is not stopped."""
    if found.state is State.REVOKED:
        return "never: revoked is final"
    waits = found.held is not None or any(reason.startswith("wait:") for reason in stopping)
    manual = any(one.cap.rule.resume is Resume.MANUAL for one in above)
    steps, ends = ["a person resumes it"] if waits or manual else [], list[int]()
    for one in above:
        for breach in one.acting:
            if breach.kind is Kind.SPEND and (one.cap.rule.limit == 0 or breach.end_us == FOREVER_US):  # each new window has reached it
                steps.append(f"the limit of {one.cap.cap_id} is raised")
            elif breach.end_us == FOREVER_US:
                steps.append(f"the unpriced calls under {one.cap.cap_id} have a price")
            else:
                ends.append(breach.end_us)
    if ends:
        text = moment_text(max(ends)) or ""
        steps.append(text if max(ends) > now_us else f"the next pulse: {text} has passed")
    return ", and not before ".join([steps[0], " and ".join(steps[1:])] if steps[1:] else steps) or None
