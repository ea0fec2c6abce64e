"""Owns caps and guardrails over HTTP."""

from fastapi import APIRouter, Request, Response

from ..core import commands as c
from ..core.caps import Guardrail
from ..store import reports
from . import models as m
from .auth import Admin, OrgReader
from .orgs import Version, tagged
from .problems import CHANGES, RESPONSES, Problem, accept
from .reading import found, snapshot
from .routes import ExactRoute
from .values import Cursor, Limit, OrgId, PathId, decode_cursor, encode_cursor

router = APIRouter(route_class=ExactRoute)


def _listed(things: list[reports.Json], name: str, cursor: str | None, limit: int) -> dict[str, object]:
    after = decode_cursor(cursor, str) or ""
    shown = sorted((thing for thing in things if thing[name] > after), key=lambda thing: thing[name])[:limit]
    return {f"{name}s": shown, "cursor": encode_cursor(shown[-1][name]) if len(shown) == limit else None}


def _named(things: list[reports.Json], kind: str, name: str) -> reports.Json:
    for thing in things:
        if thing[kind] == name:
            return thing
    raise Problem(404, f"there is no {kind} {name!r}")


@router.get("/v1/orgs/{org}/caps", tags=["caps"], responses=RESPONSES)
async def list_caps(request: Request, org: OrgId, caller: OrgReader, limit: Limit = 100, cursor: Cursor = None) -> m.Caps:
    """Caps, by id; those that guardrails make are in balances."""
    async with snapshot(request) as connection:
        caps = await reports.caps(connection, await found(connection, org))
    return m.Caps.model_validate(_listed(caps, "cap", cursor, limit))


async def _cap(request: Request, response: Response, org: str, cap: str, *, made: bool = False) -> m.Cap:
    async with snapshot(request) as connection:
        shown = _named(await reports.caps(connection, await found(connection, org)), "cap", cap)
    tagged(response, shown["version"], made=made)
    return m.Cap.model_validate(shown)


@router.get("/v1/orgs/{org}/caps/{cap}", tags=["caps"], responses=RESPONSES)
async def get_cap(request: Request, response: Response, org: OrgId, cap: PathId, caller: OrgReader) -> m.Cap:
    """One cap."""
    return await _cap(request, response, org, cap)


@router.put("/v1/orgs/{org}/caps/{cap}", tags=["caps"], responses=CHANGES | {201: {"model": m.Cap}})
async def put_cap(
    request: Request, response: Response, org: OrgId, cap: PathId, body: m.CapGiven, caller: Admin, version: Version
) -> m.Cap:
    """Puts a cap on a scope, or changes it; it counts what its window already holds, at once (C5)."""
    async with snapshot(request) as connection:
        head = await reports.head(connection, org)
        before = head is not None and any(known["cap"] == cap for known in await reports.caps(connection, head))
    order = c.SetCap(org=org, by=caller.name, version=version, cap=cap, scope=body.scope, rule=body.rule())
    accept((await request.app.state.service.record([order]))[0])
    return await _cap(request, response, org, cap, made=not before)


@router.delete("/v1/orgs/{org}/caps/{cap}", tags=["caps"], status_code=204, responses=CHANGES)
async def delete_cap(request: Request, org: OrgId, cap: PathId, caller: Admin, version: Version) -> None:
    """Takes a cap away; its breach clears (C4)."""
    accept((await request.app.state.service.record([c.RemoveCap(org=org, by=caller.name, version=version, cap=cap)]))[0])


@router.get("/v1/orgs/{org}/guardrails", tags=["guardrails"], responses=RESPONSES)
async def list_guardrails(request: Request, org: OrgId, caller: OrgReader, limit: Limit = 100, cursor: Cursor = None) -> m.Guardrails:
    """Guardrails, by id."""
    async with snapshot(request) as connection:
        rails = await reports.guardrails(connection, await found(connection, org))
    return m.Guardrails.model_validate(_listed(rails, "guardrail", cursor, limit))


async def _guardrail(request: Request, response: Response, org: str, rail: str, *, made: bool = False) -> m.Guardrail:
    async with snapshot(request) as connection:
        shown = _named(await reports.guardrails(connection, await found(connection, org)), "guardrail", rail)
    tagged(response, shown["version"], made=made)
    return m.Guardrail.model_validate(shown)


@router.get("/v1/orgs/{org}/guardrails/{guardrail}", tags=["guardrails"], responses=RESPONSES)
async def get_guardrail(request: Request, response: Response, org: OrgId, guardrail: PathId, caller: OrgReader) -> m.Guardrail:
    """One guardrail."""
    return await _guardrail(request, response, org, guardrail)


@router.put("/v1/orgs/{org}/guardrails/{guardrail}", tags=["guardrails"], responses=CHANGES | {201: {"model": m.Guardrail}})
async def put_guardrail(
    request: Request, response: Response, org: OrgId, guardrail: PathId, body: m.GuardrailGiven, caller: Admin, version: Version
) -> m.Guardrail:
    """Sets a guardrail: every subject it covers, now or later, has its own cap from it (S5)."""
    async with snapshot(request) as connection:
        head = await reports.head(connection, org)
        before = head is not None and any(known["guardrail"] == guardrail for known in await reports.guardrails(connection, head))
    rail = Guardrail(
        guardrail_id=guardrail, each=body.each, within=tuple(body.within), except_=tuple(body.except_), rule=body.rule()
    )  # fmt: skip
    accept((await request.app.state.service.record([c.SetGuardrail(org=org, by=caller.name, version=version, guardrail=rail)]))[0])
    return await _guardrail(request, response, org, guardrail, made=not before)


@router.delete("/v1/orgs/{org}/guardrails/{guardrail}", tags=["guardrails"], status_code=204, responses=CHANGES)
async def delete_guardrail(request: Request, org: OrgId, guardrail: PathId, caller: Admin, version: Version) -> None:
    """Takes a guardrail away, and every cap it made."""
    order = c.RemoveGuardrail(org=org, by=caller.name, version=version, guardrail=guardrail)
    accept((await request.app.state.service.record([order]))[0])
