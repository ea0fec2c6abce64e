"""Owns what a gateway must be able to do for us: read a key's state, pause, resume and revoke it."""

from collections.abc import Collection
from typing import Protocol

import msgspec

from ..core.backstop import Backstop
from ..core.window import Period

ACCEPTED = "accepted"  # a key's state that the gateway will tell later, of itself


class GatewayKey(msgspec.Struct, frozen=True):
    """A key as its gateway has it: `active`, `paused` or `revoked`, the gateway's own change mark (K2), and its own limit."""

    state: str
    mark: str | None
    backstop: Backstop | None = None


class GatewayUnavailable(Exception):
    """No answer, or not now; trying again may help.

    Attributes:
      retry_after_s: how long the gateway wants to be left alone, if it said so.
      harmless: it is certain that nothing was changed; else the outcome is unknown (K2).
    """

    def __init__(self, message: str, retry_after_s: float | None = None, *, harmless: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.harmless = harmless


class GatewayRefused(Exception):
    """The gateway said no for good; the message says what to do about it."""


class TokenRefused(GatewayRefused):
    """The gateway does not take our token: no key of it can be commanded until a person mends that."""


class Gateway(Protocol):
    """One vendor's keys. Every call may raise GatewayUnavailable or GatewayRefused; each may be repeated safely.

    Attributes:
      reads: whether it can be asked for a key's state. One that can't keeps its people's decisions by itself (K2).
      periods: those that it can keep a limit of its own for.
    """

    reads: bool
    periods: Collection[Period]

    async def read(self, org: str, credential: str) -> GatewayKey | None:
        """The key as it is; None if the gateway does not know it."""
        ...

    async def pause(self, org: str, credential: str, revision: int) -> GatewayKey:
        """Stops the key; as it is afterwards."""
        ...

    async def resume(self, org: str, credential: str, revision: int) -> GatewayKey:
        """Lets the key work again; as it is afterwards."""
        ...

    async def revoke(self, org: str, credential: str, revision: int) -> GatewayKey:
        """Ends the key for good; as it is afterwards."""
        ...

    async def keep(self, credential: str, backstop: Backstop) -> None:
        """Sets the gateway's own limit on the key. Never asked of a gateway without `periods`."""
        ...

    async def aclose(self) -> None:
        """Closes its connections."""
        ...
