"""Owns the question whether a sender has fallen silent, against its own rhythm and no fixed hour: one that rests at night is not
silent at night."""

from collections.abc import Sequence
from itertools import pairwise

from .window import HOUR_US

LEAST_HOURS = 12  # heard in fewer, it has no rhythm yet
TIMES = 2  # its longest pause so far


def silent_since(hours: Sequence[int], now_us: int) -> int | None:
    """Since when a sender has been silent for longer than it ever is; None while it is not.

    `hours`: the beginnings of the hours in which it was heard lately, ascending, microseconds.
    """
    if len(hours) < LEAST_HOURS:
        return None
    longest = max(later - earlier for earlier, later in pairwise(hours))
    since = hours[-1] + HOUR_US
    return since if now_us - since > TIMES * longest else None
