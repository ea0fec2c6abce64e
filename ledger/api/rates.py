"""Owns the rate card over HTTP: read only; it is changed by whoever runs this ledger, with `ledger rates`."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from ..core.money import usd_text
from ..core.rates import Origin
from ..core.window import Period, window_at
from ..store import rates
from .auth import Caller, OrgReader, allow
from .problems import RESPONSES
from .reading import found, snapshot
from .routes import ExactRoute
from .values import Cursor, Limit, OrgId, decode_cursor, encode_cursor

router = APIRouter(tags=["rates"], route_class=ExactRoute)


class Rate(BaseModel):
    """What a model costs from an instant on. `provider` null: wherever it runs; `starts_at` null: from the beginning."""

    provider: str | None
    model: str
    origin: Origin
    starts_at: str | None
    version: int
    usd_per_million: dict[str, str]
    usd_each: dict[str, str]
    tiers: list[dict[str, Any]]
    batch: dict[str, Any] | None


class Rates(BaseModel):
    """A page of the card."""

    version: int
    rates: list[Rate]
    cursor: str | None


class Drift(BaseModel):
    """How far a model's reported costs are from the card's prices."""

    model: str | None
    provider: str | None
    calls: int
    drifted: int
    reported_usd: str
    computed_usd: str


class Drifts(BaseModel):
    """Drift by model, the most money apart first."""

    percent: int
    drift: list[Drift]


@router.get("/v1/rates", responses=RESPONSES)
async def list_rates(
    request: Request, caller: Caller, model: Annotated[str, Query(max_length=256, description="part of a model's name")] = "",
    version: Annotated[int | None, Query(ge=0, le=2**53, description="as the card stood at this version")] = None,
    limit: Limit = 100, cursor: Cursor = None,
) -> Rates:  # fmt: skip
    """The rates that price calls whose gateway says no cost."""
    allow(caller, "read", caller.org)
    after = int(decode_cursor(cursor, int) or 0)
    async with snapshot(request) as connection:
        newest = await rates.newest(connection)
        listed = await rates.listed(connection, version, model=model)
    shown = [rates.rate_json(rate) for rate in listed[after : after + limit]]
    more = encode_cursor(after + limit) if len(listed) > after + limit else None
    now = newest.version if newest is not None else 0
    return Rates.model_validate({"version": now if version is None else version, "rates": shown, "cursor": more})


@router.get("/v1/orgs/{org}/drift", responses=RESPONSES)
async def get_drift(
    request: Request, org: OrgId, caller: OrgReader,
    days: Annotated[int, Query(ge=1, le=3660, description="how far back")] = 30,
    percent: Annotated[int, Query(ge=0, le=1000, description="how far apart counts")] = 5,
) -> Drifts:  # fmt: skip
    """Where the reported costs of calls and the card's prices for them are apart, by model."""
    async with snapshot(request) as connection:
        head = await found(connection, org)
        today = window_at(Period.DAY, max(request.app.state.service.clock(), head.recorded_us), head.zone).start
        rows = await rates.drift(connection, head.org_id, today - days + 1, percent)
    shown = [row | {f"{name}_usd": usd_text(int(str(row[name]))) for name in ("reported", "computed")} for row in rows]
    return Drifts.model_validate({"percent": percent, "drift": shown})
