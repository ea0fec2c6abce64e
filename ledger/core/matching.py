"""Owns how a gateway's keys are matched with ours, and its figures with ours: values in, values out; it guesses nothing.

A hash is one key's for ever; a name is a key's only while no other key there has it (S1, S8).
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

import msgspec

from .connections import Connection, is_hash
from .money import Nanos
from .window import Period

MOST_ID = 128


class VendorKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as its gateway has it.

    Attributes:
      credential: its hash. name: what people call it there; not unique. workspace: its workspace's id there.
      limit: nano-USD for a `period`; None: no limit. left: nano-USD of it that is not spent.
    """

    credential: str
    name: str
    workspace: str | None = None
    disabled: bool = False
    limit: Nanos | None = None
    left: Nanos | None = None
    period: Period = Period.LIFETIME
    include_byok: bool = False


class Link(msgspec.Struct, frozen=True):
    """A key of ours and the credentials it is to have. `workspace` is set for a key that is new."""

    key: str
    credentials: tuple[str, ...]
    workspace: str | None = None
    new: bool = False


class Matched(msgspec.Struct):
    """What a look at a gateway's keys came to.

    Attributes:
      links: what is to be set. ambiguous: names that several keys there share, with their hashes.
      unknown: keys there that are nobody's here. vanished: names and hashes known here that are not there any more.
    """

    links: list[Link]
    ambiguous: dict[str, list[str]]
    unknown: list[VendorKey]
    vanished: list[str]


def match(theirs: Sequence[VendorKey], ours: Mapping[str, Sequence[str]], connection: Connection, *, only: bool) -> Matched:
    """Matches a gateway's keys with ours (key → its credentials). `only`: no other connection's hashes are among ours."""
    owners = {name: key for key, names in ours.items() for name in (*names, key)}
    shared = {name for name, count in Counter(key.name for key in theirs).items() if count > 1}
    wanted: dict[str, list[str]] = {}
    fresh: dict[str, str | None] = {}
    unknown: list[VendorKey] = []
    for key in theirs:
        owner = owners.get(key.credential)
        if owner is None and key.name not in shared:
            mapped = connection.keys.get(key.name)
            owner = owners.get(mapped if mapped is not None else key.name, mapped)
        if owner is None and connection.adopt_keys:
            owner = new_id(key, fresh, shared)  # a name that is somebody's here led to an owner, or is shared
        if owner is None:
            unknown.append(key)
            continue
        if owner not in ours:
            fresh[owner] = connection.workspaces.get(key.workspace or "")
        names = wanted.setdefault(owner, list(ours.get(owner, ())))
        fit = key.name != owner and owners.get(key.name, owner) == owner and _fits(key.name, connection, owner)
        names += [name for name in (key.credential, key.name if fit else "") if name and name not in names]
    for names in wanted.values():
        names[:] = [name for name in names if name not in shared]
    changed = {key: tuple(names) for key, names in wanted.items() if tuple(names) != tuple(ours.get(key, ()))}
    links = [Link(key, names, fresh.get(key), key in fresh) for key, names in changed.items()]
    there = {key.credential for key in theirs} | {key.name for key in theirs}
    gone = [name for name in connection.keys if name not in there]
    gone += [name for name in owners if only and is_hash(name) and name not in there]
    ambiguous = {name: [key.credential for key in theirs if key.name == name] for name in sorted(shared)}
    return Matched(links, ambiguous, unknown, gone)


def _fits(name: str, connection: Connection, owner: str) -> bool:
    """Whether a name is fit to be a credential: the map does not give it to another key, and it is no longer than an id."""
    return len(name) <= MOST_ID and connection.keys.get(name, owner) == owner


def new_id(key: VendorKey, taken: Collection[str], shared: Collection[str]) -> str:
    """An id for a key that is adopted: its name, with the beginning of its hash where that is not its own."""
    own = key.name and len(key.name) <= MOST_ID and key.name not in taken and key.name not in shared
    return key.name if own else f"{key.name[: MOST_ID - 9] or 'key'}-{key.credential[:8]}"


class DayVerdict(StrEnum):
    """How a key's day compares."""

    MATCHED = "matched"
    MISSING = "missing"
    EXTRA = "extra"
    UNATTRIBUTED = "unattributed"


class Line(msgspec.Struct, frozen=True):
    """One key on one UTC day: what its gateway counted and what we did, nano-USD; `requests` are ours."""

    key: str
    day: int
    theirs: Nanos
    ours: Nanos
    requests: int
    verdict: DayVerdict


def compare(
    theirs: Mapping[tuple[str, int], int], ours: Mapping[tuple[str, int], tuple[int, int]], owners: Mapping[str, str]
) -> list[Line]:
    """Compares (credential, day) → nanos with (key, day) → (nanos, requests). What is there and belongs to no key of ours is
    unattributed. Every call of ours was rounded to a nano, and theirs are doubles: that much apart is the same."""
    by_key: Counter[tuple[str, int]] = Counter()
    lines: list[Line] = []
    for (credential, day), nanos in theirs.items():
        key = owners.get(credential)
        if key is None:
            lines.append(Line(credential, day, Nanos(nanos), Nanos(0), 0, DayVerdict.UNATTRIBUTED))
        else:
            by_key[key, day] += nanos
    for key, day in {**by_key, **ours}:
        counted, (spent, requests) = by_key[key, day], ours.get((key, day), (0, 0))
        apart = counted - spent
        close = abs(apart) <= requests + counted // 10**12 + 1
        verdict = DayVerdict.MATCHED if close else DayVerdict.MISSING if apart > 0 else DayVerdict.EXTRA
        lines.append(Line(key, day, Nanos(counted), Nanos(spent), requests, verdict))
    return sorted(lines, key=lambda line: (line.day, line.key))
