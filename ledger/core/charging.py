"""Owns orders about money that is no call of its own: an entry's price set anew (J3), and a cost shared out over workspaces.

Both are entries with an identity of their own (J2), in the window that they belong to; whoever gives them says why.
"""

from typing import Any

from . import commands as c
from . import entries as e
from .answers import Answer, done, missing
from .batch import MOST_A_DAY, MOST_BOOKED, MOST_EVER, Batch
from .books import ORG
from .caps import Sum
from .commands import Reason, Reject, Result, Status
from .money import MAX_EVENT_NANOS, USD, Nanos, split, usd_text
from .window import Period, date_of, day_at, day_start_us, first_day, window_at

MOST_SHARES, MOST_WEIGHT = 1000, 2**31 - 1


def _wrong(detail: str) -> Reject:
    return Reject(reason=Reason.MALFORMED, detail=detail)


def _too_much(field: str) -> Reject:
    return Reject(
        reason=Reason.TOO_MUCH,
        detail=f"{field}: takes the org past {MOST_A_DAY // USD} dollars in a day, {MOST_EVER // USD} in its life, or "
        f"{MOST_BOOKED // USD} with what corrections took back",
    )


def _again(batch: Batch, digest: bytes, kind: type[Any], same: dict[str, Any]) -> Result | None:
    """The answer for an identity that was used before: a repeat, or something else under its name (J2)."""
    if digest not in batch.seen and digest not in batch.found.known:
        return None
    first = batch.first(digest)
    equal = isinstance(first, kind) and all(getattr(first, name) == value for name, value in same.items())
    return Result(Status.DUPLICATE if equal else Status.EXISTS_WITH_DIFFERENT_CONTENT, seq=first.seq)


def correct_usage(batch: Batch, command: c.CorrectUsage) -> Answer:
    """Books the difference between an entry's price and what it should have been, on that entry's own day (J3)."""
    found = batch.found
    by_amount = command.cost is None
    wish = {"cost": command.difference} if by_amount else {"price": command.cost}
    same = {"corrects": command.entry, "why": command.why, "by_amount": by_amount, **wish}
    if answer := _again(batch, command.digest, e.UsageCorrected, same):
        return answer
    original = found.originals.get(command.entry)
    if isinstance(original, e.UsageCorrected):
        return _wrong(f"entry: {command.entry} is itself a correction, of entry {original.corrects}: correct that one")
    if not isinstance(original, e.UsageRecorded):
        return missing("usage entry", str(command.entry))
    price = found.prices.get(command.entry, original.command.booked)
    cost = _corrected(command, price)
    if isinstance(cost, Reject):
        return cost
    if batch.bursts({original.day: Sum(spent=cost - (price or 0))}):
        return _too_much("amount_usd" if by_amount else "cost_usd")
    hour = window_at(Period.HOUR, original.command.time_us, batch.books.zone)
    hour_us = hour.start_us if hour.end_us > batch.now_us else original.hour_us  # its hour as it is counted now, or was then
    seq = batch.emit(
        e.UsageCorrected, digest=command.digest, corrects=command.entry, day=original.day, hour_us=hour_us,
        key=original.key, workspace=original.workspace, cost=cost - (price or 0),
        unpriced=0 if price is not None else -1, price=cost, by=command.by, why=command.why,
        by_amount=by_amount,
    )  # fmt: skip
    found.prices[command.entry] = cost
    batch.seen[command.digest] = batch.entries[-1]
    scopes = batch.books.scopes_of(original.key, original.workspace)
    batch.settle(*dict.fromkeys((batch.books.owner(scopes[0]), *scopes)), entry=seq)
    return done(seq)


def _corrected(command: c.CorrectUsage, price: int | None) -> Nanos | Reject:
    """What an entry costs after its correction."""
    if command.cost is not None:
        cost = command.cost
    elif command.difference is None:
        return _wrong("cost_usd: say what it should have cost, or amount_usd: by how much that differs")
    elif price is None:
        return _wrong("amount_usd: the entry has no price yet that could be changed by an amount: say cost_usd")
    else:
        cost = Nanos(price + command.difference)
        if cost < 0:
            return _wrong(f"amount_usd: takes back more than the entry costs, which is ${usd_text(price)}")
    if cost == price:
        return _wrong(f"the entry costs ${usd_text(cost)} already: there is nothing to correct")
    if cost > MAX_EVENT_NANOS:
        asked = "cost_usd: is" if command.cost is not None else "amount_usd: takes the entry to"
        return _wrong(f"{asked} more than {MAX_EVENT_NANOS // USD} dollars")
    return cost


def share_cost(batch: Batch, command: c.ShareCost) -> Answer:
    """Splits an amount over workspaces, exact to the nano, as a part for each, on one day."""
    books, how = batch.books, command.how
    today = day_at(batch.now_us, books.zone)
    day = today if command.day is None else command.day
    same = {"amount": command.amount, "how": how, "over": command.over, "asked": command.day, "why": command.why}
    if answer := _again(batch, command.digest, e.CostShared, same):
        return answer
    if refused := _unfit(batch, command, day, today):
        return refused
    if batch.bursts({day: Sum(spent=command.amount)}):
        return _too_much("amount_usd")
    weights = [1 if how is c.How.EVENLY else weight for _, weight in command.over]
    if how is c.How.SPEND:
        start = first_day(Period.MONTH, day)
        weights = [books.used(f"workspace:{name}", Period.MONTH, start).spent for name, _ in command.over]  # never below zero (J3)
        if not sum(weights):
            return _wrong(f"over: none of these workspaces has spent anything in the month of {date_of(day)}")
    parts = tuple(
        e.Share(name, weight, Nanos(cost))
        for (name, _), weight, cost in zip(command.over, weights, split(command.amount, weights), strict=True)
    )  # fmt: skip
    seq = batch.emit(
        e.CostShared, digest=command.digest, amount=command.amount, how=how, over=command.over, asked=command.day, day=day, parts=parts,
        by=command.by, why=command.why,
    )  # fmt: skip
    batch.seen[command.digest] = batch.entries[-1]
    for part in parts:
        batch.emit(e.ShareBooked, shared=seq, workspace=part.workspace, day=day, time_us=day_start_us(day, books.zone), cost=part.cost)
    batch.settle(*(f"workspace:{part.workspace}" for part in parts), ORG, entry=seq)
    return done(seq)


def _unfit(batch: Batch, command: c.ShareCost, day: int, today: int) -> Reject | None:
    names = [name for name, _ in command.over]
    stands = batch.books.workspaces
    if not names:
        return _wrong("over: name at least one workspace")
    if len(names) > MOST_SHARES:
        return _wrong(f"over: more than {MOST_SHARES} workspaces")
    if len(set(names)) < len(names):
        return _wrong("over: names a workspace twice")
    if unknown := [name for name in names if name not in stands or stands[name].deleted]:
        return missing("workspace", unknown[0])
    if command.how is c.How.WEIGHT and (bad := [name for name, weight in command.over if not 0 < weight <= MOST_WEIGHT]):
        return _wrong(f"over: the weight of {bad[0]!r} is not above zero and at most {MOST_WEIGHT}")
    if not 0 < command.amount <= MAX_EVENT_NANOS:
        return _wrong(f"amount_usd: is not above zero and at most {MAX_EVENT_NANOS // USD} dollars")
    if day > today:
        return _wrong(f"day: {date_of(day)} has not begun yet")
    if date_of(day).year < 2000:
        return _wrong(f"day: {date_of(day)} is before the year 2000")
    return None
