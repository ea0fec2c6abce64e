"""Owns the examination of a ledger: every dependency reached, and for whatever is wrong, what to do about it. Changes nothing."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from sqlalchemy import and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from .core.window import HOUR_US, SECOND_US, is_zone
from .gateways.calling import OWN_ADDRESS
from .gateways.references import SecretMissing, secret_at
from .kafka import TOPICS, Kafka, admin, answer, missing_topics
from .store import rates, tokens
from .store import tables as t
from .store.books import connection_of
from .store.dialect import Database, is_postgres
from .store.gauges import first_orgs, read_now, read_slow, troubled
from .store.inbox import ANYWHERE, OPEN
from .store.schema import is_current, unknown

WITHIN_S = 5.0
CLOCK_WARN_US, CLOCK_WRONG_US = 2 * SECOND_US, 60 * SECOND_US  # at five minutes usage is parked as from the future (W3)
LATE_US = 60 * SECOND_US
CARD_OLD_US = 30 * 24 * HOUR_US
_CONNECT = "it waits: declare the gateway under `connections` in the policy file, or have it ask for its commands and confirm them by HTTP"


class Level(StrEnum):
    """How a finding is."""

    WELL = "well"
    WARN = "warn"
    WRONG = "wrong"


class Finding(NamedTuple):
    """One thing that was looked at: how it is, in words, and what to do where it is not well."""

    about: str
    level: Level
    said: str
    do: str = ""


class Patient(NamedTuple):
    """What is examined."""

    database: Database
    kafka: Kafka | None
    environ: Mapping[str, str]
    clock: Callable[[], int]


async def examine(patient: Patient) -> AsyncIterator[Finding]:
    """Findings, as they are made. Whatever does not answer within a few seconds is one; what stands on it is left out then."""
    current = newer = None
    if missing := patient.database.missing():
        do = "is LEDGER_DATABASE_URL right? `ledger migrate` makes a new one there, as `ledger serve` does"
        yield Finding("database", Level.WRONG, f"{missing} is not there", do)
    else:
        try:
            async with asyncio.timeout(WITHIN_S), patient.database.snapshot() as connection:
                yield Finding("database", Level.WELL, await _version(connection))
                current, newer = await is_current(connection), await unknown(connection)
        except Exception as error:
            yield _unread(error)
    if current is not None:
        yield Finding("schema", Level.WRONG, newer) if newer else _schema(current)
    if current:
        for about, look in _OF_BOOKS.items():
            async for finding in _looked(about, look, patient):
                yield finding
    if patient.kafka is None:
        yield Finding("kafka", Level.WELL, "none: `ledger serve` does everything by itself")
    else:
        async for finding in _looked("kafka", _kafka, patient):
            yield finding


Look = Callable[[Patient], Coroutine[Any, Any, list[Finding]]]


async def _looked(about: str, look: Look, patient: Patient) -> AsyncIterator[Finding]:
    try:
        async with asyncio.timeout(2 * WITHIN_S):
            findings = await look(patient)
    except Exception as error:
        said = f"can't be examined: {str(getattr(error, 'orig', None) or error) or type(error).__name__}"
        findings = [Finding(about, Level.WRONG, said, "mend what is wrong above, then ask again")]
    for finding in findings:
        yield finding


def _unread(error: Exception) -> Finding:
    cause = getattr(error, "orig", None) or error
    why, do = str(cause) or type(cause).__name__, "is LEDGER_DATABASE_URL right, and is the database running?"
    if "not a database" in why:
        return Finding("database", Level.WRONG, "the file is no SQLite database", "mend LEDGER_DATABASE_URL, or move the file away")
    if "prepared statement" in why:
        do = "a pooler lends its connections by transaction: have it lend them by session, or go past it"
    return Finding("database", Level.WRONG, f"does not answer: {why}", do)


async def _version(connection: AsyncConnection) -> str:
    if is_postgres(connection):
        return f"PostgreSQL {await connection.scalar(text('SHOW server_version'))}"
    return f"SQLite {await connection.scalar(text('SELECT sqlite_version()'))}"


def _schema(current: bool) -> Finding:
    if current:
        return Finding("schema", Level.WELL, "at head")
    return Finding("schema", Level.WRONG, "is not this version's", "run `ledger migrate`")


async def _clock(patient: Patient) -> list[Finding]:
    async with patient.database.snapshot() as connection:
        latest_us = int(await connection.scalar(select(func.max(t.orgs.c.recorded_us))) or 0)
        apart_us = 0
        if is_postgres(connection):
            before_us = patient.clock()
            theirs_us = await connection.scalar(text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"))
            apart_us = int(theirs_us or 0) - (before_us + patient.clock()) // 2
    ahead_us = latest_us - patient.clock()
    if ahead_us > CLOCK_WRONG_US:
        said = f"the books were last written {_span(ahead_us)} from now: this clock, or one before it, is wrong"
        return [Finding("clock", Level.WRONG, said, "set the clock by NTP; until then time stands still in the books (W5)")]
    if abs(apart_us) > CLOCK_WARN_US:
        level = Level.WRONG if abs(apart_us) > CLOCK_WRONG_US else Level.WARN
        return [Finding("clock", level, f"{_span(abs(apart_us))} from the database's", "set both clocks by NTP")]
    return [Finding("clock", Level.WELL, "agrees with the database's")]


async def _tokens(patient: Patient) -> list[Finding]:
    async with patient.database.snapshot() as connection:
        valid = [row for row in await tokens.listed(connection) if row["revoked_us"] is None]
    admins = [row for row in valid if "admin" in str(row["scopes"]).split()]
    if not admins:
        do = "`ledger tokens create NAME --scope admin`"
        return [Finding("tokens", Level.WRONG, f"{len(valid)} are valid, none of them for admin: nobody can set a cap over HTTP", do)]
    return [Finding("tokens", Level.WELL, f"{len(valid)} are valid, {len(admins)} for admin")]


async def _rate_card(patient: Patient) -> list[Finding]:
    async with patient.database.snapshot() as connection:
        age_us = await rates.age_us(connection, patient.clock())
    if age_us is None:
        return [
            Finding("rate card", Level.WARN, "no price list was ever taken in: calls without a cost are unpriced", "`ledger rates sync`")
        ]
    if age_us > CARD_OLD_US:
        return [Finding("rate card", Level.WARN, f"is {_span(age_us)} old", "`ledger rates sync`")]
    return [Finding("rate card", Level.WELL, f"is {_span(age_us)} old")]


async def _books(patient: Patient) -> list[Finding]:
    now_us = patient.clock()
    async with patient.database.snapshot() as connection:
        now, slow = await read_now(connection, now_us), await read_slow(connection, now_us)
        whose = {trouble: ", ".join(orgs) for trouble, orgs in (await troubled(connection)).items()}
        zones = list(await connection.scalars(select(t.orgs.c.zone).distinct()))
    found = [
        Finding("zones", Level.WRONG, f"{zone} is not in this machine's tz data", "update tzdata") for zone in zones if not is_zone(zone)
    ]
    if slow.drift:
        said = f"{slow.drift} orgs' day is not the sum of its parts"
        found.append(Finding("books", Level.WRONG, said, "`ledger verify` names the first difference, `ledger replay` mends it"))
    if slow.uncapped:
        do = "set a guardrail with `each: key, in: [org]`"
        found.append(Finding("caps", Level.WARN, f"{slow.uncapped} keys are under no cap: nothing stops them", do))
    if now.outbox_since_us is not None and now_us - now.outbox_since_us > LATE_US:
        said = f"{now.outbox} messages wait, the oldest for {_span(now_us - now.outbox_since_us)}"
        found.append(Finding("outbox", Level.WRONG, said, "is `ledger serve`, or `python -m consumers relay`, running?"))
    if now.refused:
        said = f"{now.refused} were refused, and are not tried again; orgs: {whose['refused']}"
        do = "`ledger get commands` shows the gateway's own words; mended, `ledger keys check` sends them again"
        found.append(Finding("key commands", Level.WRONG, said, do))
    if now.leaking:
        said = f"{now.leaking} spend though their pause was confirmed; orgs: {whose['leaking']}"
        found.append(Finding("keys", Level.WRONG, said, "`ledger get keys` names them: stop them at the vendor by hand"))
    well = Finding("books", Level.WELL, f"{now.entries:,} entries of {now.orgs} orgs, {sum(slow.keys.values()):,} keys; today adds up")
    return found if slow.drift else [well, *found]


async def _commands(patient: Patient) -> list[Finding]:
    """What gateways have not confirmed: those that the ledger calls, and those of no connection, which act by themselves (K3)."""
    c, now_us = t.commands.c, patient.clock()
    late = and_(c.delivery.in_(OPEN), c.created_us < now_us - LATE_US)
    found: list[Finding] = []
    async with patient.database.snapshot() as connection:
        for where, level, whom, do in (
            (c.connection != ANYWHERE, Level.WRONG, "", "`ledger get commands` shows the gateway's own words"),
            (c.connection == ANYWHERE, Level.WARN, " by a gateway that the ledger has no connection to", _CONNECT),
        ):
            since_us = await connection.scalar(select(func.min(c.created_us)).where(late, where))
            if since_us is not None:
                orgs = ", ".join(await first_orgs(connection, select(c.org_id).where(late, where)))
                said = f"one is unconfirmed for {_span(now_us - since_us)}{whom}; orgs: {orgs}"
                found.append(Finding("key commands", level, said, do))
    return found


async def _replica(patient: Patient) -> list[Finding]:
    database, entries = patient.database, select(func.coalesce(func.sum(t.orgs.c.seq), 0))
    if database.replica is database.reader:
        return []
    async with database.snapshot() as connection:
        here = int(await connection.scalar(entries) or 0)
    try:
        async with database.reporting.snapshot() as connection:
            behind = here - int(await connection.scalar(entries) or 0)
    except Exception as error:
        said = f"does not answer: {getattr(error, 'orig', None) or error}"
        return [Finding("replica", Level.WRONG, said, "is LEDGER_READ_DATABASE_URL right? Balances and reports are asked of it")]
    if behind > 0:
        return [Finding("replica", Level.WARN, f"is {behind:,} entries behind", "balances and reports are of its seq, as they say")]
    return [Finding("replica", Level.WELL, "shows every entry")]


async def _gateways(patient: Patient) -> list[Finding]:
    async with patient.database.snapshot() as connection:
        query = select(t.orgs.c.org, t.connections).join(t.orgs, t.orgs.c.org_id == t.connections.c.org_id)
        rows = [(row.org, connection_of(row)) for row in await connection.execute(query.order_by(t.orgs.c.org).limit(100))]
    found: list[Finding] = []
    for org, one in rows:
        about = f"gateway {org}/{one.connection_id}"
        lost = [why for reference in (one.token, one.secret) if reference and (why := _missing(reference, patient.environ))]
        found += [Finding(about, Level.WRONG, why, "set it where every process of the ledger runs") for why in lost]
        if not lost:
            found.append(await _reached(about, one.address or OWN_ADDRESS.get(one.gateway)))
    return found


def _missing(reference: str, environ: Mapping[str, str]) -> str | None:
    try:
        secret_at(reference, environ)
    except SecretMissing as error:
        return str(error)
    return None


async def _reached(about: str, address: str | None) -> Finding:
    if address is None:
        return Finding(about, Level.WELL, "nothing is sent to it")
    place = urlsplit(address)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        async with asyncio.timeout(WITHIN_S):
            _, writer = await asyncio.open_connection(place.hostname, port)
        writer.close()
    except (OSError, TimeoutError) as error:
        said = f"{place.hostname}:{port} can't be reached: {getattr(error, 'strerror', None) or type(error).__name__}"
        return Finding(about, Level.WRONG, said, "is the connection's address right, and may this machine go there?")
    return Finding(about, Level.WELL, f"{place.hostname}:{port} answers")


async def _kafka(patient: Patient) -> list[Finding]:
    kafka = patient.kafka
    assert kafka is not None
    began = time.monotonic()
    try:
        async with admin(kafka) as client:
            brokers = len((await answer(client.describe_cluster))["brokers"])
            missing = await missing_topics(client, kafka, (topic.name for topic in TOPICS))
            wrong = [] if missing else await answer(lambda: _settings_apart(client, kafka))
    except KafkaError as error:
        said = f"{kafka.bootstrap} does not answer: {error}"
        do = "are LEDGER_KAFKA_BOOTSTRAP_SERVERS, its protocol and password right, and is Kafka running?"
        return [Finding("kafka", Level.WRONG, said, do)]
    found = [Finding("kafka", Level.WELL, f"{brokers} brokers, {(time.monotonic() - began) * 1000:.0f} ms")]
    if missing:
        found.append(Finding("topics", Level.WRONG, f"missing: {', '.join(missing)}", "`ledger topics create`"))
    elif wrong is None:
        found.append(Finding("topics", Level.WELL, f"all {len(TOPICS)} are there; how they are set, this user may not see"))
    elif wrong:
        found.append(Finding("topics", Level.WARN, "; ".join(wrong), "`ledger topics create` sets them again"))
    else:
        found.append(Finding("topics", Level.WELL, f"all {len(TOPICS)} are there, as they should be"))
    return found


async def _settings_apart(client: Any, kafka: Kafka) -> list[str] | None:
    """What of our topics' settings is not as `ledger topics create` makes it; None where the broker's access lists hide that."""
    apart: list[str] = []
    for topic in TOPICS:
        name = kafka.topic(topic.name)
        (answer,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        code, _, _, _, rows = answer.resources[0]
        if code == TopicAuthorizationFailedError.errno:
            return None
        here = {row[0]: row[1] for row in rows}
        apart += [f"{name}: {key} is {here.get(key)}, not {value}" for key, value in topic.config.items() if here.get(key) != value]
    return apart


def _span(us: int) -> str:
    """A length of time for people."""
    seconds = us / SECOND_US
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


_OF_BOOKS: dict[str, Look] = {
    "clock": _clock, "tokens": _tokens, "rate card": _rate_card, "books": _books, "key commands": _commands, "replica": _replica,
    "gateways": _gateways,
}  # fmt: skip
