"""Owns OpenRouter's keys: disabled, enabled and deleted with a management key, by the key's hash.

`updated_at` is its change mark (K2). What is not a hash is no key there, and is not asked for.
"""

import re
from typing import Any
from urllib.parse import quote

import msgspec

from .calling import Answer, Caller
from .gateway import GatewayKey

_HASH = re.compile(r"[0-9a-f]{64}")


class _Key(msgspec.Struct):
    disabled: bool
    updated_at: str | None = None

    def shown(self) -> GatewayKey:
        return GatewayKey("paused" if self.disabled else "active", self.updated_at)


class _Answer(msgspec.Struct):
    data: _Key


class OpenRouter:
    """One OpenRouter account."""

    reads = True

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.aclose = caller.aclose

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """See `Gateway.read`."""
        if not _HASH.fullmatch(credential):
            return None
        answer = await self._ask("GET", credential)
        return None if answer.status == 404 else answer.done().read(_Answer).data.shown()

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._disable(credential, True)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._disable(credential, False)

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`. A key that is not there any more is what was wanted."""
        answer = await self._ask("DELETE", credential)
        if answer.status != 404:
            answer.done()
        return GatewayKey("revoked", None)

    async def _disable(self, credential: str, disabled: bool) -> GatewayKey:
        return (await self._ask("PATCH", credential, {"disabled": disabled})).done().read(_Answer).data.shown()

    async def _ask(self, method: str, credential: str, body: Any = None) -> Answer:
        return await self._caller.ask(method, f"/api/v1/keys/{quote(credential, safe='')}", body)
