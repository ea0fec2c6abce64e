"""Owns the one moment in which a secret is looked at: a reference is read when a gateway is called, and kept nowhere (S2)."""

from collections.abc import Mapping
from pathlib import Path


class SecretMissing(Exception):
    """A reference leads nowhere; the message names it, and says what to do."""


def secret_at(reference: str, environ: Mapping[str, str]) -> str:
    """The secret that `env:NAME` or `file:/path` refers to, read now. Raises SecretMissing."""
    kind, _, place = reference.partition(":")
    if kind == "env":
        secret, empty = environ.get(place, "").strip(), "the variable is not set where this ledger runs"
    else:
        secret, empty = _of_file(reference, place), "the file is empty"
    if not secret:
        raise SecretMissing(f"{reference}: {empty}")
    if not secret.isprintable():  # no header can carry it
        raise SecretMissing(f"{reference}: holds a line break or another control character: a secret is one line of text")
    return secret


def _of_file(reference: str, place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretMissing(f"{reference}: can't be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
