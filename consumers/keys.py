"""Owns the way of key commands from their topic into the inbox of the key agent: accepted, then acknowledged."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog
from aiokafka import ConsumerRecord

from consumers.waiting import until_done
from ledger.service import Service
from ledger.store import books, inbox
from ledger.wire.messages import parse_key_command

log = structlog.get_logger()


async def accept(service: Service, records: Sequence[ConsumerRecord[bytes | None, bytes | None]], accepted: asyncio.Event) -> None:
    """Takes key commands in, waiting while the database is away; `accepted` wakes the agent.

    A record that is no key command of ours is passed over: only the relay writes here.
    """
    commands = []
    for record in records:
        try:
            commands.append(parse_key_command(record.value or b""))
        except msgspec.DecodeError as error:
            log.error("not_a_key_command", partition=record.partition, offset=record.offset, why=str(error))

    async def take() -> None:
        async with service.database.writer.begin() as connection:
            heads = await books.heads(connection, sorted({command.org for command in commands}), open_new=False)
            mine = [(heads[command.org][0], command) for command in commands if command.org in heads]
            await inbox.accept(connection, mine, service.clock())

    await until_done(take, "key_commands_not_accepted")
    accepted.set()
