"""Owns what the books of one org hold and how they are asked; `fold` is the only thing that changes them (J1).

Every change is noted in `changed`, so that what is saved can't differ from what was folded.

A balance is keyed by scope and day; a longer window is a sum of days. Complete books (replay, tests) hold every day and
add them up; books in service hold what was loaded and raise NotLoaded for the rest, so that a gap can't pass for a zero.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from .caps import BRAKE, Breach, Cap, Enforce, Guardrail, Kind, Sum, total
from .connections import Connection
from .keys import Confirmation, Key, Workspace
from .labels import History
from .window import Period, first_day, next_first_day

ORG = "org"


class NotLoaded(LookupError):
    """A sum was needed that nobody loaded: a promise of ours was broken."""


class SumKey(NamedTuple):
    """What a sum is of: a scope's own usage in the window of a period that begins at `start` (see `window.Window`)."""

    scope: str
    period: Period
    start: int


class Room(msgspec.Struct, gc=False):
    """What a scope can still spend before any cap on it could move, in nano-USD, and whether unpriced calls could move none;
    known until `until_us`."""

    left: int
    unpriced: bool
    until_us: int


class Said(NamedTuple):
    """A threshold that has spoken: for a cap's window and limit, once (C6). `percent` None: for unpriced calls."""

    start_us: int
    end_us: int
    limit: int
    percent: int | None


class Books:
    """Balances, caps, key states and breaches of one org, as of entry `seq`.

    Attributes:
      breaches: the open ones, by (cap id, kind). history: these and, until they are saved, closed ones.
      ordinals: the last one used by each cap id, for ever (C3).
      stops: when breaches that stop keys opened, in the minute up to the last of them (K4).
      waits: by cap id, the keys that wait for a person's resume.
      left: by name, the key whose credential it was until it was taken away: what it has heard of that one counts on (K3).
      labels: by scope and name, what was said of them (S9).
      latest_us, latest_day: the latest time of any usage, and the latest day that anything was booked on; they may be ahead of
        `recorded_us` and its day (W3 lets a clock be minutes fast, W4 a zone move west).
      taken_back: nano-USD that corrections took off what was booked, in the org's whole life (T4).
      spoken: what thresholds have said of windows that have not ended, by cap id.
      members, aliases, names, caps_at: indexes over the rest.
      rooms: by scope, what `levels.room` has worked out; any entry but usage and newcomers may change it, so each empties it.
      changed: (kind of row, its key) of everything touched since it was last emptied, in order.
    """

    def __init__(self, org: str, *, complete: bool = True) -> None:
        self.org = org
        self.zone = "UTC"
        self.enforce = Enforce.ON
        self.brake = BRAKE
        self.seq = 0
        self.recorded_us = 0
        self.latest_us = 0
        self.latest_day = 0
        self.taken_back = 0
        self.org_seq = 0
        self.complete = complete
        self.workspaces: dict[str, Workspace] = {}
        self.keys: dict[str, Key] = {}
        self.credentials: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.confirmations: dict[tuple[str, str, str], Confirmation] = {}
        self.caps: dict[str, Cap] = {}
        self.guardrails: dict[str, Guardrail] = {}
        self.connections: dict[str, Connection] = {}
        self.breaches: dict[tuple[str, Kind], Breach] = {}
        self.history: dict[tuple[str, int], Breach] = {}
        self.ordinals: dict[str, int] = {}
        self.stops: deque[int] = deque()
        self.spoken: dict[str, frozenset[Said]] = {}
        self.waits: dict[str, set[str]] = {}
        self.labels: dict[str, dict[str, History]] = {}
        self.sums: dict[SumKey, Sum] = {}
        self.changed: dict[tuple[str, Any], None] = {}
        self.members: dict[str, dict[str, None]] = {}
        self.aliases: dict[str, list[str]] = {}
        self.names: dict[str, dict[str, None]] = {}
        self.caps_at: dict[str, dict[str, None]] = {}
        self.rooms: dict[str, Room] = {}
        self._caps_on: dict[str, tuple[Cap, ...]] = {}
        self._newcomers: dict[str, tuple[str, tuple[Cap, ...]]] = {}
        self._spans: dict[str, tuple[Period, ...]] = {}
        self._hourly: bool | None = None
        self._kept: dict[str, set[Period]] = {}

    def resolve(self, name: str) -> Key | None:
        """The key that a name in an event means: a key's id first, then a credential; aliases lead to the older key (S1)."""
        key = self.keys.get(name) or self.keys.get(self.credentials.get(name, ""))
        return self.keys[key.alias_of] if key is not None and key.alias_of is not None else key

    def credentials_of(self, key_id: str) -> tuple[str, ...]:
        """Every name a gateway may know the key by: its id, then its credentials."""
        return (key_id, *self.names.get(key_id, ()))

    def scopes_of(self, key: str, workspace: str) -> tuple[str, str, str]:
        """What one call counts for."""
        return (f"key:{key}", f"workspace:{workspace}", ORG)

    def caps_on(self, scope: str, home: str | None = None) -> tuple[Cap, ...]:
        """The caps that stand on a scope itself, explicit and from guardrails, by id. `home`: where a key that nobody knows yet
        will be registered; it has the caps that it will come under there, and a workspace that it will open those of that."""
        if home is not None and scope != ORG and not self.may_hold(scope):
            at = self._newcomers.get(scope)
            if at is None or at[0] != home:
                at = self._newcomers[scope] = (home, self._caps_of(scope, home))
            return at[1]
        found = self._caps_on.get(scope)
        if found is None:
            found = self._caps_on[scope] = self._caps_of(scope, None)
        return found

    def _caps_of(self, scope: str, home: str | None) -> tuple[Cap, ...]:
        caps = [self.caps[cap_id] for cap_id in self.caps_at.get(scope, ())]
        caps += [rail.cap_for(scope) for rail in self.guardrails.values() if self._covers(rail, scope, home)]
        return tuple(sorted(caps, key=lambda cap: cap.cap_id))

    def _covers(self, rail: Guardrail, scope: str, home: str | None = None) -> bool:
        each, _, subject = scope.partition(":")
        if each != rail.each or subject in rail.except_:
            return False
        if each == "workspace":
            return (subject in self.workspaces or home is not None) and rail.covers_workspace(subject)
        key = self.keys.get(subject)
        if key is None and home is not None:
            return rail.covers_workspace(home)
        return key is not None and key.alias_of is None and rail.covers_workspace(key.workspace)

    def covered_by(self, rail: Guardrail) -> Iterator[str]:
        """The scopes that a guardrail covers now."""
        subjects: Iterable[str] = self.keys if rail.each == "key" else self.workspaces
        scopes = (f"{rail.each}:{subject}" for subject in subjects)
        return (scope for scope in scopes if self._covers(rail, scope))

    def cap(self, cap_id: str) -> Cap | None:
        """A cap by its id, also one that a guardrail makes."""
        rail_id, _, scope = cap_id.partition("/")
        rail = self.guardrails.get(rail_id)
        if scope and rail is not None:
            return rail.cap_for(scope) if self._covers(rail, scope) else None
        return self.caps.get(cap_id)

    def caps_above(self, key: Key) -> Iterator[Cap]:
        """Every cap that stops a key (C9)."""
        for scope in self.scopes_of(key.key_id, key.workspace):
            yield from self.caps_on(scope)

    def keys_under(self, scope: str) -> Iterable[str]:
        """The ids of the keys that a cap on this scope stops (C9)."""
        kind, _, subject = scope.partition(":")
        ids: Iterable[str] = (subject,) if kind == "key" else self.keys if kind == ORG else self.members.get(subject, ())
        return sorted(key_id for key_id in ids if key_id in self.keys and self.keys[key_id].alias_of is None)

    def parts(self, scope: str) -> tuple[str, ...]:
        """The scopes whose own sums make up this one's: itself, and a key's aliases (S3)."""
        kind, _, subject = scope.partition(":")
        if kind != "key" or subject not in self.aliases:
            return (scope,)
        return (scope, *(f"key:{alias}" for alias in self.aliases[subject]))

    def used(self, scope: str, period: Period, start: int) -> Sum:
        """What a scope and its aliases used in a window."""
        scopes = self.parts(scope)
        if len(scopes) == 1:
            return self._sum(SumKey(scope, period, start))
        return total(self._sum(SumKey(part, period, start)) for part in scopes)

    def _sum(self, key: SumKey) -> Sum:
        found = self.sums.get(key)
        if found is None:
            if not self.complete:
                raise NotLoaded(f"{self.org}: {key}")
            found = Sum()
            if key.period not in (Period.DAY, Period.HOUR):
                end = next_first_day(key.period, key.start)
                days = (k for k in self.sums if k.scope == key.scope and k.period is Period.DAY)
                found = total(self.sums[k] for k in list(days) if key.start <= k.start < end)
            self.put_sum(key, found)
        return found

    def may_hold(self, scope: str) -> bool:
        """Whether anything can have been booked on a scope yet: not on a key or workspace that nobody knows. Shared costs are
        booked on no key (M7), which is always known."""
        kind, _, subject = scope.partition(":")
        return self.seq > 0 and (kind == ORG or not subject or subject in (self.keys if kind == "key" else self.workspaces))

    def put_sum(self, key: SumKey, found: Sum) -> None:
        """Keeps a sum that was loaded or added up; `book` keeps it true from here on."""
        self.sums[key] = found
        if key.period not in (Period.DAY, Period.HOUR):
            self._kept.setdefault(key.scope, set()).add(key.period)

    def owner(self, scope: str) -> str:
        """The scope whose caps a scope's usage counts for: its own, or for an alias the older key's (S3)."""
        key = self.keys.get(scope[4:]) if scope.startswith("key:") else None
        return scope if key is None or key.alias_of is None else f"key:{key.alias_of}"

    def spans(self, scope: str) -> tuple[Period, ...]:
        """The periods other than the day that caps need of this scope's sums; an alias serves its owner's caps."""
        found = self._spans.get(scope)
        if found is None:
            owners = {scope, self.owner(scope)}
            periods = {cap.rule.period for owner in owners for cap in self.caps_on(owner)} - {Period.DAY}
            found = self._spans[scope] = tuple(sorted(periods))
        return found

    def counts_hours(self) -> bool:
        """Whether any cap of the org is by the hour."""
        if self._hourly is None:
            rules = (thing.rule for things in (self.caps, self.guardrails) for thing in things.values())
            self._hourly = any(rule.period is Period.HOUR for rule in rules)
        return self._hourly

    def book(self, scope: str, day: int, hour_us: int | None, delta: Sum) -> None:
        """Adds usage to a scope's day, to its hour where a cap is by the hour, and to the longer windows that are kept.

        A correction (no requests) of an hour that nobody counted is not the beginning of counting it.
        """
        row = SumKey(scope, Period.DAY, day)
        self._sum(row).add(delta)
        self.changed["day", row] = None
        if hour_us is not None and Period.HOUR in self.spans(scope):
            row = SumKey(scope, Period.HOUR, hour_us)
            counted = self._sum(row)
            if delta.requests or counted.requests:
                counted.add(delta)
                self.changed["hour", row] = None
        for period in self._kept.get(scope, ()):
            window = self.sums.get(SumKey(scope, period, first_day(period, day)))
            if window is not None:
                window.add(delta)

    def forget_changes(self) -> None:
        """What changed is saved."""
        self.changed.clear()
        self._newcomers.clear()
        self._caps_on.clear()  # a room tells most of what is asked of them, in a third of the memory
        for at in [at for at, breach in self.history.items() if breach.closed_us is not None]:
            del self.history[at]

    def forget_policies(self, *scopes: str) -> None:
        """After a change of what covers what: all scopes, or those named, look their caps up anew."""
        if not scopes:
            self._hourly = None
        for memo in (self._caps_on, self._newcomers, self._spans):
            if scopes:
                for scope in scopes:
                    memo.pop(scope, None)
            else:
                memo.clear()

    def put_cap(self, cap: Cap | None, was: Cap | None) -> None:
        """Writes or removes a cap's row."""
        self._hourly = None
        if was is not None:
            del self.caps[was.cap_id], self.caps_at[was.scope][was.cap_id]
            self.forget_policies(was.scope)
            self.changed["cap", was.cap_id] = None
        if cap is not None:
            self.caps[cap.cap_id] = cap
            self.caps_at.setdefault(cap.scope, {})[cap.cap_id] = None
            self.forget_policies(cap.scope)
            self.changed["cap", cap.cap_id] = None

    def put_key(self, key: Key) -> None:
        """Writes a key's row, and keeps the members of its workspace."""
        before = self.keys.get(key.key_id)
        if before is not None and before.workspace != key.workspace:
            del self.members[before.workspace][key.key_id]
        self.members.setdefault(key.workspace, {})[key.key_id] = None
        self.keys[key.key_id] = key
        if key.alias_of is not None and (before is None or before.alias_of is None):
            self.aliases.setdefault(key.alias_of, []).append(key.key_id)
        self.changed["key", key.key_id] = None
