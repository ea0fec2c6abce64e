"""Owns `GET /v1/orgs/{org}/connections/{connection}/reconcile`: a gateway's own figures against ours, asked of it now."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from ..accounts import DAY_US, connections_of, opener, reconcile
from ..core.matching import DayVerdict, Line
from ..core.money import usd_text
from ..core.window import date_of
from ..gateways.gateway import GatewayRefused, GatewayUnavailable
from .auth import Admin
from .problems import RESPONSES, Problem
from .reading import found, snapshot
from .routes import ExactRoute
from .values import Day, OrgId, PathId

MOST_DAYS = 92
router = APIRouter(tags=["connections"], route_class=ExactRoute)


class Compared(BaseModel):
    """A key's UTC day: what its gateway counted, and what we did."""

    day: str
    key: str
    verdict: DayVerdict
    theirs_usd: str
    ours_usd: str
    requests: int


class Reconciled(BaseModel):
    """How many days of keys compare how, and those that do not match."""

    counts: dict[DayVerdict, int]
    lines: list[Compared]


@router.get("/v1/orgs/{org}/connections/{connection}/reconcile", responses=RESPONSES | {409: RESPONSES[400]})
async def reconcile_connection(
    request: Request, org: OrgId, connection: PathId, caller: Admin,
    from_: Annotated[Day | None, Query(alias="from", description="the first UTC day; default: six days before the last")] = None,
    to: Annotated[Day | None, Query(description="the last UTC day; default: yesterday")] = None,
    everything: Annotated[bool, Query(alias="all", description="also what matches")] = False,
) -> Reconciled:  # fmt: skip
    """Compares a gateway's own figures with ours by key and UTC day: matched, missing, extra and unattributed.

    503 where the gateway does not answer, 409 where it will not.
    """
    service = request.app.state.service
    last = service.clock() // DAY_US - 1 if to is None else to
    first = last - 6 if from_ is None else from_
    if not 0 <= last - first < MOST_DAYS:
        raise Problem(422, f"from, to: ask for one day or more, and at most {MOST_DAYS}", "to")
    async with snapshot(request) as reader:
        head = await found(reader, org)
    account = next((one for one in await connections_of(service.database, head) if one.connection_id == connection), None)
    if account is None:
        raise Problem(404, f"there is no connection {connection!r}")
    try:
        lines = await reconcile(service.database, head, account, opener(request.app.state.known.environ), first, last)
    except GatewayUnavailable as error:
        raise Problem(503, str(error)) from None
    except GatewayRefused as error:
        raise Problem(409, str(error)) from None
    counts = {verdict: sum(line.verdict is verdict for line in lines) for verdict in DayVerdict}
    return Reconciled(counts=counts, lines=[_compared(line) for line in lines if everything or line.verdict is not DayVerdict.MATCHED])


def _compared(line: Line) -> Compared:
    return Compared(
        day=date_of(line.day).isoformat(), key=line.key, verdict=line.verdict, theirs_usd=usd_text(line.theirs),
        ours_usd=usd_text(line.ours), requests=line.requests,
    )  # fmt: skip
