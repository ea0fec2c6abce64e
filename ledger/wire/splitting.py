"""Owns how JSON is read that is not quite JSON: half of a surrogate pair, as a text has that was cut in the middle of a character,
and NaN or Infinity, which Python writes. Each element of an array is refused for its own faults, not its neighbours' (T4), and not
for those of what is skipped (S7)."""

import json
import re
from decimal import Decimal

import msgspec

_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_PAIR_OR_HALF = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[89a-fA-F][0-9a-fA-F]{2})")
_BETWEEN = re.compile(rb"[\s,]*")
_NO_NUMBERS = b"NaN", b"Infinity"
_encode = msgspec.json.Encoder(decimal_format="number").encode
_ESCAPE, _NUL = 6, rb"\u0000"


def split_array(body: bytes) -> list[msgspec.Raw] | list[bytes]:
    """The elements of an array, as they were written. Raises what msgspec raises where there is no telling them apart."""
    try:
        return _decode_array(body)
    except msgspec.DecodeError:
        if _SURROGATE.search(body) is None:
            raise
    # Half of a surrogate pair somewhere, which the library reads nothing beside: they are measured with another character there.
    elements, at = list[bytes](), body.find(b"[") + 1
    for measured in _decode_array(_SURROGATE.sub(rb"\\u0020", body)):
        match = _BETWEEN.match(body, at)
        start = match.end() if match else at
        at = start + len(bytes(measured))
        elements.append(body[start:at])
    return elements


def mended(body: bytes) -> bytes | None:
    """JSON with a NUL in the place of each half of a pair, and null in that of a number that JSON does not have: harmless in what is
    skipped, refused by name where it would be kept, or nothing there. None where there is nothing to mend."""
    made = _PAIR_OR_HALF.sub(_whole, body)
    if any(word in made for word in _NO_NUMBERS):
        made = _with_nulls(made)
    return made if made != body else None


def _with_nulls(body: bytes) -> bytes:
    """As Python writes what is no number; digits stay as they are."""
    try:
        return _encode(json.loads(body, parse_float=Decimal, parse_constant=lambda _: None))
    except (ValueError, ArithmeticError, RecursionError):
        return body


def _whole(found: re.Match[bytes]) -> bytes:
    written, at = found[0], found.start()
    while at and found.string[at - 1] == 0x5C:
        at -= 1
    if (found.start() - at) % 2:  # a backslash and letters, of which only what follows can be half a pair
        return written[:_ESCAPE] + (_NUL if len(written) > _ESCAPE else b"")
    return written if len(written) > _ESCAPE else _NUL
