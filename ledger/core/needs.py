"""Owns the question what must be loaded before `execute`: a name too many costs a look-up, one too few raises NotLoaded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from . import commands as c
from . import entries as e
from .books import ORG, Books, SumKey
from .execute import AHEAD_US, came_due
from .keys import UNASSIGNED
from .levels import all_scopes
from .window import Calendar, Period, day_at, first_day, is_zone, window_at, windows_at

_LIFE = SumKey(ORG, Period.LIFETIME, 0)  # which must stay inside 64 bits (T4)
Place = tuple[str, str]  # a scope, and the workspace that its key is in or will be registered in


class Needs(msgspec.Struct):
    """What a batch of one org needs of its store.

    Attributes:
      sums: rows and windows that the books don't hold yet.
      hours: (scopes, zone) whose usage in the present hour and later must be read from the journal; None mostly.
    """

    sums: set[SumKey]
    hours: tuple[list[str], str] | None = None


def needs(books: Books, commands: Sequence[c.Command], now_us: int, originals: Mapping[int, e.Entry]) -> Needs:
    """What must be loaded into books that are not complete, before `execute(books, commands, now_us)`.

    `commands` are usage, or one single order: what an order changes decides what the next one needs. The rows that
    `execute.ahead` names are loaded already.
    """
    now_us = max(now_us, books.recorded_us)
    found = Needs(set())
    _usage(books, [command for command in commands if type(command) is c.RecordUsage], now_us, found)
    due = [breach.scope for breach in books.breaches.values() if breach.end_us <= now_us]
    _windows(books, [*due, *came_due(books, now_us)], now_us, found)
    for command in commands:
        if type(command) is not c.RecordUsage:
            _order(books, command, now_us, originals, found)
    found.sums = {key for key in found.sums if key not in books.sums}
    return found


def _usage(books: Books, usage: Sequence[c.RecordUsage], now_us: int, found: Needs) -> None:
    """The day rows that usage will be booked on, and the current windows of the scopes it counts for."""
    calendar = Calendar(books.zone, books.counts_hours())
    latest_us, low_us, high_us = now_us + AHEAD_US, 0, 0
    callers: dict[tuple[int, int | None], set[tuple[str, str | None]]] = {}
    mine = set[tuple[str, str | None]]()
    for command in usage:
        time_us = command.time_us
        if not low_us <= time_us < high_us:
            if not 0 <= time_us <= latest_us:
                continue
            calendar.locate(time_us)
            low_us, high_us = calendar.low_us, calendar.high_us
            mine = callers.setdefault((calendar.day, calendar.hour), set())
        said = command.usage
        mine.add((said.key, said.workspace))
    homes = _claimed_homes(books, set[tuple[str, str | None]]().union(*callers.values()))
    everywhere: set[Place] = set()
    for (day, hour), names in callers.items():
        under = set(_places(books, {name for name, _ in names}, homes))
        everywhere |= under
        found.sums.update(SumKey(scope, Period.DAY, day) for scope, _ in under)
        if hour is not None:
            hourly = (scope for scope, home in under if Period.HOUR in _periods(books, scope, home))
            found.sums.update(SumKey(scope, Period.HOUR, hour) for scope in hourly)
    if everywhere:
        found.sums.add(_LIFE)
    rooms = books.rooms
    for scope, home in everywhere:
        if scope not in rooms or rooms[scope].until_us <= now_us:  # the rest's are loaded
            _window(books, scope, _periods(books, scope, home), now_us, books.zone, found)


def _claimed_homes(books: Books, callers: Iterable[tuple[str, str | None]]) -> dict[str, list[str]]:
    """By name, the workspaces that calls of keys nobody knows claim: the first that is booked will decide, and which that is
    is not known yet (S3)."""
    homes: dict[str, list[str]] = {}
    for name, claimed in callers:
        if books.resolve(name) is None:
            homes.setdefault(name, []).append(claimed or UNASSIGNED)
    return homes


def _places(books: Books, names: Iterable[str], homes: Mapping[str, Sequence[str]]) -> Iterator[Place]:
    """The scopes that calls under these names count for, each with its key's workspace."""
    for name in names:
        key = books.resolve(name)
        for home in homes[name] if key is None else (key.workspace,):
            for scope in books.scopes_of(name if key is None else key.key_id, home):
                yield scope, home


def _periods(books: Books, scope: str, home: str | None = None) -> set[Period]:
    """The periods a scope is capped by; a key that nobody knows yet, by the guardrails over its `home`."""
    return {cap.rule.period for cap in books.caps_on(scope, home)}


def _windows(
    books: Books, scopes: Iterable[str], now_us: int, found: Needs, more: Iterable[Period] = (), zone: str | None = None
) -> None:  # fmt: skip
    """The windows that contain now, of the periods that scopes are capped by and `more`, in the org's zone or another."""
    for scope in scopes:
        _window(books, scope, {*_periods(books, scope), *more}, now_us, zone or books.zone, found)


def _window(books: Books, scope: str, periods: Iterable[Period], now_us: int, zone: str, found: Needs) -> None:
    windows = windows_at(now_us, zone)
    for period in periods:
        for part in books.parts(scope):
            found.sums.add(SumKey(part, period, windows[period].start))


def _parts(books: Books, scopes: Iterable[str]) -> list[str]:
    return sorted({part for scope in scopes for part in books.parts(scope)})


def _order(books: Books, order: c.Command, now_us: int, originals: Mapping[int, e.Entry], found: Needs) -> None:
    """The windows that one order may evaluate anew, and whose current hour must be known (C5)."""
    match order:
        case c.SetOrg():
            zone = order.time_zone if is_zone(order.time_zone) else books.zone
            scopes = [scope for scope in all_scopes(books) if books.caps_on(scope)]
            _windows(books, scopes, now_us, found, zone=zone)
            _windows(books, scopes, now_us, found)  # what is due by now is done in the old one, first
            hourly = [scope for scope in all_scopes(books) if Period.HOUR in books.spans(scope)]
            found.hours = (hourly, zone) if hourly and zone != books.zone else None
        case c.SetCap() | c.RemoveCap():
            cap = books.caps.get(order.cap)
            scopes = {cap.scope} if cap is not None else set[str]()
            rule = order.rule if isinstance(order, c.SetCap) else None
            scopes |= {order.scope} if isinstance(order, c.SetCap) else set()
            _windows(books, scopes, now_us, found, more=[rule.period] if rule else [])
            if rule is not None and rule.period is Period.HOUR:
                found.hours = (_parts(books, scopes), books.zone)
        case c.SetGuardrail() | c.RemoveGuardrail():
            name = order.guardrail if isinstance(order, c.RemoveGuardrail) else order.guardrail.guardrail_id
            rails = [books.guardrails[name]] if name in books.guardrails else []
            rails += [order.guardrail] if isinstance(order, c.SetGuardrail) else []
            scopes = {scope for rail in rails for scope in books.covered_by(rail)}
            _windows(books, scopes, now_us, found, more={rail.rule.period for rail in rails})
            if isinstance(order, c.SetGuardrail) and order.guardrail.rule.period is Period.HOUR:
                found.hours = (_parts(books, scopes), books.zone)
        case c.SetKey():
            keys = [f"key:{name}" for name in (order.key, *(order.credentials or ()))]
            _windows(books, [*keys, f"workspace:{order.workspace or UNASSIGNED}"], now_us, found, more=Period)
            if books.counts_hours():
                found.hours = (_parts(books, [key for key in keys if key[4:] in books.keys]), books.zone)
        case c.SetWorkspace():
            _windows(books, [f"workspace:{order.workspace}"], now_us, found, more=Period)
        case c.CorrectUsage() if isinstance(entry := originals.get(order.entry), e.UsageRecorded):
            found.sums.add(_LIFE)
            for scope in books.scopes_of(entry.key, entry.workspace):
                found.sums.add(SumKey(scope, Period.DAY, entry.day))
                for hour_us in (entry.hour_us, window_at(Period.HOUR, entry.command.time_us, books.zone).start_us):
                    if hour_us is not None and Period.HOUR in books.spans(scope):
                        found.sums.add(SumKey(scope, Period.HOUR, hour_us))
                _windows(books, {scope, books.owner(scope)}, now_us, found)
        case c.ShareCost():
            day = day_at(now_us, books.zone) if order.day is None else order.day
            names = [f"workspace:{name}" for name, _ in order.over]
            found.sums |= {SumKey(scope, Period.DAY, day) for scope in (*names, *books.scopes_of("", "")[::2])}
            found.sums.add(_LIFE)
            found.sums |= {SumKey(name, Period.MONTH, first_day(Period.MONTH, day)) for name in names}
            _windows(books, [*names, ORG], now_us, found)
        case _:
            pass
