"""Owns orgs, workspaces and keys over HTTP, and what a person does to a key."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from ..core import commands as c
from ..core.books import Books
from ..core.keys import State
from ..store import keys as keyed
from ..store import reports
from ..store import tables as t
from . import models as m
from .auth import Admin, Caller, OrgReader, Reader, allow
from .problems import CHANGES, RESPONSES, Problem, accept
from .reading import found, snapshot
from .routes import ExactRoute
from .values import Cursor, Id, Limit, OrgId, PathId, decode_cursor, encode_cursor, version_of

router = APIRouter(route_class=ExactRoute)
Version = Annotated[int | None, Depends(version_of)]


def tagged(response: Response, version: int, *, made: bool = False) -> None:
    """The thing's version as its ETag, and 201 where it was not there before."""
    response.headers["ETag"] = f'"{version}"'
    if made:
        response.status_code = 201


@router.get("/v1/orgs", tags=["orgs"], responses=RESPONSES)
async def list_orgs(request: Request, caller: Caller, limit: Limit = 100, cursor: Cursor = None) -> m.Orgs:
    """Orgs, by name; needs a token for all orgs, else shows the token's own."""
    if not caller.may("read"):
        allow(caller, "read", caller.org)
    async with snapshot(request) as connection:
        if caller.org is not None:
            mine = await reports.head(connection, caller.org)
            heads, more = [mine] if mine else [], None
        else:
            heads = await reports.orgs(connection, decode_cursor(cursor, str) or "", limit)
            more = encode_cursor(heads[-1].org) if len(heads) == limit else None
        labels = await reports.org_labels(connection, heads)
    return m.Orgs.model_validate({"orgs": [reports.org_json(head) | {"labels": labels[head.org]} for head in heads], "cursor": more})


@router.put("/v1/orgs/{org}", tags=["orgs"], responses=CHANGES | {201: {"model": m.Org}})
async def put_org(request: Request, response: Response, org: OrgId, body: m.OrgGiven, caller: Admin, version: Version) -> m.Org:
    """Opens an org or changes it; a new time zone evaluates its caps anew and rebooks nothing (W4)."""
    before = await _head_or_none(request, org)
    order = c.SetOrg(
        org=org, by=caller.name, version=version, time_zone=body.time_zone, enforce=body.enforce, brake=body.brake, **body.labelling()
    )
    accept((await request.app.state.service.record([order]))[0])
    return await _org(request, response, org, made=before is None)


@router.get("/v1/orgs/{org}", tags=["orgs"], responses=RESPONSES)
async def get_org(request: Request, response: Response, org: OrgId, caller: Reader) -> m.Org:
    """An org, and where its journal stands."""
    return await _org(request, response, org)


async def _head_or_none(request: Request, org: str) -> reports.Head | None:
    async with snapshot(request) as connection:
        return await reports.head(connection, org)


async def _org(request: Request, response: Response, org: str, *, made: bool = False) -> m.Org:
    async with snapshot(request) as connection:
        head = await found(connection, org)
        labels = (await reports.org_labels(connection, [head]))[org]
    tagged(response, head.org_seq, made=made)
    return m.Org.model_validate(reports.org_json(head) | {"labels": labels})


@router.get("/v1/orgs/{org}/workspaces", tags=["workspaces"], responses=RESPONSES)
async def list_workspaces(
    request: Request, org: OrgId, caller: OrgReader, limit: Limit = 100, cursor: Cursor = None, deleted: bool = False
) -> m.Workspaces:
    """Workspaces, by id."""
    async with snapshot(request) as connection:
        head = await found(connection, org)
        where = () if deleted else (t.workspaces.c.deleted.is_(False),)
        ids = await reports.page(connection, head, t.workspaces, "workspace_id", decode_cursor(cursor, str) or "", limit, *where)
        books = await reports.books_about(connection, head, [], [f"workspace:{name}" for name in ids])
    shown = [_workspace_json(books, name) for name in ids]
    return m.Workspaces.model_validate({"workspaces": shown, "cursor": encode_cursor(ids[-1]) if len(ids) == limit else None})


def _workspace_json(books: Books, name: str) -> reports.Json:
    workspace, labels = books.workspaces[name], reports.labels_json(books, f"workspace:{name}")
    return {"workspace": name, "deleted": workspace.deleted, "labels": labels, "version": workspace.seq}


async def _workspace(request: Request, response: Response, org: str, name: str, *, made: bool = False) -> m.Workspace:
    async with snapshot(request) as connection:
        head = await found(connection, org)
        books = await reports.books_about(connection, head, [], [f"workspace:{name}"])
    if name not in books.workspaces:
        raise Problem(404, f"there is no workspace {name!r}")
    tagged(response, books.workspaces[name].seq, made=made)
    return m.Workspace.model_validate(_workspace_json(books, name))


@router.get("/v1/orgs/{org}/workspaces/{workspace}", tags=["workspaces"], responses=RESPONSES)
async def get_workspace(request: Request, response: Response, org: OrgId, workspace: PathId, caller: OrgReader) -> m.Workspace:
    """One workspace."""
    return await _workspace(request, response, org, workspace)


@router.put("/v1/orgs/{org}/workspaces/{workspace}", tags=["workspaces"], responses=CHANGES | {201: {"model": m.Workspace}})
async def put_workspace(
    request: Request, response: Response, org: OrgId, workspace: PathId, body: m.WorkspaceGiven, caller: Admin, version: Version
) -> m.Workspace:
    """Opens a workspace, or sets its labels (S9)."""
    async with snapshot(request) as connection:
        head = await reports.head(connection, org)
        books = None if head is None else await reports.books_about(connection, head, [], [f"workspace:{workspace}"])
    before = books is not None and workspace in books.workspaces and not books.workspaces[workspace].deleted
    order = c.SetWorkspace(org=org, by=caller.name, version=version, workspace=workspace, **body.labelling())
    accept((await request.app.state.service.record([order]))[0])
    return await _workspace(request, response, org, workspace, made=not before)


@router.delete("/v1/orgs/{org}/workspaces/{workspace}", tags=["workspaces"], status_code=204, responses=CHANGES)
async def delete_workspace(request: Request, org: OrgId, workspace: PathId, caller: Admin, version: Version) -> None:
    """Closes a workspace that has no keys left; it stays in every report (S4)."""
    order = c.RemoveWorkspace(org=org, by=caller.name, version=version, workspace=workspace)
    accept((await request.app.state.service.record([order]))[0])


@router.get("/v1/orgs/{org}/keys", tags=["keys"], responses=RESPONSES)
async def list_keys(
    request: Request, org: OrgId, caller: Reader, limit: Limit = 100, cursor: Cursor = None,
    state: State | None = None, workspace: Id | None = None, deleted: bool = False,
) -> m.Keys:  # fmt: skip
    """Keys, by id."""
    k = t.keys.c
    where = [] if deleted else [k.deleted.is_(False)]
    where += [k.state == state.value, k.alias_of.is_(None)] if state else []  # an alias has no state of its own
    home = caller.workspace if caller.workspace is not None and not caller.may("admin") else workspace
    where += [k.workspace == home] if home is not None else []
    async with snapshot(request) as connection:
        head = await found(connection, org)
        ids = await reports.page(connection, head, t.keys, "key_id", decode_cursor(cursor, str) or "", limit, *where)
        shown = await keyed.keys_json(connection, head, ids)
    return m.Keys.model_validate({"keys": shown, "cursor": encode_cursor(ids[-1]) if len(ids) == limit else None})


async def _key(request: Request, response: Response, org: str, key: str, home: str | None = None, *, made: bool = False) -> m.Key:
    async with snapshot(request) as connection:
        head = await found(connection, org)
        shown = await keyed.keys_json(connection, head, [key])
    if not shown or (home is not None and shown[0]["workspace"] != home):
        where = "" if home is None else f" in workspace {home!r}, the one that this token reads"  # and no word of others (T1)
        raise Problem(404, f"there is no key {key!r}{where}")
    tagged(response, shown[0]["version"], made=made)
    return m.Key.model_validate(shown[0])


@router.get("/v1/orgs/{org}/keys/{key}", tags=["keys"], responses=RESPONSES)
async def get_key(request: Request, response: Response, org: OrgId, key: PathId, caller: Reader) -> m.Key:
    """One key: its state, why, and what its gateway confirmed."""
    return await _key(request, response, org, key, None if caller.may("admin") else caller.workspace)


@router.put("/v1/orgs/{org}/keys/{key}", tags=["keys"], responses=CHANGES | {201: {"model": m.Key}})
async def put_key(
    request: Request, response: Response, org: OrgId, key: PathId, body: m.KeyGiven, caller: Admin, version: Version
) -> m.Key:
    """Registers a key, moves it (S4), or sets its credentials (S1)."""
    async with snapshot(request) as connection:
        head = await reports.head(connection, org)
        before = head is not None and key in (await reports.books_about(connection, head, [key])).keys
    names = None if body.credentials is None else tuple(dict.fromkeys(body.credentials))
    order = c.SetKey(
        org=org, by=caller.name, version=version, key=key, workspace=body.workspace, credentials=names, **body.labelling()
    )  # fmt: skip
    accept((await request.app.state.service.record([order]))[0])
    return await _key(request, response, org, key, made=not before)


@router.delete("/v1/orgs/{org}/keys/{key}", tags=["keys"], status_code=204, responses=CHANGES)
async def delete_key(request: Request, org: OrgId, key: PathId, caller: Admin, version: Version) -> None:
    """Takes a key off the lists; its spend stays in every report and its caps stay on (S4)."""
    accept((await request.app.state.service.record([c.RemoveKey(org=org, by=caller.name, version=version, key=key)]))[0])


async def _turn(request: Request, response: Response, org: str, key: str, by: str, state: State, reason: str) -> m.Key:
    accept((await request.app.state.service.record([c.TurnKey(org=org, by=by, key=key, state=state, why=reason)]))[0])
    async with snapshot(request) as connection:
        owner = await keyed.owner_of(connection, await found(connection, org), key)
    return await _key(request, response, org, owner)


@router.post("/v1/orgs/{org}/keys/{key}/pause", tags=["keys"], responses=CHANGES)
async def pause_key(request: Request, response: Response, org: OrgId, key: PathId, body: m.ReasonGiven, caller: Admin) -> m.Key:
    """A person holds a key paused until a person resumes it (K2)."""
    return await _turn(request, response, org, key, caller.name, State.PAUSED, body.reason)


@router.post("/v1/orgs/{org}/keys/{key}/resume", tags=["keys"], responses=CHANGES)
async def resume_key(request: Request, response: Response, org: OrgId, key: PathId, body: m.ReasonGiven, caller: Admin) -> m.Key:
    """Lifts a person's pause and the wait for a person; a cap in breach still stops the key (K2)."""
    return await _turn(request, response, org, key, caller.name, State.ACTIVE, body.reason)


@router.post("/v1/orgs/{org}/keys/{key}/revoke", tags=["keys"], responses=CHANGES)
async def revoke_key(request: Request, response: Response, org: OrgId, key: PathId, body: m.ReasonGiven, caller: Admin) -> m.Key:
    """Ends a key for good (K1)."""
    return await _turn(request, response, org, key, caller.name, State.REVOKED, body.reason)
