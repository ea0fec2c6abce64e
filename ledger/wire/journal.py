"""Owns how entries that are not usage are written in the journal: JSON, tagged by their class's name."""

import msgspec

from ..core.entries import AnyFact

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(AnyFact).decode


def encode_fact(fact: AnyFact) -> str:
    """An entry as JSON text."""
    return _encode(fact).decode()


def decode_fact(text: str | bytes) -> AnyFact:
    """An entry from what `encode_fact` wrote. Raises msgspec.DecodeError for anything else: the journal is damaged."""
    return _decode(text)
