"""Owns what a secret looks like, and replaces it by its SHA-256 at the edge, before any log or table (S2)."""

import re
from functools import lru_cache
from hashlib import sha256

# Vendors' prefixes followed by a long run of key characters with a digit in it; JSON web tokens. Every branch begins with
# a letter of its own: only so does `re` look for all of them at once.
_SECRET = re.compile(
    "|".join(rf"{first}k(?<![A-Za-z0-9].k)[-_](?=[A-Za-z0-9_\-]*[0-9])[A-Za-z0-9_\-]{{16,}}" for first in "srp")
    + r"|AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|AIza[0-9A-Za-z_\-]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}"
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10,}|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}|xai-[A-Za-z0-9]{30,}|glpat-[A-Za-z0-9_\-]{20,}"
    r"|ldg_[A-Za-z0-9_\-]{30,}|eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"
)
_HARMLESS = re.compile(r"[0-9a-fA-F\-]*")  # UUIDs and hashes: no prefix of a secret is made of these
_HASH_LENGTH = 64
_SHORTEST = 15  # characters in the shortest secret that the pattern knows
_MOST_NAMES = 262_144  # remembered clean names: those of a large company's keys, twice over


class UnfitText(ValueError):
    """A text that PostgreSQL can't hold: it contains a NUL."""


def clean_text(text: str) -> str:
    """The text as it may be kept: without secrets. Raises UnfitText."""
    if "\0" in text:
        raise UnfitText
    if len(text) < _SHORTEST or _HARMLESS.fullmatch(text) is not None or _SECRET.search(text) is None:
        return text
    return redact(text)


clean_name = lru_cache(_MOST_NAMES)(clean_text)  # names come again and again


def redact(text: str) -> str:
    """The text with every secret in it replaced by the secret's SHA-256 in hex: for a whole key, the hash gateways use.

    Where that would make it longer than any one hash, the whole is replaced by its own.
    """
    clean = _SECRET.sub(lambda found: _hash(found[0]), text)
    return clean if len(clean) <= max(len(text), _HASH_LENGTH) else _hash(text)


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
