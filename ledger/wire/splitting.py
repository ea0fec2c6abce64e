"""Owns how a JSON array is cut into its elements, which are not read yet: each is refused for its own faults, not its neighbours' (T4)."""

import re

import msgspec

_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_BETWEEN = re.compile(rb"[\s,]*")


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
