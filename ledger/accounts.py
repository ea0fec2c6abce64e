"""Owns the look at a gateway's account: its keys linked with ours, its figures held against ours. It repairs nothing by itself
but links, and those only where a name or a hash leaves no doubt."""

from collections.abc import Callable, Mapping

from .core.commands import Command, Result, SetKey
from .core.connections import Connection, Gateway
from .core.matching import Line, Matched, VendorKey, compare, match
from .gateways.calling import Caller
from .gateways.gateway import GatewayRefused
from .gateways.litellm import litellm_spent
from .gateways.openrouter import openrouter_keys, openrouter_spent
from .service import Service
from .store import accounts, reports
from .store.books import connection_of
from .store.dialect import Database

BY = "key sync"
TIMEOUT_S = 60.0
Open = Callable[[Connection], Caller]


def opener(environ: Mapping[str, str]) -> Open:
    """How accounts are reached, with secrets where references lead now."""
    return lambda connection: Caller(connection, environ, TIMEOUT_S)


async def connections_of(database: Database, head: reports.Head) -> list[Connection]:
    """The org's connections."""
    async with database.snapshot() as connection:
        rows = await reports.connections(connection, head)
        found = [await reports.connection_row(connection, head, row["connection"]) for row in rows]
    return [connection_of(row) for row in found]


async def vendor_keys(account: Connection, open_: Open) -> list[VendorKey]:
    """The keys of a gateway's account. Raises what `gateways.gateway` says."""
    if account.gateway is not Gateway.OPENROUTER:
        raise GatewayRefused(f"keys of {account.gateway} are known by their hash already: there is nothing to sync")
    caller = open_(account)
    try:
        return await openrouter_keys(caller)
    finally:
        await caller.aclose()


async def matched(database: Database, head: reports.Head, account: Connection, theirs: list[VendorKey]) -> Matched:
    """How a gateway's keys and ours go together."""
    others = [c for c in await connections_of(database, head) if c.connection_id != account.connection_id and c.outward]
    async with database.snapshot() as connection:
        ours = await accounts.credentials(connection, head.org_id)
    return match(theirs, ours, account, only=not others)


async def sync_keys(service: Service, org: str, found: Matched, by: str = BY) -> list[Result]:
    """Makes the links that a match found."""
    orders: list[Command] = [
        SetKey(org=org, by=by, key=link.key, workspace=link.workspace, credentials=link.credentials) for link in found.links
    ]
    return await service.record(orders)


async def reconcile(database: Database, head: reports.Head, account: Connection, open_: Open, first_day: int, last_day: int) -> list[Line]:
    """Every key and UTC day that either side counted."""
    reading = {Gateway.OPENROUTER: openrouter_spent, Gateway.LITELLM: litellm_spent}.get(account.gateway)
    if reading is None:
        raise GatewayRefused(f"{account.gateway} keeps no account that could be asked")
    caller = open_(account)
    try:
        theirs = await reading(caller, first_day, last_day)
    finally:
        await caller.aclose()
    async with database.snapshot() as connection:
        ours = await accounts.credentials(connection, head.org_id)
        owners = {name: key for key, names in ours.items() for name in (*names, key)}
        owners |= {name: owners.get(target, target) for name, target in account.keys.items()}
        booked = await accounts.booked(connection, head.org_id, account, owners, first_day, last_day)
    return compare(theirs, booked, owners)
