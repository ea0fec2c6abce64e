"""Owns the keys of a LiteLLM proxy: blocked, unblocked and deleted, by the key's hash.

It has no change mark that only people move: `updated_at` moves with every call's spend. So a key that was blocked before we
came is not ours to unblock, and one that we blocked is; a person who blocks it again after that is not told apart (K2).
"""

import re
from urllib.parse import quote

import msgspec

from .calling import Answer, Caller
from .gateway import GatewayKey

_HASH = re.compile(r"[0-9a-f]{64}")
BLOCKED = "blocked"


class _Info(msgspec.Struct):
    blocked: bool | None = None


class _Answer(msgspec.Struct):
    info: _Info


class LiteLLM:
    """One LiteLLM proxy."""

    reads = True

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.aclose = caller.aclose

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """See `Gateway.read`."""
        if not _HASH.fullmatch(credential):
            return None
        answer = await self._caller.ask("GET", f"/key/info?key={quote(credential, safe='')}")
        if answer.status == 404:
            return None
        return GatewayKey("paused", BLOCKED) if answer.done().read(_Answer).info.blocked else GatewayKey("active", None)

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.pause`."""
        return await self._block(credential, "block", True)

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.resume`."""
        return await self._block(credential, "unblock", False)

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """See `Gateway.revoke`. A key that is not there any more is what was wanted."""
        answer: Answer = await self._caller.ask("POST", "/key/delete", {"keys": [credential]})
        if answer.status != 404:
            answer.done()
        return GatewayKey("revoked", None)

    async def _block(self, credential: str, verb: str, blocked: bool) -> GatewayKey:
        said = (await self._caller.ask("POST", f"/key/{verb}", {"key": credential})).done().read(_Info)
        done = blocked if said.blocked is None else said.blocked
        return GatewayKey("paused", BLOCKED) if done else GatewayKey("active", None)
