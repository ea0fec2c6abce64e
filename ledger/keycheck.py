"""Owns the comparison of what we want of keys with what is at each gateway, and the repair of what is ours (K2, K3).

A key that should be stopped and is not, is stopped again, whoever let it go. One that should work and is paused there is let go only
where that pause was ours. What was given up is tried again as soon as its gateway answers. A gateway's own limit is set where a cap
has a backstop. Nothing is asked about other keys that were never commanded, and nothing more of a gateway that does not answer or
refuses our token; one key that it has no answer for holds up no other (K5).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from sqlalchemy import select

from .core.backstop import Backstop, backstop
from .core.books import Books
from .core.caps import Cap, limit_text
from .core.connections import COMMANDED, Connection, Direction
from .core.keys import Key, State
from .gateways.gateway import Gateway, GatewayKey, GatewayRefused, GatewayUnavailable, TokenRefused
from .service import Service
from .store import books as projections
from .store import inbox, reports
from .store import tables as t

AT_ONCE = 16
FAILURES_IN_A_ROW = 3  # before a gateway is taken to be down
OpenGateway = Callable[[Connection], Gateway]

log = structlog.get_logger()


STATE, BACKSTOP = "state", "backstop"
NOT_CHECKED = "not checked: "  # what begins so was not compared, and why


class Finding(NamedTuple):
    """What a check found of one credential at one connection.

    `what`: its state, or the gateway's own limit on it. `repair`: the command is sent again, or the limit set.
    """

    key: str
    credential: str
    connection: str
    revision: int
    wanted: str
    found: str
    repair: bool
    what: str = STATE


async def check_org(service: Service, head: reports.Head, open_gateway: OpenGateway, *, repair: bool = True) -> list[Finding]:
    """Compares an org's keys with its gateways, those that were commanded or have a backstop; what differs, and was repaired."""
    async with service.database.snapshot() as connection:
        books = (await projections.load(connection, {head.org: head.org_id}))[head.org]
        open_now = await inbox.open_places(connection, head.org_id)
    findings: list[Finding] = []
    answered = False
    for way in books.connections.values():
        if way.outward:
            gateway = open_gateway(way)
            try:
                found, reached = await _check_way(books, way, gateway, open_now, repair)
            finally:
                await gateway.aclose()
            findings += found
            answered |= reached
    again = [
        inbox.Place(head.org_id, found.key, found.credential, found.connection, found.revision, found.wanted)
        for found in findings
        if found.repair and found.what == STATE
    ]
    if answered and repair:
        async with service.database.writer.begin() as connection:
            await inbox.leave_to_connections(connection, head.org_id)
            await inbox.send_again(connection, again, service.clock())
        service.news.set()
    return findings


async def _check_way(
    books: Books, way: Connection, gateway: Gateway, open_now: set[tuple[str, str]], repair: bool
) -> tuple[list[Finding], bool]:  # fmt: skip
    """What differs at a gateway, and whether it answers."""
    if not gateway.reads:
        return [], False
    free = asyncio.Semaphore(AT_ONCE)
    lost: list[str] = []  # why, of those in a row that had no answer
    answered = 0

    async def look(key: Key, credential: str) -> list[Finding]:
        nonlocal answered
        async with free:
            if len(lost) >= FAILURES_IN_A_ROW:
                return []
            try:
                here = await gateway.read(books.org, credential)
                found = [_compare(books, key, credential, way.connection_id, here) if here and key.revision else None]
                found += [await _keep(books, key, credential, way.connection_id, gateway, here, repair) if here else None]
            except (GatewayUnavailable, GatewayRefused) as error:
                lost.extend([str(error)] * (FAILURES_IN_A_ROW if isinstance(error, TokenRefused) else 1))
                return [Finding(key.key_id, credential, way.connection_id, key.revision, key.state, f"{NOT_CHECKED}{error}", False)]
            answered += 1
            if len(lost) < FAILURES_IN_A_ROW:
                lost.clear()
        return [finding for finding in found if finding is not None]

    places = [place for place in _checked(books) if (place[1], way.connection_id) not in open_now]
    some = [await look(*place) for place in places[:1]]  # one question tells whether there is any use in the others
    some += await asyncio.gather(*(look(*place) for place in places[1:]))
    found = [finding for one in some for finding in one]
    if len(lost) < FAILURES_IN_A_ROW and (answered or not places):
        return found, True
    log.error("keys_not_checked", org=books.org, connection=way.connection_id, why=lost[-1])
    rest = Finding("", "", way.connection_id, 0, State.ACTIVE, f"{NOT_CHECKED}{lost[-1]}", False)
    return [*(found if answered else ()), rest], answered > 0


def _checked(books: Books) -> Iterable[tuple[Key, str]]:
    for key in books.keys.values():
        if key.alias_of is None and (key.revision or (not key.deleted and _backstopped(books, key))):
            for credential in books.credentials_of(key.key_id):
                yield key, credential


def _backstopped(books: Books, key: Key) -> list[Cap]:
    return [cap for cap in books.caps_on(f"key:{key.key_id}") if cap.rule.backstop_percent is not None]


def _compare(books: Books, key: Key, credential: str, way: str, here: GatewayKey) -> Finding | None:
    """What differs between a key's wanted state and the one at its gateway, None if nothing does."""
    if here.state == key.state:
        return None
    said = books.confirmations.get((key.key_id, credential, way))
    ours = said is not None and here.mark is not None and said.mark == here.mark
    repair = here.state != State.REVOKED and (key.state is not State.ACTIVE or ours)
    return Finding(key.key_id, credential, way, key.revision, key.state, here.state, repair)


async def _keep(
    books: Books, key: Key, credential: str, way: str, gateway: Gateway, here: GatewayKey, repair: bool
) -> Finding | None:  # fmt: skip
    """Has a gateway keep the limit that a cap's backstop asks for; what differed.

    Only while the key works: a change moves the mark by which a pause is known as ours (K2)."""
    caps = _backstopped(books, key)
    if not caps or here.state != State.ACTIVE or key.state is not State.ACTIVE:
        return None
    wanted = backstop(caps, gateway.periods)
    about = (key.key_id, credential, way, key.revision)
    if wanted is None:
        return Finding(*about, f"a limit per {caps[0].rule.period}", "the gateway has none for such a period", False, BACKSTOP)
    if wanted == here.backstop:
        return None
    found = _limit_text(here.backstop)
    if repair:
        try:
            await gateway.keep(credential, wanted)
        except GatewayRefused as error:
            return Finding(*about, _limit_text(wanted), f"{found}; {error}", False, BACKSTOP)
    return Finding(*about, _limit_text(wanted), found, True, BACKSTOP)


def _limit_text(limit: Backstop | None) -> str:
    return "no limit" if limit is None else limit_text(limit.limit, limit.period)


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
                log.warning("key_differs", org=name, connection=finding.connection, what=finding.what, wanted=finding.wanted,
                            found=finding.found, revision=finding.revision, repaired=finding.repair)  # fmt: skip
    return 0
