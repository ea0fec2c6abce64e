"""Owns what is only read over HTTP: balances, breaches, commands, entries and explanations; and a gateway's confirmation."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.questions import Question, QuestionError
from ..core.window import Period
from ..service import Service
from ..store import balances, explain, keystate, reports
from ..store import tables as t
from ..store.glance import Asked
from ..store.tokens import Token
from ..wire.report import ask
from ..wire.times import moment_text
from . import models as m
from .amounts import Balances
from .auth import OrgReader, Reader
from .problems import RESPONSES, Problem
from .routes import ExactRoute
from .streams import Slots
from .values import CapId, Cursor, Limit, Moment, OrgId, Scope, decode_cursor, encode_cursor

router = APIRouter(route_class=ExactRoute)
MOST_AT_ONCE = 6  # the least pool of connections is of eight, and tokens are looked up with what is left
MOST_OF_ORG = 3
MOST_WAITING = 2_000
BREACH_PLACE = (int, str, int)  # of a breach in their list: when it opened, its cap and ordinal


def place(request: Request) -> AbstractAsyncContextManager[None]:
    """One of the places of the org that is asked about: whoever has none yet holds no connection (T1). Not to be taken twice."""
    return _turn(request, request.app.state.places)


def _turn(request: Request, slots: Slots) -> AbstractAsyncContextManager[None]:
    return slots.taken(unquote(request.path_params.get("org", "")))


@asynccontextmanager
async def snapshot(request: Request) -> AsyncIterator[AsyncConnection]:
    """A connection whose reads are of one moment."""
    async with place(request), request.app.state.service.database.snapshot() as connection:
        yield connection


@asynccontextmanager
async def figures(request: Request, *, long: bool = False) -> AsyncIterator[AsyncConnection]:
    """A connection whose reads are of one moment, maybe of a replica's: for answers that say which seq they are true for. `long`:
    those that read through the journal are made one after the other for an org, as its reports are."""
    slow = _turn(request, request.app.state.reports) if long else nullcontext()
    async with slow, place(request), request.app.state.service.database.reporting.snapshot() as connection:
        yield connection


async def found(connection: AsyncConnection, org: str) -> reports.Head:
    """The org. Raises Problem 404."""
    head = await reports.head(connection, org)
    if head is None:
        raise no_org(org)
    return head


def no_org(org: str) -> Problem:
    """What is said of an org that was never opened."""
    return Problem(404, f"there is no org {org!r}: it opens with its first usage, or PUT it")


async def _own(connection: AsyncConnection, head: reports.Head, caller: Token, scopes: list[str]) -> None:
    """A token for one workspace sees that workspace and its keys (T1)."""
    if caller.workspace is None or caller.may("admin"):
        return
    keys = [scope[4:] for scope in scopes if scope.startswith("key:")]
    where = (t.keys.c.workspace == caller.workspace, t.keys.c.key_id.in_(keys))
    mine = set(await reports.page(connection, head, t.keys, "key_id", "", len(keys), *where))
    for scope in scopes:
        if scope != f"workspace:{caller.workspace}" and not (scope.startswith("key:") and scope[4:] in mine):
            raise Problem(403, "this token reads one workspace only")


@router.get("/v1/orgs/{org}/balances", tags=["balances"], responses=RESPONSES, response_model=Balances)
async def get_balances(
    request: Request, org: OrgId, caller: Reader,
    scope: Annotated[list[Scope] | None, Query(max_length=1000, description="default: the org, its workspaces and keys")] = None,
    period: Annotated[list[Period] | None, Query(description="default: day")] = None,
    at: Annotated[Moment | None, Query(description="a moment in the windows; default: now, or what `as_of` or `until` says")] = None,
    as_of: Annotated[Moment | None, Query(description="count only what was recorded by then (J7)")] = None,
    until: Annotated[Moment | None, Query(description="count only calls that ended before then (J7)")] = None,
    limit: Limit = 100, cursor: Cursor = None,
) -> Response:  # fmt: skip
    """What scopes spent in the windows that contain a moment, every cap above them with what it leaves, and the seq it is
    true for."""
    periods, limited = list(dict.fromkeys(period or [Period.DAY])), caller.workspace is not None and not caller.may("admin")
    asked = Asked(org, tuple(dict.fromkeys(scope or ())), tuple(periods))
    if asked.fits() and not limited and as_of is None and until is None:
        service: Service = request.app.state.service
        async with place(request):
            glance = await request.app.state.glances.standing(service.database.reporting, asked, at, service.clock())
        if glance is None:
            raise no_org(org)
        return _balances(glance[0], glance[1], None)
    then = as_of is not None or until is not None
    async with figures(request, long=then or Period.HOUR in periods) as connection:
        head = await found(connection, org)
        scopes, more = (list(asked.scopes), None) if scope else await _all_scopes(connection, head, caller, cursor, limit)
        await _own(connection, head, caller, scopes)
        now_us = max(request.app.state.service.clock(), head.recorded_us)
        moment = balances.meant_us(at, as_of, until, now_us)
        if then:
            shown = await balances.stood(connection, head, scopes, periods, moment, as_of, until)
        else:
            shown = await balances.standing(connection, head, scopes, periods, moment, now_us)
    if limited:  # what the whole org spent is not for everyone in it
        shown = [row | {"above": _of_workspace(row["above"])} for row in shown]
    return _balances(head, shown, more)


def _of_workspace(above: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Caps without the org's own, nor a word of whether one of those is the tightest (T1)."""
    mine = [cap for cap in above if cap["scope"] != "org"]
    tightest = min(mine, key=lambda cap: Decimal(cap["left_usd"]), default=None)
    return [cap | {"tightest": cap is tightest} for cap in mine]


def _balances(head: reports.Head, shown: list[dict[str, Any]], more: str | None) -> Response:
    """As `Balances` describes it, but written as it is: to check every field of what was made here would cost more than to make it."""
    whole = {"seq": head.seq, "recorded_at": moment_text(head.recorded_us), "balances": shown, "cursor": more}
    return Response(msgspec.json.encode(whole), media_type="application/json")


async def _all_scopes(
    connection: AsyncConnection, head: reports.Head, caller: Token, cursor: str | None, limit: int
) -> tuple[list[str], str | None]:
    """The org, then its workspaces, then its keys."""
    after = decode_cursor(cursor, str)
    one = caller.workspace if not caller.may("admin") else None
    scopes: list[str] = []
    if after is None:
        homes = [one] if one is not None else await reports.page(connection, head, t.workspaces, "workspace_id", "", 10**6)
        scopes = [*([] if one is not None else ["org"]), *(f"workspace:{home}" for home in homes)]
    where = [t.keys.c.workspace == one] if one is not None else []
    keys = await reports.page(connection, head, t.keys, "key_id", after or "", limit, *where)
    return [*scopes, *(f"key:{key}" for key in keys)], encode_cursor(keys[-1]) if len(keys) == limit else None


@router.get("/v1/orgs/{org}/breaches", tags=["breaches"], responses=RESPONSES)
async def get_breaches(
    request: Request, org: OrgId, caller: Reader, open: bool = False, cap: CapId | None = None, scope: Scope | None = None,
    limit: Limit = 100, cursor: Cursor = None,
) -> m.Breaches:  # fmt: skip
    """Breaches, newest first."""
    before = decode_cursor(cursor, BREACH_PLACE)
    async with snapshot(request) as connection:
        head = await found(connection, org)
        await _own(connection, head, caller, [scope] if scope else [])
        home = None if caller.may("admin") else caller.workspace
        shown = await reports.breaches(connection, head, before=before, limit=limit, open_only=open, cap=cap, scope=scope, home=home)
    return m.Breaches.model_validate({"breaches": shown, "cursor": breach_cursor(shown, limit)})


def breach_cursor(shown: list[reports.Json], limit: int) -> str | None:
    """The place after a page of breaches; None for the last page."""
    last = shown[-1] if len(shown) == limit else None
    return None if last is None else encode_cursor([last["opened_us"], last["cap"], last["ordinal"]])


@router.get("/v1/orgs/{org}/entries", tags=["entries"], responses=RESPONSES)
async def get_entries(
    request: Request, org: OrgId, caller: OrgReader, after: Annotated[int, Query(ge=0, le=2**53)] = 0, limit: Limit = 100
) -> m.Entries:
    """The journal, in its gapless sequence (J1)."""
    async with figures(request) as connection:
        return m.Entries(entries=await reports.entries(connection, await found(connection, org), after, limit))


@router.get("/v1/orgs/{org}/explain", tags=["explain"], responses=RESPONSES)
async def get_explanation(
    request: Request, org: OrgId, caller: OrgReader,
    scope: Scope | None = None,
    breach: Annotated[CapId | None, Query(description="CAP/ORDINAL")] = None,
    period: Period | None = None,
    at: Moment | None = None,
    where: Annotated[list[str] | None, Query(max_length=20, description="a line of a report: what holds of it, as in the report")] = None,
    from_: Annotated[str | None, Query(alias="from", description="with `where`: the first day, or a moment")] = None,
    to: Annotated[str | None, Query(description="with `where`: the day after the last, or a moment")] = None,
) -> m.Explanation:  # fmt: skip
    """A key's state (`scope=key:ID`), a balance (`scope` and `period`), a breach, or a line of a report (`where`), down to
    the entries (J6)."""
    _one_question(request, "where" if where else "breach" if breach is not None else "scope", period is not None)
    now_us = request.app.state.service.clock()
    async with figures(request, long=scope is None or period is not None) as connection:  # a key's state is short
        head = await found(connection, org)
        facts: dict[str, Any] | None
        if where:
            facts = await explain.line(connection, head, _asked(from_, to, where, head, now_us))
        elif breach is not None:
            facts = await explain.breach(connection, head, breach)
        elif scope is not None and period is not None:
            facts = await explain.balance(connection, head, scope, period, at if at is not None else max(now_us, head.recorded_us))
        elif scope is not None and scope.startswith("key:"):
            facts = await keystate.key(connection, head, scope[4:], now_us)
        else:
            raise Problem(422, "say scope=key:ID, scope and period, or breach=CAP/ORDINAL", "scope")
    if facts is None:
        raise Problem(404, "there is nothing of that name to explain")
    return m.Explanation(about=", ".join(where) if where else breach or scope or "", facts=facts)


def _one_question(request: Request, asked: str, balance: bool) -> None:
    """Raises Problem for a parameter of another question: passed over, it would leave another one answered than was asked."""
    what, known = {
        "where": ("a line of a report", ("where", "from", "to")),
        "breach": ("a breach", ("breach",)),
        "scope": ("a balance", ("scope", "period", "at")) if balance else ("a key", ("scope", "period")),
    }[asked]
    for name in request.query_params:
        if name not in known:
            raise Problem(422, f"{name}: does not go with the explanation of {what}: leave it out", name)


def _asked(start: str | None, end: str | None, where: list[str], head: reports.Head, now_us: int) -> Question:
    try:
        return ask(start, end, (), None, where, None, head.zone, max(now_us, head.recorded_us))
    except QuestionError as error:
        raise Problem(422, f"{error.field}: {error}", error.field) from None
