"""Owns the comparison of what we want of keys with what is at each gateway, and the repair of what is ours (K2, K3).

A key that should be stopped and is not, is stopped again, whoever let it go. One that should work and is paused there is let go only
where that pause was ours. What was given up is tried again as soon as its gateway answers. Nothing is asked about keys that were
never commanded, and nothing more of a gateway that does not answer or refuses our token.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from sqlalchemy import select

from .core.books import Books
from .core.connections import COMMANDED, Connection, Direction
from .core.keys import Key, State
from .gateways.gateway import Gateway, GatewayKey, GatewayRefused, GatewayUnavailable
from .service import Service
from .store import books as projections
from .store import inbox, reports
from .store import tables as t

AT_ONCE = 16
KEYCHECK_IDLE_S = 600.0
OpenGateway = Callable[[Connection], Gateway]

log = structlog.get_logger()


class Finding(NamedTuple):
    """What a check found of one credential at one connection. `repair`: the command is sent again."""

    key: str
    credential: str
    connection: str
    revision: int
    wanted: State
    found: str
    repair: bool


async def check_org(service: Service, head: reports.Head, open_gateway: OpenGateway, *, repair: bool = True) -> list[Finding]:
    """Compares every commanded key of an org with its gateways; what differs, and what was sent again for it."""
    async with service.database.snapshot() as connection:
        books = (await projections.load(connection, {head.org: head.org_id}))[head.org]
        open_now = await inbox.open_places(connection, head.org_id)
    findings: list[Finding] = []
    for way in books.connections.values():
        if way.outward:
            gateway = open_gateway(way)
            try:
                findings += await _check_way(books, way, gateway, open_now)
            finally:
                await gateway.aclose()
    again = [inbox.Place(head.org_id, *finding[:4], finding.wanted) for finding in findings if finding.repair]
    if again and repair:
        async with service.database.writer.begin() as connection:
            await inbox.send_again(connection, again, service.clock())
        service.news.set()
    return findings


async def _check_way(books: Books, way: Connection, gateway: Gateway, open_now: set[tuple[str, str]]) -> list[Finding]:
    if not gateway.reads:
        return []
    free = asyncio.Semaphore(AT_ONCE)

    async def look(key: Key, credential: str) -> Finding | None:
        async with free:
            here = await gateway.read(books.org, credential)
        return None if here is None else _compare(books, key, credential, way.connection_id, here)

    places = [place for place in _commanded(books) if (place[1], way.connection_id) not in open_now]
    try:
        first = [await look(*place) for place in places[:1]]  # one question tells whether there is any use in the others
        found = [*first, *await asyncio.gather(*(look(*place) for place in places[1:]))]
    except (GatewayUnavailable, GatewayRefused) as error:
        log.error("keys_not_checked", org=books.org, connection=way.connection_id, why=str(error))
        return [Finding("", "", way.connection_id, 0, State.ACTIVE, f"not checked: {error}", False)]
    return [finding for finding in found if finding is not None]


def _commanded(books: Books) -> Iterable[tuple[Key, str]]:
    for key in books.keys.values():
        if key.revision and key.alias_of is None:
            for credential in books.credentials_of(key.key_id):
                yield key, credential


def _compare(books: Books, key: Key, credential: str, way: str, here: GatewayKey) -> Finding | None:
    """What differs between a key's wanted state and the one at its gateway, None if nothing does."""
    if here.state == key.state:
        return None
    said = books.confirmations.get((key.key_id, credential, way))
    ours = said is not None and here.mark is not None and said.mark == here.mark
    repair = here.state != State.REVOKED and (key.state is not State.ACTIVE or ours)
    return Finding(key.key_id, credential, way, key.revision, key.state, here.state, repair)


async def check_once(service: Service, open_gateway: OpenGateway) -> int:
    """Checks every org that has a connection for key commands; nothing that asks to be called again at once."""
    c, o = t.connections.c, t.orgs.c
    async with service.database.reader.connect() as connection:
        query = select(o.org).join(t.connections, c.org_id == o.org_id).where(c.direction != Direction.IN, c.gateway.in_(COMMANDED))
        names = list(await connection.scalars(query.distinct()))
    for name in names:
        async with service.database.reader.connect() as connection:
            head = await reports.head(connection, name)
        for finding in await check_org(service, head, open_gateway) if head is not None else ():
            if finding.key:
                log.warning("key_differs", org=name, connection=finding.connection, wanted=finding.wanted, found=finding.found,
                            revision=finding.revision, sent_again=finding.repair)  # fmt: skip
    return 0
