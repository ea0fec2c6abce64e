"""Owns `data_base64`: how a structured CloudEvent carries data that its sender held as bytes, as the JavaScript SDK does."""

from base64 import b64decode

import msgspec

_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


def unpacked(event: bytes) -> bytes | None:
    """The event with what was packed for its `data`, or the text itself where that is no JSON in base64; None where nothing is packed."""
    if b'"data_base64"' not in event:
        return None
    try:
        parts = _decode_parts(event)
    except (ValueError, RecursionError):
        return None
    packed = parts.pop("data_base64", None)
    if packed is None or "data" in parts:
        return None
    try:
        parts["data"] = _decode_raw(b64decode(_decode_text(packed), validate=True))
    except (ValueError, RecursionError):  # what base64 and msgspec raise
        parts["data"] = packed
    return msgspec.json.encode(parts)
