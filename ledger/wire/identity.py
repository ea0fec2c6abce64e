"""Owns what is the same thing sent again: the identity of whatever makes an entry (J2)."""

from hashlib import blake2b

_BASE32 = {character: value for value, character in enumerate("0123456789ABCDEFGHJKMNPQRSTVWXYZ")}


def identity(org: str, source: str, event_id: str) -> bytes:
    """The 16-byte identity of (org, source, id) (J2).

    Where the id carries its own time (UUIDv7, ULID) the first six bytes are that, so that new identities lie together
    in an index and the rest is a hash; else all of it is. Two ids never share one: 80 bits and more are hashed.
    """
    digest = blake2b(f"{org}\0{source}\0{event_id}".encode(), digest_size=16).digest()
    if len(event_id) == 36 and event_id[14] == "7":
        try:
            return bytes.fromhex(event_id[:8] + event_id[9:13])[:6].ljust(6, b"\0") + digest[6:]
        except ValueError:
            return digest
    if len(event_id) == 26 and event_id[0] < "8" and all(character in _BASE32 for character in event_id[:10]):
        moment = 0
        for character in event_id[:10]:
            moment = moment << 5 | _BASE32[character]
        return (moment & 0xFFFFFFFFFFFF).to_bytes(6, "big") + digest[6:]
    return digest


def own_identity(org: str, door: str, request: str) -> bytes:
    """The identity of what is booked here for a request that is no usage: no sender can take it, since no source holds a NUL."""
    return identity(org, f"\0{door}", request)
