"""Owns adjustments (J3) and shared costs over HTTP: money that is booked by a person, each request once (J2)."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from ..core import commands as c
from ..core.commands import Result, Status
from ..core.money import Nanos
from ..wire.identity import own_identity
from .auth import Admin
from .models import Given, Text
from .problems import CHANGES, Problem, accept
from .routes import ExactRoute
from .values import Day, Id, OrgId, Usd, read_usd

router = APIRouter(route_class=ExactRoute)
IdempotencyKey = Annotated[str, Header(min_length=1, max_length=128, description="sent again, nothing is booked twice (J2)")]


def _difference(value: Any) -> int:
    """An amount that may be below zero."""
    text = str(value) if not isinstance(value, bool) else ""
    return -read_usd(text[1:]) if text.startswith("-") else read_usd(value)


Difference = Annotated[
    int, BeforeValidator(_difference), WithJsonSchema({"type": "string", "description": "US dollars, decimal text", "example": "-0.30"})
]


class AdjustmentGiven(Given):
    """What an entry should have cost, or by how much that differs from what it does (J3)."""

    entry: Annotated[int, Field(ge=1, le=2**53)]
    cost_usd: Usd | None = None
    amount_usd: Difference | None = None
    reason: Text


class SharedCostGiven(Given):
    """A cost that no key made. `over`: workspaces, or workspaces with their weights; `day`: default today."""

    amount_usd: Usd
    how: c.How
    over: Annotated[dict[Id, Annotated[int, Field(ge=-(2**31), lt=2**31)]] | list[Id], Field(max_length=1000)]
    day: Day | None = None
    reason: Text


class Booked(BaseModel):
    """What became of it, and the entry that it is."""

    status: str
    seq: int | None


def _booked(result: Result, what: str) -> Booked:
    if accept(result).status is Status.EXISTS_WITH_DIFFERENT_CONTENT:
        raise Problem(409, f"Idempotency-Key: was used for another {what}", "Idempotency-Key")
    return Booked(status=result.status, seq=result.seq)


@router.post("/v1/orgs/{org}/adjustments", tags=["adjustments"], responses=CHANGES)
async def post_adjustment(request: Request, org: OrgId, body: AdjustmentGiven, caller: Admin, idempotency_key: IdempotencyKey) -> Booked:
    """Corrects what an entry of usage cost, in that entry's own window: to `cost_usd`, or by `amount_usd` (J3, M4)."""
    if (body.cost_usd is None) == (body.amount_usd is None):
        raise Problem(422, "cost_usd: say either this or amount_usd", "cost_usd")
    cost = None if body.cost_usd is None else Nanos(body.cost_usd)
    digest = own_identity(org, "http:adjustments", idempotency_key)
    order = c.CorrectUsage(
        org=org, by=caller.name, digest=digest, entry=body.entry, cost=cost, difference=body.amount_usd, why=body.reason
    )  # fmt: skip
    return _booked((await request.app.state.service.record([order]))[0], "adjustment")


@router.post("/v1/orgs/{org}/shared-costs", tags=["adjustments"], responses=CHANGES)
async def post_shared_cost(request: Request, org: OrgId, body: SharedCostGiven, caller: Admin, idempotency_key: IdempotencyKey) -> Booked:
    """Shares a cost out over workspaces, evenly, by weight, or by what each spent in the month; exact to the nano."""
    over = tuple(body.over.items()) if isinstance(body.over, dict) else tuple((name, 0) for name in body.over)
    order = c.ShareCost(
        org=org, by=caller.name, digest=own_identity(org, "http:shared-costs", idempotency_key),
        amount=Nanos(body.amount_usd), how=body.how, over=over, day=body.day, why=body.reason,
    )  # fmt: skip
    return _booked((await request.app.state.service.record([order]))[0], "shared cost")
