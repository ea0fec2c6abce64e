"""Owns access tokens: stored as their SHA-256, shown once when they are made (T1)."""

import secrets
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from .bulk import insert_rows
from .tables import tokens

SCOPES = ("ingest", "read", "admin")


class Token(NamedTuple):
    """What a token allows. `org` None: every org; `workspace`: reading is limited to it. `admin` implies the others."""

    name: str
    scopes: tuple[str, ...]
    org: str | None
    workspace: str | None

    def may(self, scope: str) -> bool:
        """Whether it has a scope."""
        return scope in self.scopes or "admin" in self.scopes


def digest_of(text: str) -> bytes:
    """What is stored of a token."""
    return sha256(text.encode()).digest()


async def create(connection: AsyncConnection, token: Token, now_us: int, text: str | None = None) -> str:
    """Makes a token; its text, which nobody can read again."""
    text = text or f"ldg_{secrets.token_urlsafe(32)}"
    row = (digest_of(text), token.name, " ".join(token.scopes), token.org, token.workspace, now_us, None)
    await insert_rows(connection, tokens, [row])
    return text


async def find(connection: AsyncConnection, text: str) -> Token | None:
    """The token, unless nobody made it or it was revoked."""
    query = select(tokens).where(tokens.c.digest == digest_of(text), tokens.c.revoked_us.is_(None))
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else Token(row.name, tuple(row.scopes.split()), row.org, row.workspace)


async def count(connection: AsyncConnection) -> int:
    """How many were ever made."""
    return int(await connection.scalar(select(func.count()).select_from(tokens)) or 0)


async def listed(connection: AsyncConnection) -> list[dict[str, object]]:
    """All tokens, without what would let anyone use them."""
    columns = (tokens.c.name, tokens.c.scopes, tokens.c.org, tokens.c.workspace, tokens.c.created_us, tokens.c.revoked_us)
    rows = await connection.execute(select(*columns).order_by(tokens.c.created_us, tokens.c.name))
    return [dict(row._mapping) for row in rows]


async def revoke(connection: AsyncConnection, name: str, now_us: int) -> int:
    """Ends every token of a name; how many."""
    query = update(tokens).where(tokens.c.name == name, tokens.c.revoked_us.is_(None)).values(revoked_us=now_us)
    return (await connection.execute(query)).rowcount
