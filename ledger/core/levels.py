"""Owns what follows from levels: which breaches clear, which open, which thresholds speak, what is wanted of keys.

It reads books and emits entries; it is the same after usage, a command or midnight, because a breach is a level (C3).
Always in this order: clear, speak, open, then what is wanted of each key, once (K1: no flapping at midnight).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import entries as e
from .books import ORG, Books, Room, Said
from .caps import Action, Breach, Cap, Enforce, Kind, Resume, Sum, Waits, counted, level, thresholds_reached
from .keys import Key, State, may_become, wanted
from .money import MAX_AMOUNT_NANOS
from .window import FOREVER_US, MINUTE_US, Period, Window, windows_at

KINDS = tuple(Kind)
Emit = Callable[..., Any]


def settle(books: Books, now_us: int, scopes: Iterable[str], emit: Emit, entry: int | None = None, keys: Iterable[str] = ()) -> None:
    """Brings breaches and key states in line with the levels of these scopes' caps.

    `emit(kind_of_entry, **fields)` journals and folds. `entry` is the seq that moved the levels, if one did; `keys`
    are looked at again whether or not a breach of theirs moved.
    """
    caps = [cap for scope in scopes for cap in books.caps_on(scope)]
    turned = dict.fromkeys(keys)
    for cap in caps:
        _clear(books, cap, now_us, entry, emit, turned)
    for cap in caps:
        _open(books, cap, now_us, entry, emit, turned)
    want(books, turned, emit)


def window_of(books: Books, cap: Cap, now_us: int) -> Window:
    """The cap's window that contains now."""
    return windows_at(now_us, books.zone)[cap.rule.period]


def enforced(books: Books, cap: Cap) -> Enforce:
    """`on` only where the cap and its whole org say so."""
    return Enforce.OBSERVE if Enforce.OBSERVE in (books.enforce, cap.rule.enforce) else Enforce.ON


def action_of(cap: Cap, kind: Kind) -> Action:
    """What a breach of this kind does. Unpriced usage never revokes."""
    return cap.rule.action if kind is Kind.SPEND else cap.rule.on_unpriced


def _clear(books: Books, cap: Cap, now_us: int, entry: int | None, emit: Emit, turned: dict[str, None]) -> None:
    for kind in KINDS:
        breach = books.breaches.get((cap.cap_id, kind))
        if breach is None:
            continue
        window = window_of(books, cap, now_us)
        if breach.end_us <= now_us:
            clear(books, breach.cap_id, kind, "window_ended", emit, turned)
        elif (breach.start_us, breach.end_us) != (window.start_us, window.end_us):
            clear(books, breach.cap_id, kind, "cap_changed", emit, turned)
        elif not level(cap.rule, kind, books.used(cap.scope, window.period, window.start)):
            clear(books, breach.cap_id, kind, _fallen(cap, breach, entry), emit, turned)
        elif _meant_now(books, cap, kind, breach):
            clear(books, breach.cap_id, kind, "cap_changed", emit, turned)


def _fallen(cap: Cap, breach: Breach, entry: int | None) -> str:
    """Why a level is not reached any more. An entry of money that moved it is a correction, whatever became of the limit before."""
    if entry is not None:
        return "spend_corrected"
    raised = breach.kind is Kind.SPEND and cap.rule.limit > breach.limit
    return "limit_raised" if raised else "cap_changed"  # else another kind of spend counts, or unpriced calls do not


def _meant_now(books: Books, cap: Cap, kind: Kind, breach: Breach) -> bool:
    """Whether a breach was only observed and the cap is enforced by now, or the cap stops keys by now and did not, or it revokes and
    nobody was asked: it opens anew, so that it is told (C6), counts for the brake, and asks (K4)."""
    action = action_of(cap, kind)
    if enforced(books, cap) is Enforce.OBSERVE or (breach.enforce is Enforce.ON and action is Action.ALERT):
        return False
    return not breach.stops or (action is Action.REVOKE and cap.rule.approval and breach.waits is Waits.NOTHING)


def _waits(books: Books, cap: Cap, kind: Kind, now_us: int) -> Waits:
    """What of a breach that opens now waits for a person (K4)."""
    action = action_of(cap, kind)
    if action is Action.ALERT or enforced(books, cap) is Enforce.OBSERVE:
        return Waits.NOTHING
    if not books.brake or (len(books.stops) >= books.brake and books.stops[-books.brake] > now_us - MINUTE_US):
        return Waits.ALL
    return Waits.REVOKE if action is Action.REVOKE and cap.rule.approval else Waits.NOTHING


def sweep(books: Books, emit: Emit) -> dict[str, None]:
    """Clears breaches whose cap is gone, or no longer stands where it stood; the keys that it stopped."""
    turned: dict[str, None] = {}
    for (cap_id, kind), breach in list(books.breaches.items()):
        cap = books.cap(cap_id)
        if cap is None or cap.scope != breach.scope:
            clear(books, cap_id, kind, "cap_removed", emit, turned)
    return turned


def clear(books: Books, cap_id: str, kind: Kind, reason: str, emit: Emit, turned: dict[str, None]) -> None:
    """Closes a breach; a `manual` cap that paused leaves its keys waiting for a person."""
    breach = books.breaches[cap_id, kind]
    under = books.keys_under(breach.scope)
    cap = books.cap(cap_id)
    waits = (
        cap is not None
        and cap.rule.resume is Resume.MANUAL
        and enforced(books, cap) is Enforce.ON
        and action_of(cap, kind) is not Action.ALERT
        and breach.stops
        and breach.acts
    )
    emit(
        e.CapCleared, cap_id=cap_id, ordinal=breach.ordinal, kind=kind, scope=breach.scope, enforce=breach.enforce,
        reason=reason, waiting=tuple(under) if waits else (),
    )  # fmt: skip
    turned.update(dict.fromkeys(under))


def _open(books: Books, cap: Cap, now_us: int, entry: int | None, emit: Emit, turned: dict[str, None]) -> None:
    window = window_of(books, cap, now_us)
    used = books.used(cap.scope, window.period, window.start)
    about: dict[str, Any] = {
        "cap_id": cap.cap_id, "scope": cap.scope, "period": cap.rule.period, "start_us": window.start_us,
        "end_us": window.end_us, "limit": cap.rule.limit, "spent": counted(cap.rule, used),
        "enforce": enforced(books, cap), "entry": entry,
    }  # fmt: skip
    for percent in unspoken(books, cap, window, thresholds_reached(cap.rule, used), used.unpriced):
        emit(e.ThresholdReached, percent=percent, **about)
    for kind in KINDS:
        if (cap.cap_id, kind) not in books.breaches and level(cap.rule, kind, used):
            ordinal = books.ordinals.get(cap.cap_id, 0) + 1
            action = action_of(cap, kind)
            emit(
                e.CapBreached,
                ordinal=ordinal,
                kind=kind,
                unpriced=used.unpriced,
                action=action,
                waits=_waits(books, cap, kind, now_us),
                **about,
            )
            turned.update(dict.fromkeys(books.keys_under(cap.scope)))


def unspoken(books: Books, cap: Cap, window: Window, reached: list[int], unpriced: int) -> list[int | None]:
    """Which of the reached thresholds have not spoken for this (cap, window, limit) yet (C6)."""
    due: list[int | None] = list(reached)
    if unpriced and cap.rule.on_unpriced is Action.ALERT:
        due.append(None)
    spoken = books.spoken.get(cap.cap_id)
    if not due or spoken is None:
        return due
    return [percent for percent in due if Said(window.start_us, window.end_us, cap.rule.limit, percent) not in spoken]


def reasons(books: Books, key: Key) -> tuple[str, ...]:
    """Why a key is wanted paused: `cap:ID` in breach, `wait:ID` for a person, `held` by one; empty when it is not (K1)."""
    found = [reason for cap in books.caps_above(key) if enforced(books, cap) is Enforce.ON for reason in _stops(books, cap, key)]
    return (*found, f"held:{key.held}") if key.held is not None else tuple(found)


def _stops(books: Books, cap: Cap, key: Key) -> Iterable[str]:
    pausing = [kind for kind in KINDS if action_of(cap, kind) is not Action.ALERT]
    breaches = (books.breaches.get((cap.cap_id, kind)) for kind in pausing)
    if any(breach is not None and breach.acts for breach in breaches):
        yield f"cap:{cap.cap_id}"
    elif pausing and cap.rule.resume is Resume.MANUAL and key.key_id in books.waits.get(cap.cap_id, ()):
        yield f"wait:{cap.cap_id}"


def _ends(books: Books, cap: Cap) -> bool:
    """Whether a cap revokes the keys it stops without asking anybody (K4)."""
    breach = books.breaches.get((cap.cap_id, Kind.SPEND)) if cap.rule.action is Action.REVOKE and not cap.rule.approval else None
    return breach is not None and breach.acts and enforced(books, cap) is Enforce.ON


def want(books: Books, keys: Iterable[str], emit: Emit) -> None:
    """Works out, once per key, what is wanted of it, and says so where that changed."""
    for key_id in sorted(keys):
        key = books.keys[key_id]
        why = reasons(books, key)
        state = wanted(key, bool(why), any(_ends(books, cap) for cap in books.caps_above(key)))
        if state is not key.state and may_become(key.state, state):
            turn(books, key, state, why, emit)


def turn(books: Books, key: Key, state: State, why: tuple[str, ...], emit: Emit, by: str | None = None) -> None:
    """A new revision of what is wanted: a command to every credential of the key (K3)."""
    emit(
        e.KeyStateChanged, key=key.key_id, workspace=key.workspace, state=state, revision=key.revision + 1, reasons=why,
        credentials=books.credentials_of(key.key_id), by=by,
    )  # fmt: skip


def stopped_us(books: Books, key: Key, name: str) -> int | None:
    """When a gateway confirmed that a key is stopped: under the name that a call came with, else under any (K6). None while
    the newest revision is not confirmed, or nothing is to be stopped."""
    if key.state is State.ACTIVE:
        return None
    places = [(key.key_id, credential, way) for credential in books.credentials_of(key.key_id) for way in ("", *books.connections)]
    said = [books.confirmations[place] for place in places if place in books.confirmations]
    done = [word for word in said if word.revision == key.revision and word.state in (key.state, State.REVOKED)]
    return max((word.confirmed_us for word in [word for word in done if word.credential == name] or done), default=None)


def would_move(books: Books, cap: Cap, window: Window, delta: Sum) -> bool:
    """Whether this much more usage in the cap's window could open a breach or make a threshold speak.

    Usage never takes away, so where the whole of a run moves nothing, no part of it does.
    """
    used = books.used(cap.scope, window.period, window.start)
    after = Sum(spent=used.spent + delta.spent, byok=used.byok + delta.byok, unpriced=used.unpriced + delta.unpriced)
    for kind in KINDS:
        if (cap.cap_id, kind) not in books.breaches and level(cap.rule, kind, after):
            return True
    return bool(unspoken(books, cap, window, thresholds_reached(cap.rule, after), after.unpriced))


def room(books: Books, caps: Iterable[Cap], windows: Mapping[Period, Window]) -> Room:
    """What a scope under these caps can spend, in whichever window, before one of them could move: the least of what their
    windows have left up to the next limit or threshold."""
    left, unpriced, until_us = MAX_AMOUNT_NANOS, True, FOREVER_US
    for cap in caps:
        rule, window = cap.rule, windows[cap.rule.period]
        due = unspoken(books, cap, window, list(rule.thresholds) if rule.limit else [], unpriced=1)
        steps = [-(-percent * rule.limit // 100) for percent in due if percent is not None]
        if (cap.cap_id, Kind.SPEND) not in books.breaches:
            steps.append(rule.limit)
        if steps:
            left = min(left, min(steps) - counted(rule, books.used(cap.scope, window.period, window.start)))
        stops = rule.on_unpriced is Action.PAUSE and (cap.cap_id, Kind.UNPRICED) not in books.breaches
        unpriced = unpriced and not stops and None not in due
        until_us = min(until_us, window.end_us)
    return Room(left, unpriced, until_us)


def all_scopes(books: Books) -> list[str]:
    """Every scope that a cap could stand on, in the order in which they settle; a cap may stand before its key or workspace is known."""
    known = {f"key:{key}" for key in books.keys} | {f"workspace:{workspace}" for workspace in books.workspaces}
    return [*sorted((known | books.caps_at.keys()) - {ORG}), ORG]
