"""Owns what a gateway's own limit on a key should be, so that a ledger that is down is no open tap (K7)."""

from collections.abc import Collection, Iterable

import msgspec

from .caps import Cap
from .money import Nanos
from .window import Period

LEAST_PERCENT = 100
_LONGEST_FIRST = (Period.LIFETIME, Period.YEAR, Period.MONTH, Period.WEEK, Period.DAY, Period.HOUR)


class Backstop(msgspec.Struct, frozen=True):
    """A limit that a gateway keeps by itself; nano-USD a period."""

    limit: Nanos
    period: Period


def backstop(caps: Iterable[Cap], periods: Collection[Period]) -> Backstop | None:
    """What a gateway that has one limit a key, in one of these periods, is to keep: that of the longest period, since it bounds
    what all of the shorter ones could come to; of two, the lower. None where no cap asks for what the gateway has."""
    found = [
        Backstop(Nanos(-(-cap.rule.limit * cap.rule.backstop_percent // 100)), cap.rule.period)
        for cap in caps
        if cap.rule.backstop_percent is not None and cap.rule.period in periods
    ]
    return min(found, key=lambda one: (_LONGEST_FIRST.index(one.period), one.limit), default=None)
