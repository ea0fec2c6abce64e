"""Owns what the gauges of the books are read from: a few counts and sums over all orgs, bounded however many keys there are."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.books import ORG
from ..core.caps import Guardrail
from ..core.window import HOUR_US, Period, next_first_day, window_at
from . import tables as t
from .books import guardrail_of
from .bulk import chunks
from .heard import silent
from .inbox import FAILED, OPEN
from .rates import age_us

DAY_US = 24 * HOUR_US
MOST_ORGS = 100
MOST_SILENT = 32
MOST_NAMED = 5  # orgs in a sentence
OTHER = "other"


class OrgWindow(NamedTuple):
    """An org's spend (nano-USD) in the window of a period that contains now, with the lowest limit that a cap of the org sets
    for it, and when it ends. Lifetimes, which have neither rate nor end, are left out."""

    org: str
    period: Period
    spent: int
    limit: int | None
    end_us: int


class Now(NamedTuple):
    """What changes by the second. Ages are of the oldest, as the microseconds since 1970 at which it began; None for none.

    Attributes:
      breaches: open ones by (action, enforce). commands: by delivery state. parked: by reason.
      windows: the orgs that spent most this month, by name, and every period a cap of theirs is for; the rest as `other`.
      refused: commands for the present state of a key that a gateway refused.
      leaking: keys that spend though their pause was confirmed (K6).
      card_age_us: how long ago a price list was last taken in. silent: how many connections fell silent against their own rhythm.
      silences: (org, connection) → since when, of those that are silent the longest.
      latest: (org, time of its latest usage) of the same orgs.
    """

    orgs: int
    entries: int
    breaches: dict[tuple[str, str], int]
    outbox: int
    outbox_since_us: int | None
    commands: dict[str, int]
    command_since_us: int | None
    refused: int
    parked: dict[str, int]
    leaking: int
    card_age_us: int | None
    silent: int
    silences: dict[tuple[str, str], int]
    windows: list[OrgWindow]
    latest: list[tuple[str, int]]


class Slow(NamedTuple):
    """What takes a look at every key: keys by state, keys under no cap (S5), orgs whose day doesn't add up (M7)."""

    keys: dict[str, int]
    uncapped: int
    drift: int


async def read_now(connection: AsyncConnection, now_us: int) -> Now:
    """Reads what changes by the second."""
    orgs, entries = (await connection.execute(select(func.count(), func.sum(t.orgs.c.seq)).where(t.orgs.c.seq > 0))).one()
    b, c, p = t.breaches.c, t.commands.c, t.parked.c
    opened = select(b.action, b.enforce, func.count()).where(b.closed_us.is_(None)).group_by(b.action, b.enforce)
    first = select(t.outbox.c.org_id, func.min(t.outbox.c.seq).label("seq")).group_by(t.outbox.c.org_id).subquery()
    place = and_(t.journal.c.org_id == first.c.org_id, t.journal.c.seq == first.c.seq)
    windows, latest = await _windows(connection, now_us)
    silences = await silent(connection, now_us)
    return Now(
        orgs=orgs,
        entries=int(entries or 0),
        breaches={(action, enforce): count for action, enforce, count in await connection.execute(opened)},
        outbox=int(await connection.scalar(select(func.count()).select_from(t.outbox)) or 0),
        outbox_since_us=await connection.scalar(select(func.min(t.journal.c.recorded_us)).select_from(first).join(t.journal, place)),
        commands=await _counts(connection, c.delivery),
        command_since_us=await connection.scalar(select(func.min(c.created_us)).where(c.delivery.in_(OPEN))),
        refused=int(await connection.scalar(select(func.count()).select_from(_refused().subquery())) or 0),
        parked=await _counts(connection, p.reason),
        leaking=int(await connection.scalar(select(func.count()).select_from(t.keys).where(t.keys.c.leaking)) or 0),
        card_age_us=await age_us(connection, now_us),
        silent=len(silences),
        silences=dict(sorted(silences.items(), key=lambda item: (item[1], item[0]))[:MOST_SILENT]),
        windows=windows,
        latest=latest,
    )


async def troubled(connection: AsyncConnection) -> dict[str, list[str]]:
    """The first orgs by name with commands that were `refused`, and with keys that are `leaking`."""
    whose = {"refused": _refused(), "leaking": select(t.keys.c.org_id).where(t.keys.c.leaking)}
    return {trouble: await first_orgs(connection, orgs) for trouble, orgs in whose.items()}


async def first_orgs(connection: AsyncConnection, orgs: Select[tuple[int]]) -> list[str]:
    """The first by name of some orgs, which are given by their ids."""
    query = select(t.orgs.c.org).where(t.orgs.c.org_id.in_(orgs)).order_by(t.orgs.c.org).limit(MOST_NAMED)
    return list(await connection.scalars(query))


def _refused() -> Select[tuple[int]]:
    """The org of each command for a key's present state, at a connection that is still there, that was refused: older ones matter
    no more."""
    c, k, w = t.commands.c, t.keys.c, t.connections.c
    present = and_(k.org_id == c.org_id, k.key_id == c.key, k.revision == c.revision, not_(k.deleted))
    there = and_(w.org_id == c.org_id, w.connection_id == c.connection)
    return select(c.org_id).join(t.keys, present).join(t.connections, there).where(c.delivery == FAILED)


async def _counts(connection: AsyncConnection, column: ColumnElement[Any]) -> dict[str, int]:
    return {name: count for name, count in await connection.execute(select(column, func.count()).group_by(column))}


async def _windows(connection: AsyncConnection, now_us: int) -> tuple[list[OrgWindow], list[tuple[str, int]]]:
    """The current windows of the orgs that spent most this month, what all the others spent as one, and when they were heard."""
    o = t.orgs.c
    query = select(o.org_id, o.org, o.zone, o.recorded_us, o.latest_us).where(o.seq > 0).order_by(o.org)
    orgs = (await connection.execute(query)).all()
    limits = await _limits(connection)
    by_start: dict[tuple[Period, int], dict[int, OrgWindow]] = defaultdict(dict)
    for org in orgs:
        for period in {Period.DAY, Period.MONTH, *limits[org.org_id]}:
            window = window_at(period, max(now_us, org.recorded_us), org.zone)
            limit = limits[org.org_id].get(period)
            by_start[period, window.start][org.org_id] = OrgWindow(org.org, period, 0, limit, window.end_us)
    found: list[OrgWindow] = []
    for (period, start), windows in by_start.items():
        sums = await _org_sums(connection, period, start, list(windows))
        found += [window._replace(spent=sums.get(org_id, 0)) for org_id, window in windows.items()]
    month = {window.org: window.spent for window in found if window.period is Period.MONTH}
    shown = set(sorted(month, key=lambda org: (-month[org], org))[:MOST_ORGS])
    heard = [(org.org, org.latest_us) for org in orgs if org.org in shown and org.latest_us]
    return [window for window in found if window.org in shown] + _others(found, shown), heard


def _others(windows: Sequence[OrgWindow], shown: set[str]) -> list[OrgWindow]:
    rest: dict[Period, int] = defaultdict(int)
    for window in windows:
        if window.org not in shown:
            rest[window.period] += window.spent
    return [OrgWindow(OTHER, period, spent, None, 0) for period, spent in sorted(rest.items())]


async def _limits(connection: AsyncConnection) -> defaultdict[int, dict[Period, int]]:
    """The lowest limit of the caps on each org itself, by period."""
    c = t.caps.c
    query = (
        select(c.org_id, c.period, func.min(c.limit_nanos)).where(c.scope == ORG, c.period != Period.LIFETIME).group_by(c.org_id, c.period)
    )
    found: defaultdict[int, dict[Period, int]] = defaultdict(dict)
    for org_id, period, limit in await connection.execute(query):
        found[org_id][Period(period)] = int(limit)
    return found


async def _org_sums(connection: AsyncConnection, period: Period, start: int, org_ids: Sequence[int]) -> dict[int, int]:
    table, column = (t.hours, t.hours.c.hour_us) if period is Period.HOUR else (t.days, t.days.c.day)
    end = start + 1 if period is Period.HOUR else next_first_day(period, start)
    found: dict[int, int] = {}
    for part in chunks(org_ids):
        query = select(table.c.org_id, func.sum(table.c.spent)).where(table.c.org_id.in_(part), table.c.scope == ORG)
        query = query.where(column >= start, column < end)
        found |= {org_id: int(spent) for org_id, spent in await connection.execute(query.group_by(table.c.org_id))}
    return found


async def read_slow(connection: AsyncConnection, now_us: int) -> Slow:
    """Reads what takes a look at every key."""
    k = t.keys.c
    by_state = select(k.state, func.count()).where(_stands()).group_by(k.state)
    keys = {state: count for state, count in await connection.execute(by_state)}
    return Slow(keys, await _uncapped(connection), await _drift(connection, now_us))


def _stands() -> ColumnElement[bool]:
    return and_(t.keys.c.alias_of.is_(None), not_(t.keys.c.deleted))


async def _uncapped(connection: AsyncConnection) -> int:
    """How many keys no cap stops: none on the key, its workspace or its org, by itself or from a guardrail (C9, S5)."""
    k, c, g = t.keys.c, t.caps.c, t.guardrails.c
    capped_orgs = set(await connection.scalars(select(c.org_id).where(c.scope == ORG).distinct()))
    on_homes = await connection.execute(select(c.org_id, c.scope).where(c.scope.like("workspace:%")).distinct())
    capped_homes = {(org_id, scope.partition(":")[2]) for org_id, scope in on_homes}
    rails: defaultdict[int, list[Guardrail]] = defaultdict(list)
    for row in await connection.execute(select(t.guardrails).order_by(g.guardrail_id)):
        rails[row.org_id].append(guardrail_of(row))
    own = exists().where(c.org_id == k.org_id, c.scope == literal("key:").concat(k.key_id))
    query = select(k.org_id, k.workspace, func.count()).where(_stands(), ~own).group_by(k.org_id, k.workspace)
    bare = 0
    for org_id, home, count in await connection.execute(query):
        if org_id in capped_orgs or (org_id, home) in capped_homes:
            continue
        covering = [rail for rail in rails[org_id] if rail.covers_workspace(home)]
        if any(rail.each == "workspace" for rail in covering):
            continue
        excepted = set.intersection(*(set(rail.except_) for rail in covering if rail.each == "key")) if covering else None
        bare += count if excepted is None else await _among(connection, org_id, home, excepted, ~own)
    return bare


async def _among(connection: AsyncConnection, org_id: int, home: str, ids: set[str], also: ColumnElement[bool]) -> int:
    """How many of these are keys of a workspace, and `also`."""
    k = t.keys.c
    query = select(func.count()).select_from(t.keys).where(k.org_id == org_id, k.workspace == home, _stands(), also)
    return sum([int(await connection.scalar(query.where(k.key_id.in_(part))) or 0) for part in chunks(sorted(ids))])


async def _drift(connection: AsyncConnection, now_us: int) -> int:
    """In how many orgs today's spend is not the sum of its workspaces', or of its keys' (M7). Looked up by primary key."""
    d, w, k, o = t.days.c, t.workspaces.c, t.keys.c, t.orgs.c
    today = now_us // DAY_US
    sums: dict[str, Counter[int]] = defaultdict(Counter)
    for kind, table, org_id, scope in (
        ("org", t.orgs, o.org_id, literal(ORG)),
        ("workspace", t.workspaces, w.org_id, literal("workspace:").concat(w.workspace_id)),
        ("key", t.keys, k.org_id, literal("key:").concat(k.key_id)),
        ("key", t.orgs, o.org_id, literal("key:")),  # what no key made: shared costs
    ):
        row = and_(d.org_id == org_id, d.scope == scope, d.day == today)
        query = select(org_id, func.sum(d.spent + d.byok)).select_from(table).join(t.days, row).group_by(org_id)
        sums[kind].update({org: int(spent) for org, spent in await connection.execute(query)})
    whole, workspaces, keys = sums["org"], sums["workspace"], sums["key"]
    return sum(not whole[org] == workspaces[org] == keys[org] for org in {*whole, *workspaces, *keys})
