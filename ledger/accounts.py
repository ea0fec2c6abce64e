"""Owns the look at a gateway's account: its keys linked with ours, its figures held against ours. It repairs nothing by itself
but links, and those only where a name or a hash leaves no doubt."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping

import structlog

from .core.commands import Command, Result, SetKey, Status
from .core.connections import Connection, Gateway
from .core.matching import DayVerdict, Line, Matched, VendorKey, compare, match
from .core.money import Nanos, usd_text
from .gateways.calling import Caller
from .gateways.gateway import GatewayRefused, GatewayUnavailable
from .gateways.litellm_proxy import litellm_spent
from .gateways.openrouter import openrouter_keys, openrouter_spent
from .service import Service
from .store import accounts, reports
from .store.books import connection_of
from .store.dialect import Database

BY = "key sync"
TIMEOUT_S = 60.0
DAY_US = 86_400_000_000
DAYS = 2  # that a scheduled reconciliation looks back on: what came late yesterday is seen today
Open = Callable[[Connection], Caller]

log = structlog.get_logger()


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
        raise GatewayRefused(f"keys of {account.gateway} are known by their hash already: there is nothing to sync or to adopt")
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


async def sync_once(service: Service, open_: Open) -> int:
    """Links the keys of every OpenRouter account that we have a token for; nothing that asks to be called again at once."""
    async for head, account in _accounts(service.database, Gateway.OPENROUTER):
        about = {"org": head.org, "connection": account.connection_id}
        try:
            found = await matched(service.database, head, account, await vendor_keys(account, open_))
        except (GatewayUnavailable, GatewayRefused) as error:
            log.error("keys_not_synced", **about, why=str(error))
            continue
        refused = sum(result.status is Status.REJECTED for result in await sync_keys(service, head.org, found))
        counts = {"ambiguous": len(found.ambiguous), "unknown": len(found.unknown), "vanished": len(found.vanished), "refused": refused}
        tell = log.warning if any(counts.values()) else log.info
        tell("keys_synced", **about, linked=len(found.links) - refused, **counts)
    return 0


async def reconcile_once(service: Service, open_: Open) -> int:
    """Compares the last whole UTC days of every account that keeps its own; nothing that asks to be called again at once."""
    last_day, counts, unread = service.clock() // DAY_US - 1, Counter[DayVerdict](), 0
    async for head, account in _accounts(service.database, Gateway.OPENROUTER, Gateway.LITELLM):
        about = {"org": head.org, "connection": account.connection_id}
        try:
            lines = await reconcile(service.database, head, account, open_, last_day - DAYS + 1, last_day)
        except (GatewayUnavailable, GatewayRefused) as error:
            log.error("account_not_read", **about, why=str(error))
            unread += 1
            continue
        here = Counter(line.verdict for line in lines)
        counts += here
        apart = sum(abs(line.theirs - line.ours) for line in lines if line.verdict is not DayVerdict.MATCHED)
        tell = log.warning if apart else log.info
        tell("account_reconciled", **about, **{str(verdict): here[verdict] for verdict in DayVerdict}, apart_usd=usd_text(Nanos(apart)))
    for verdict in DayVerdict:
        service.metrics.reconciled.labels(verdict).set(counts[verdict])
    service.metrics.accounts_unread.set(unread)
    return 0


async def _accounts(database: Database, *kinds: Gateway) -> AsyncIterator[tuple[reports.Head, Connection]]:
    """Every org's accounts of these kinds that we have a token for."""
    async with database.reader.connect() as connection:
        names = await accounts.orgs_with(connection, kinds)
    for name in names:
        async with database.reader.connect() as connection:
            head = await reports.head(connection, name)
        for account in await connections_of(database, head) if head is not None else ():
            if head is not None and account.gateway in kinds and account.token is not None:
                yield head, account
