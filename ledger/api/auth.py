"""Owns who may do what (T1): a token, its scopes, its org. The answer for an org that a token has no business with is the same
whether that org exists or not."""

import time
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ..service import Service
from ..store import tokens
from ..store.away import is_away
from ..store.tokens import Token
from .problems import Problem
from .values import OrgId

REMEMBERED_S = 2.0  # a revoked token is refused after at most this long
MOST_REMEMBERED = 10_000
_bearer = HTTPBearer(auto_error=False, description="A token made by `ledger tokens create`")


class Gate:
    """Looks tokens up, and remembers them for a moment."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._remembered: dict[bytes, tuple[float, Token]] = {}

    async def enter(self, text: str) -> Token:
        """The token. Raises Problem 401."""
        digest, now = tokens.digest_of(text), time.monotonic()
        until, token = self._remembered.get(digest, (0.0, None))
        if token is None or until < now:
            try:
                async with self.service.database.reader.connect() as connection:
                    token = await tokens.find(connection, text)
            except Exception as error:
                if token is None or not is_away(error):
                    raise  # one that was known holds on while the database is away: usage goes on to Kafka
            if token is None:
                self._remembered.pop(digest, None)
                raise Problem(401, "the token is not known, or was revoked", headers={"WWW-Authenticate": "Bearer"})
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[digest] = (now + REMEMBERED_S, token)
        return token


async def authenticated(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Token:
    """The caller's token."""
    if given is None:
        raise Problem(401, "send a token: Authorization: Bearer …", headers={"WWW-Authenticate": "Bearer"})
    return await request.app.state.gate.enter(given.credentials)


async def entering(request: Request) -> Token:
    """The caller's token, for whoever asks for it before the framework reads the request's body and its parameters."""
    return await authenticated(request, await _bearer(request))


Caller = Annotated[Token, Depends(authenticated)]


def allow(token: Token, scope: str, org: str | None) -> None:
    """Raises Problem 403 unless the token has the scope, for this org (None: for all of them)."""
    if not token.may(scope):
        raise Problem(403, f"this token may not {scope}: it may {', '.join(token.scopes)}")
    if token.org is not None and token.org != org:
        raise Problem(403, "this token is for another org")


async def reading(caller: Caller, org: OrgId) -> Token:
    """May read this org; routes that show more than a workspace's own must look at `workspace` too."""
    allow(caller, "read", org)
    return caller


async def reading_all(caller: Caller, org: OrgId) -> Token:
    """May read the whole org."""
    allow(caller, "read", org)
    if caller.workspace is not None and not caller.may("admin"):
        raise Problem(403, "this token reads one workspace only")
    return caller


async def changing(caller: Caller, org: OrgId) -> Token:
    """May change this org."""
    allow(caller, "admin", org)
    return caller


Reader = Annotated[Token, Depends(reading)]
OrgReader = Annotated[Token, Depends(reading_all)]
Admin = Annotated[Token, Depends(changing)]
