"""Owns the way of messages out of the outbox. Without Kafka there is nobody to publish to: key commands go straight to the
inbox of the key agent, a table where the topic would be.

One relay at a time, in (org, seq) order: revision 2 of a key never overtakes revision 1 (K3).
"""

from .service import Service
from .store import inbox, outbox
from .store.dialect import claim
from .wire.messages import KEY_COMMANDS, parse_key_command

MOST_MESSAGES = 2_000


async def relay_once(service: Service) -> int:
    """Hands on the oldest messages, in one transaction with forgetting them; how many."""
    async with service.database.reader.connect() as connection:
        waiting = await outbox.depth(connection)
    if not waiting:
        return 0
    async with service.database.writer.begin() as connection:
        if not await claim(connection, "relay"):
            return 0
        rows = await outbox.take(connection, MOST_MESSAGES)
        commands = [(row.org_id, parse_key_command(row.payload)) for row in rows if row.topic == KEY_COMMANDS]
        await inbox.accept(connection, commands, service.clock())
        await outbox.drop(connection, rows)
    return len(rows)
