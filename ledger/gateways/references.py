"""Owns the one moment in which a secret is looked at: a reference is read when a gateway is called, and kept nowhere (S2)."""

from collections.abc import Mapping
from pathlib import Path


class SecretMissing(Exception):
    """A reference leads nowhere; the message names it, and says what to do."""


def secret_at(reference: str, environ: Mapping[str, str]) -> str:
    """The secret that `env:NAME` or `file:/path` refers to, read now. Raises SecretMissing."""
    kind, _, place = reference.partition(":")
    if kind == "env":
        secret = environ.get(place, "")
        if not secret:
            raise SecretMissing(f"{reference}: the variable is not set where this ledger runs")
        return secret
    try:
        secret = Path(place).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretMissing(f"{reference}: can't be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    if not secret:
        raise SecretMissing(f"{reference}: the file is empty")
    return secret
