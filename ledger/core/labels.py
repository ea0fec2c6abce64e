"""Owns labels: words such as `cost_center` that stand on an org, a workspace or a key from a day on (S9).

A label's history is what was said of it, day by day: `(first day, value)` in order, value None where it ends. A report asks
for the value as it stood on the day of the spend; what is said later of an earlier day is true of that day too.
"""

from collections.abc import Mapping

History = tuple[tuple[int, str | None], ...]


def standing(history: History, day: int) -> str | None:
    """The value on a day, if there is one."""
    return next((value for since, value in reversed(history) if since <= day), None)


def amended(history: History, day: int, value: str | None) -> History:
    """The history after a value was set from a day on; what was said of later days stays."""
    return tuple(sorted({**dict(history), day: value}.items()))


def as_of(labels: Mapping[str, History], day: int) -> dict[str, str]:
    """Every label that stands on a day."""
    found = ((name, standing(history, day)) for name, history in sorted(labels.items()))
    return {name: value for name, value in found if value is not None}


def changes(labels: Mapping[str, History], wanted: Mapping[str, str], day: int) -> dict[str, str | None]:
    """What to set from a day on, so that exactly the wanted labels stand on it."""
    now = as_of(labels, day)
    return {name: wanted.get(name) for name in sorted({*now, *wanted}) if now.get(name) != wanted.get(name)}
