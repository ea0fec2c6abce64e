"""Owns the rate card's rows. A version adds rates and may end others; no row is ever changed otherwise, so that the version
that priced an entry can be read as it stood."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
from sqlalchemy import and_, case, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.rates import BY_THE_PIECE, Card, Origin, Prices, Rate, Schedule
from ..wire.times import moment_text
from .bulk import insert_rows
from .tables import journal, rate_cards, rates

_encode = msgspec.json.Encoder(decimal_format="string").encode
_decode = msgspec.json.Decoder(Schedule).decode


class Version(NamedTuple):
    """A version of the card: when, by whom and from where it came. 0 is the empty card."""

    version: int
    created_us: int
    by: str
    origin: str


class Changes(NamedTuple):
    """What a list or an operator changes: rates that are new, and rates (was, now) that begin or stand in another's place."""

    added: list[Rate]
    changed: list[tuple[Rate, Rate]]
    same: int


async def newest(connection: AsyncConnection) -> Version | None:
    """The version that prices now; None while there is no card."""
    row = (await connection.execute(select(rate_cards).order_by(rate_cards.c.version.desc()).limit(1))).one_or_none()
    return None if row is None else Version(*row)


async def listed(connection: AsyncConnection, version: int | None = None, origin: Origin | None = None, model: str = "") -> list[Rate]:
    """The rates of a version (None: the newest), sorted; `model`: only those whose name contains it."""
    c = rates.c
    until = c.until_version.is_(None) if version is None else or_(c.until_version.is_(None), c.until_version > version)
    query = select(rates).where(until).order_by(c.model, c.provider, c.origin, c.starts_us)
    if version is not None:
        query = query.where(c.version <= version)
    if origin is not None:
        query = query.where(c.origin == str(origin))
    if model:
        query = query.where(c.model.contains(model.lower(), autoescape=True))
    return [
        Rate(
            provider=row.provider or None, model=row.model, origin=Origin(row.origin), starts_us=row.starts_us, version=row.version,
            standard=_decode(row.standard), batch=None if row.batch is None else _decode(row.batch),
        )
        for row in await connection.execute(query)
    ]  # fmt: skip


async def card(connection: AsyncConnection) -> Card:
    """The card that prices now; an empty one at version 0 while there is none."""
    now = await newest(connection)
    return Card(0, ()) if now is None else Card(now.version, await listed(connection))


async def changes(connection: AsyncConnection, wanted: Iterable[Rate], origin: Origin, now_us: int) -> Changes:
    """What a list would change. A model that it does not name keeps its rates: old usage still needs them.

    A price that a list dates holds from then on. One that it does not date holds from the beginning where the model has none
    yet, and from now on where another is in force: what was spent before has its old price.
    """
    standing: dict[tuple[str | None, str], dict[int, Rate]] = defaultdict(dict)
    for rate in await listed(connection, origin=origin):
        standing[rate.provider, rate.model][rate.starts_us] = rate
    wishes: dict[tuple[str | None, str], dict[int, Rate]] = defaultdict(dict)
    for rate in wanted:
        wishes[rate.provider, rate.model][rate.starts_us] = rate
    found = Changes([], [], 0)
    for name, dated in wishes.items():
        ours, same = standing.get(name, {}), 0
        for starts_us, rate in dated.items():
            at = _place(ours, dated, starts_us, now_us)
            before = ours.get(at) or (_in_force(ours, now_us) if at == now_us else None)
            if before is not None and (before.standard, before.batch) == (rate.standard, rate.batch):
                same += 1
            elif before is not None:
                found.changed.append((before, msgspec.structs.replace(rate, starts_us=at)))
            else:
                found.added.append(msgspec.structs.replace(rate, starts_us=at))
        found = found._replace(same=found.same + same)
    return found


def _place(ours: dict[int, Rate], wished: dict[int, Rate], starts_us: int, now_us: int) -> int:
    """From when on a wished rate is to hold."""
    if starts_us or _in_force(ours, now_us) is None:
        return starts_us
    later = [at for at in wished if 0 < at <= now_us]
    return 0 if later else now_us  # with a dated successor it is history, and stays where it was


def _in_force(ours: dict[int, Rate], now_us: int) -> Rate | None:
    starts = max((at for at in ours if at <= now_us), default=None)
    return None if starts is None else ours[starts]


async def put(connection: AsyncConnection, found: Changes, origin: Origin, by: str, now_us: int) -> int:
    """Makes a version of the card with these changes; its number. Without any, the one that stands."""
    stands = await newest(connection)
    version = stands.version if stands is not None else 0
    wanted = [*found.added, *(now for _, now in found.changed)]
    if not wanted:
        return version
    version += 1
    await connection.execute(insert(rate_cards).values(version=version, created_us=now_us, by=by, origin=str(origin)))
    ended = [was for was, now in found.changed if was.starts_us == now.starts_us]
    await _end(connection, ended, version)
    await insert_rows(connection, rates, [_row(rate, version) for rate in wanted])
    return version


async def _end(connection: AsyncConnection, ended: Sequence[Rate], version: int) -> None:
    c = rates.c
    for rate in ended:
        place = and_(c.provider == (rate.provider or ""), c.model == rate.model, c.origin == str(rate.origin), c.version == rate.version)
        await connection.execute(update(rates).where(place, c.starts_us == rate.starts_us).values(until_version=version))


def _row(rate: Rate, version: int) -> tuple[object, ...]:
    standard, batch = _encode(rate.standard).decode(), None if rate.batch is None else _encode(rate.batch).decode()
    return (version, rate.provider or "", rate.model, str(rate.origin), rate.starts_us, standard, batch, None)


async def age_us(connection: AsyncConnection, now_us: int) -> int | None:
    """How long ago a list was last taken in; None if none ever was."""
    lists = rate_cards.c.origin != str(Origin.OPERATOR)
    last = await connection.scalar(select(func.max(rate_cards.c.created_us)).where(lists))
    return None if last is None else now_us - int(last)


async def drift(connection: AsyncConnection, org_id: int, since_day: int, percent: int) -> list[dict[str, object]]:
    """By model and provider, calls that have both a reported and a computed cost, and how many of them differ by more than a
    share of what was computed; the most money apart first. Amounts in nano-USD."""
    c = journal.c
    apart = func.abs(c.cost - c.computed)
    query = select(
        c.model, c.provider, func.count().label("calls"), func.sum(case((apart * 100 > c.computed * percent, 1), else_=0)).label("drifted"),
        func.sum(c.cost).label("reported"), func.sum(c.computed).label("computed"),
    )  # fmt: skip
    query = query.where(c.org_id == org_id, c.day >= since_day, c.cost_text.is_not(None), c.computed.is_not(None))
    rows = await connection.execute(query.group_by(c.model, c.provider).order_by(func.sum(apart).desc(), c.model, c.provider))
    return [{name: int(value) if name not in ("model", "provider") else value for name, value in row._mapping.items()} for row in rows]


def rate_json(rate: Rate) -> dict[str, object]:
    """A rate as people read it: tokens by the million, the rest by the piece."""
    starts = None if not rate.starts_us else moment_text(rate.starts_us)
    return {
        "provider": rate.provider, "model": rate.model, "origin": rate.origin, "starts_at": starts, "version": rate.version,
        **_schedule_json(rate.standard), "batch": None if rate.batch is None else _schedule_json(rate.batch),
    }  # fmt: skip


def _schedule_json(schedule: Schedule) -> dict[str, object]:
    tiers = [{"above_input_tokens": tier.above, **_prices_json(tier.prices)} for tier in schedule.tiers]
    return {**_prices_json(schedule.base), "tiers": tiers}


def _prices_json(prices: Prices) -> dict[str, object]:
    said = {name: value for name in Prices.__struct_fields__ if (value := getattr(prices, name)) is not None}
    return {
        "usd_per_million": {name: _plain(value.scaleb(6)) for name, value in said.items() if name not in BY_THE_PIECE},
        "usd_each": {name: _plain(value) for name, value in said.items() if name in BY_THE_PIECE},
    }


def _plain(value: Decimal) -> str:
    return f"{value.normalize():f}"
