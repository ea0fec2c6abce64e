"""Owns what connections report that count nothing (S8): kept to be compared, outside the journal, since it books nothing.

A call that passes two gateways is counted by one of them; the other's word for it is here, by the provider's response id.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from ..core.commands import RecordUsage
from .bulk import upsert_rows
from .tables import observed


async def keep(connection: AsyncConnection, org_id: int, connection_id: str, commands: Sequence[RecordUsage]) -> None:
    """Keeps calls as reported, once each, however often they are sent."""
    rows = {
        command.digest: (
            org_id, command.digest, connection_id, command.time_us, command.usage.response_id, command.usage.key, command.usage.model,
            command.cost, command.usage.input_tokens, command.usage.output_tokens,
        )
        for command in commands
    }  # fmt: skip
    await upsert_rows(connection, observed, sorted(rows.values(), key=lambda row: row[:2]))
