"""Owns connections over HTTP (S8): their shapes and routes. Secrets are named here, never sent or shown.

A connection that reaches out, from this machine and with its secrets, is for whoever runs this ledger: it takes an admin
token for all orgs (T1). One that only lets usage in and maps names may be set by the org itself.
"""

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from ..core import commands as c
from ..core.connections import Connection, Direction, Gateway, is_reference
from ..store import heard, reports
from ..store.tokens import Token
from ..wire.secrets import redact
from ..wire.times import moment_text
from .auth import Admin, OrgReader
from .models import Given
from .orgs import Version, tagged
from .problems import CHANGES, RESPONSES, Problem, accept
from .reading import found, snapshot
from .routes import ExactRoute
from .values import Cursor, Id, Limit, OrgId, PathId, decode_cursor, encode_cursor

router = APIRouter(tags=["connections"], route_class=ExactRoute)
MOST_NAMES = 20_000


def _reference(text: str) -> str:
    if not is_reference(text):
        raise ValueError("is not a reference: write env:NAME or file:/path; the secret itself is never kept here")
    if redact(text) != text:
        raise ValueError("holds a secret where it should name one: write env:NAME or file:/path (S2)")
    if text.upper().startswith("ENV:LEDGER_"):
        raise ValueError("is one of this ledger's own settings: give the gateway's secret a variable of its own")
    return text


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits, parts = False, urlsplit("")
    if not fits or not text.isprintable() or " " in text:
        raise ValueError("is not the address of an HTTP API, such as https://gateway.example/api")
    if "@" in parts.netloc or parts.query or parts.fragment or redact(text) != text:
        raise ValueError("holds more than an address: a secret is given by token or secret, as env:NAME or file:/path")
    return text.rstrip("/")


Reference = Annotated[str, Field(max_length=512, examples=["env:OPENROUTER_KEY"]), AfterValidator(_reference)]
Address = Annotated[str, Field(max_length=512, examples=["https://openrouter.ai"]), AfterValidator(_address)]
Names = Annotated[dict[Id, Id], Field(max_length=MOST_NAMES)]


class ConnectionGiven(Given):
    """Fields that are left out are set to their defaults: a PUT says the whole thing."""

    gateway: Gateway
    address: Annotated[Address | None, Field(description="where its API is; left out: the vendor's own")] = None
    token: Annotated[Reference | None, Field(description="where that lies which we show the gateway")] = None
    secret: Annotated[Reference | None, Field(description="where that lies which webhooks are signed or verified with")] = None
    direction: Direction = Direction.BOTH
    counts: Annotated[bool, Field(description="false: its usage is kept for reconciliation and adds nothing")] = True
    adopt_keys: Annotated[bool, Field(description="a sync registers keys found at the gateway")] = False
    keys: Annotated[Names, Field(description="what the gateway calls a key → the key's id or credential here")] = {}
    workspaces: Annotated[Names, Field(description="the gateway's workspace or team → the workspace here")] = {}

    def connection(self, name: str) -> Connection:
        """As the core has it."""
        return Connection(connection_id=name, **{field: getattr(self, field) for field in type(self).model_fields})


class ConnectionShown(BaseModel):
    """A connection, as it was declared."""

    connection: str
    gateway: Gateway
    address: str | None
    token: str | None
    secret: str | None
    direction: Direction
    counts: bool
    adopt_keys: bool
    keys: dict[str, str]
    workspaces: dict[str, str]
    silent_since: Annotated[str | None, Field(description="since when nothing has come in by it, for longer than it ever is silent")]
    version: int


class Connections(BaseModel):
    """A page of connections."""

    connections: list[ConnectionShown]
    cursor: str | None


@router.get("/v1/orgs/{org}/connections", responses=RESPONSES)
async def list_connections(request: Request, org: OrgId, caller: OrgReader, limit: Limit = 100, cursor: Cursor = None) -> Connections:
    """Connections, by id."""
    after = decode_cursor(cursor, str) or ""
    rows = await _rows(request, org)
    shown = [row for row in rows if row["connection"] > after][:limit]
    more = encode_cursor(shown[-1]["connection"]) if len(shown) == limit else None
    return Connections.model_validate({"connections": shown, "cursor": more})


async def _rows(request: Request, org: str) -> list[dict[str, Any]]:
    """The org's connections, with whether they fell silent."""
    async with snapshot(request) as connection:
        head = await found(connection, org)
        rows = await reports.connections(connection, head)
        silent = await heard.silent(connection, request.app.state.service.clock(), head.org_id)
    since = {name: moment_text(us) for (_, name), us in silent.items()}
    return [row | {"silent_since": since.get(row["connection"])} for row in rows]


async def _shown(request: Request, response: Response, org: str, name: str, *, made: bool = False) -> ConnectionShown:
    for row in await _rows(request, org):
        if row["connection"] == name:
            tagged(response, row["version"], made=made)
            return ConnectionShown.model_validate(row)
    raise Problem(404, f"there is no connection {name!r}")


@router.get("/v1/orgs/{org}/connections/{connection}", responses=RESPONSES)
async def get_connection(request: Request, response: Response, org: OrgId, connection: PathId, caller: OrgReader) -> ConnectionShown:
    """One connection."""
    return await _shown(request, response, org, connection)


@router.put("/v1/orgs/{org}/connections/{connection}", responses=CHANGES | {201: {"model": ConnectionShown}})
async def put_connection(
    request: Request, response: Response, org: OrgId, connection: PathId, body: ConnectionGiven, caller: Admin, version: Version
) -> ConnectionShown:
    """Declares a gateway's account, or changes it (S8)."""
    async with snapshot(request) as reader:
        head = await reports.head(reader, org)
        rows = await reports.connections(reader, head) if head else []
    stands = next((row for row in rows if row["connection"] == connection), None)
    wish = body.connection(connection)
    if wish.address or wish.token or wish.secret or (stands and _reaches_out(stands)):
        _operator(caller)
    order = c.SetConnection(org=org, by=caller.name, version=version, connection=wish)
    accept((await request.app.state.service.record([order]))[0])
    return await _shown(request, response, org, connection, made=stands is None)


def _reaches_out(row: dict[str, Any]) -> bool:
    return bool(row["address"] or row["token"] or row["secret"])


def _operator(caller: Token) -> None:
    if caller.org is not None:
        raise Problem(403, "address, token and secret of a connection are set by an admin token for all orgs: it reaches out from here")


@router.delete("/v1/orgs/{org}/connections/{connection}", status_code=204, responses=CHANGES)
async def delete_connection(request: Request, org: OrgId, connection: PathId, caller: Admin, version: Version) -> None:
    """Forgets a gateway's account; what came in by it stays."""
    if any(row["connection"] == connection and _reaches_out(row) for row in await _rows(request, org)):
        _operator(caller)
    order = c.RemoveConnection(org=org, by=caller.name, version=version, connection=connection)
    accept((await request.app.state.service.record([order]))[0])
