"""Owns commands over HTTP: what was done about breaches, and what gateways that act by themselves say of it."""

from fastapi import APIRouter, Request

from ..core import commands as c
from ..store import inbox
from ..store import keys as keyed
from . import models as m
from .auth import Admin, OrgReader
from .problems import CHANGES, RESPONSES, Problem, accept
from .reading import found, snapshot
from .values import ExactRoute, Id, Limit, OrgId, PathId

router = APIRouter(tags=["commands"], route_class=ExactRoute)


@router.get("/v1/orgs/{org}/commands", responses=RESPONSES)
async def get_commands(
    request: Request, org: OrgId, caller: OrgReader, delivery: str | None = None, key: Id | None = None, limit: Limit = 100
) -> m.KeyCommands:
    """Commands to the gateways, newest first: what was done about breaches, and whether it was confirmed (K3)."""
    if delivery is not None and delivery not in inbox.DELIVERIES:
        raise Problem(422, f"delivery: is not one of {', '.join(inbox.DELIVERIES)}", "delivery")
    async with snapshot(request) as connection:
        head = await found(connection, org)
        shown = await keyed.commands(connection, head, limit=limit, delivery=delivery, keys=None if key is None else [key])
    return m.KeyCommands.model_validate({"commands": shown})


@router.post("/v1/orgs/{org}/commands/{command}/confirm", responses=CHANGES)
async def confirm_command(request: Request, org: OrgId, command: PathId, body: m.ConfirmGiven, caller: Admin) -> m.KeyCommand:
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
