"""Owns commands over HTTP: what was done about breaches, and what gateways that act by themselves say of it."""

from fastapi import APIRouter, Request

from ..core import commands as c
from ..core.caps import Verdict
from ..store import inbox, reports
from ..store import keys as keyed
from . import models as m
from .auth import Admin, OrgReader
from .problems import CHANGES, RESPONSES, Problem, accept
from .reading import BREACH_PLACE, breach_cursor, found, snapshot
from .routes import ExactRoute
from .values import CommandId, Cursor, Id, Limit, OrgId, decode_cursor, encode_cursor

router = APIRouter(tags=["commands"], route_class=ExactRoute)


@router.get("/v1/orgs/{org}/commands", responses=RESPONSES)
async def get_commands(
    request: Request, org: OrgId, caller: OrgReader, delivery: str | None = None, key: Id | None = None, limit: Limit = 100,
    cursor: Cursor = None, waiting_cursor: Cursor = None,
) -> m.KeyCommands:  # fmt: skip
    """Commands to the gateways, newest first: what was done about breaches, and whether it was confirmed (K3); and a page,
    too, of the breaches whose action waits for a person (K4), which goes on by a cursor of its own."""
    after, before = decode_cursor(cursor, (int, str, str, str, int)), decode_cursor(waiting_cursor, BREACH_PLACE)
    if delivery is not None and delivery not in inbox.DELIVERIES:
        raise Problem(422, f"delivery: is not one of {', '.join(inbox.DELIVERIES)}", "delivery")
    async with snapshot(request) as connection:
        head = await found(connection, org)
        keys = None if key is None else [key]
        shown, last = await keyed.commands_page(connection, head, after, limit=limit, delivery=delivery, keys=keys)
        waiting = await reports.breaches(connection, head, before=before, limit=limit, waiting=True)
    page = {"commands": shown, "cursor": None if last is None else encode_cursor(last)}
    return m.KeyCommands.model_validate(page | {"waiting": waiting, "waiting_cursor": breach_cursor(waiting, limit)})


@router.post("/v1/orgs/{org}/commands/{command}/confirm", responses=CHANGES)
async def confirm_command(request: Request, org: OrgId, command: CommandId, body: m.ConfirmGiven, caller: Admin) -> m.KeyCommand:
    """A gateway that acts by itself says that it has carried a command out."""
    service = request.app.state.service
    async with snapshot(request) as connection:
        head = await found(connection, org)
        known = await keyed.command(connection, head, command)
    if known is None:
        raise Problem(404, "there is no such command")
    way, credential, revision = known["connection"] or "", known["credential"], known["revision"]
    order = c.ConfirmCommand(
        org=org, by=caller.name, key=known["key"], credential=credential, connection=way, revision=revision,
        state=body.state, mark=body.mark,
    )  # fmt: skip
    accept((await service.record([order]))[0])
    async with service.database.writer.begin() as connection:
        await inbox.confirm(connection, head.org_id, way, credential, revision, service.clock())
    async with snapshot(request) as connection:
        return m.KeyCommand.model_validate(await keyed.command(connection, head, command))


@router.post("/v1/orgs/{org}/commands/{command}/approve", responses=CHANGES)
async def approve_command(request: Request, org: OrgId, command: CommandId, body: m.ReasonGiven, caller: Admin) -> m.Breach:
    """A person approves what an open breach waits with, `CAP/ORDINAL`: its keys are stopped or revoked (K4)."""
    return await _judge(request, org, command, Verdict.APPROVED, body.reason, caller.name)


@router.post("/v1/orgs/{org}/commands/{command}/reject", responses=CHANGES)
async def reject_command(request: Request, org: OrgId, command: CommandId, body: m.ReasonGiven, caller: Admin) -> m.Breach:
    """A person rejects what an open breach waits with, `CAP/ORDINAL`: it is not done (K4)."""
    return await _judge(request, org, command, Verdict.REJECTED, body.reason, caller.name)


async def _judge(request: Request, org: str, name: str, verdict: Verdict, why: str, by: str) -> m.Breach:
    cap, _, ordinal = name.rpartition("/")
    if not cap or not ordinal.isdecimal() or len(ordinal) > 18:
        raise Problem(404, "there is no such breach: name it CAP/ORDINAL, percent-encoded")
    async with snapshot(request) as connection:
        head = await found(connection, org)
    order = c.JudgeBreach(org=org, by=by, cap=cap, ordinal=int(ordinal), verdict=verdict, why=why)
    accept((await request.app.state.service.record([order]))[0])
    async with snapshot(request) as connection:
        shown = await reports.breaches(connection, head, cap=cap)
    return m.Breach.model_validate(next(row for row in shown if row["ordinal"] == int(ordinal)))
