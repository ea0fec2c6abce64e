"""Owns what a connection is: one gateway's account as we know it (S8). It never holds a secret, only where one lies (S2).

It does not reach any gateway; `gateways` does, with what is said here.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

_ENV = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}")
_FILE = re.compile(r"file:/[^\x00-\x1f]{1,500}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Gateway(StrEnum):
    """Whose protocol a connection speaks."""

    OPENROUTER = "openrouter"
    LITELLM = "litellm"
    OTLP = "otlp"
    WEBHOOK = "webhook"
    HTTP = "http"


COMMANDED = frozenset({Gateway.OPENROUTER, Gateway.LITELLM, Gateway.WEBHOOK, Gateway.HTTP})  # those that take key commands
HASHED = frozenset({Gateway.OPENROUTER, Gateway.LITELLM})  # those that know a key by the hash of its secret alone


class Direction(StrEnum):
    """Whether usage comes in by a connection, key commands go out by it, or both."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway's account.

    Attributes:
      address: where its API is; None for the vendor's own, or where nothing goes out.
      token: reference to what we show the gateway when we call it.
      secret: reference to what webhooks are signed or verified with, in both directions.
      counts: false for the one of two connections of the same call whose usage adds nothing to money.
      adopt_keys: whether a sync registers keys that it finds at the gateway.
      keys: what the gateway calls a key (name, alias) → our key's id or credential.
      workspaces: the gateway's workspace or team → our workspace.
      seq: the entry that last set it, and its version.
    """

    connection_id: str
    gateway: Gateway
    address: str | None = None
    token: str | None = None
    secret: str | None = None
    direction: Direction = Direction.BOTH
    counts: bool = True
    adopt_keys: bool = False
    keys: dict[str, str] = {}
    workspaces: dict[str, str] = {}
    seq: int = 0

    @property
    def inward(self) -> bool:
        """Whether usage comes in by it."""
        return self.direction is not Direction.OUT

    @property
    def outward(self) -> bool:
        """Whether key commands go out by it."""
        return self.direction is not Direction.IN and self.gateway in COMMANDED


def is_hash(name: str) -> bool:
    """Whether a name is the hash of a secret."""
    return _HASH.fullmatch(name) is not None


def commanded_by(gateway: Gateway, names: Sequence[str]) -> Sequence[str]:
    """Those of a key's names that a gateway is told of. One that knows hashes alone is told of no others, but for the first where
    there is no hash: that nothing stops the key there has to show."""
    return ([name for name in names if is_hash(name)] or names[:1]) if gateway in HASHED else names


def is_reference(text: str) -> bool:
    """Whether a text says where a secret lies: `env:NAME` or `file:/path`."""
    return _ENV.fullmatch(text) is not None or _FILE.fullmatch(text) is not None
