"""Owns what can be asked of the spend: by which dimensions, in which windows, over which range, of what (S6, S9).

A question is a value that has been checked; whoever asks in words that mean nothing is told which word it was.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from .window import Period, day_start_us, is_zone

MOST_DAYS = 40 * 366
MOST_DIMENSIONS = 12


class Kind(StrEnum):
    """What spend can be grouped by."""

    ORG = "org"
    WORKSPACE = "workspace"
    KEY = "key"
    MEMBER = "member"
    END_USER = "end_user"
    MODEL = "model"
    PROVIDER = "provider"
    PRESET = "preset"
    PRESET_VERSION = "preset_version"
    SESSION = "session"
    TAG = "tag"
    LABEL = "label"
    CHARGE = "charge"


class Charge(StrEnum):
    """What kind of money a line is: of calls and of corrections (J3), either of them in their month or recorded after it was over, or a
    part of a shared cost."""

    USAGE = "usage"
    LATE = "late"
    CORRECTION = "correction"
    LATE_CORRECTION = "late_correction"
    SHARED = "shared"


GRAINS = (Period.HOUR, Period.DAY, Period.WEEK, Period.MONTH, Period.YEAR)
NAMED = (Kind.TAG, Kind.LABEL)
# A rollup by day holds these; who asks for others asks the journal.
ROLLED = (Kind.WORKSPACE, Kind.KEY, Kind.MODEL, Kind.PROVIDER, Kind.PRESET, Kind.PRESET_VERSION, Kind.MEMBER, Kind.CHARGE)


SUMS = (
    "spent", "byok", "unpriced", "requests", "input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens",
    "reasoning_tokens",
)  # fmt: skip


class QuestionError(ValueError):
    """A question that can't be asked; `field` is the part of it that is wrong, the message says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


class Dimension(NamedTuple):
    """One thing to group by; `name` of a tag or a label, else empty."""

    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


class Only(NamedTuple):
    """What a question is about: lines with this value of a dimension; None: those without one."""

    dimension: Dimension
    value: str | None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A report to be made.

    Attributes:
      start, end: day numbers of the zone's calendar, half-open.
      start_us, end_us: the same as instants, or a finer range; microseconds, half-open.
      by: dimensions, in the order of the columns. grain: one line a window of this length, None: one for the whole range.
      only: what must hold of every line. zone: whose days they are; `home`: whether that is the org's own.
    """

    start: int
    end: int
    start_us: int
    end_us: int
    by: tuple[Dimension, ...]
    grain: Period | None
    only: tuple[Only, ...]
    zone: str
    home: bool

    @property
    def timed(self) -> bool:
        """Whether the booked day can't answer it: hours, another zone, or a range that cuts a day."""
        days = (day_start_us(self.start, self.zone), day_start_us(self.end, self.zone))
        return self.grain is Period.HOUR or not self.home or days != (self.start_us, self.end_us)

    @property
    def dimensions(self) -> list[Dimension]:
        """Every dimension that is needed to answer it, once."""
        return list(dict.fromkeys((*self.by, *(only.dimension for only in self.only))))

    @property
    def rolled(self) -> bool:
        """Whether a rollup by day answers it."""
        return not self.timed and all(one.kind in (*ROLLED, Kind.ORG, Kind.LABEL) for one in self.dimensions)


class Row(NamedTuple):
    """One line of a report: the window's first instant and the one after it, a value per dimension, the sums of `SUMS`."""

    start_us: int
    end_us: int
    values: tuple[str | None, ...]
    sums: tuple[int, ...]


def parse_dimension(text: str, field: str = "by") -> Dimension:
    """`workspace`, `tag:team`, `label:cost_center`. Raises QuestionError."""
    kind, _, name = text.partition(":")
    if kind not in tuple(Kind):
        known = ", ".join(f"{one}:NAME" if one in NAMED else str(one) for one in Kind)
        raise QuestionError(field, f"{kind[:50]!r} is not one of {known}")
    if (kind in NAMED) != bool(name):
        raise QuestionError(field, f"say which: {kind}:NAME" if kind in NAMED else f"{kind} takes no name")
    return Dimension(Kind(kind), name)


def parse_by(texts: Iterable[str]) -> tuple[Dimension, ...]:
    """Dimensions, separated by commas or given one by one; none twice. Raises QuestionError."""
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    if len(parts) > MOST_DIMENSIONS:
        raise QuestionError("by", f"more than {MOST_DIMENSIONS} dimensions")
    return tuple(dict.fromkeys(parse_dimension(part) for part in parts))


def parse_only(text: str) -> Only:
    """A scope as text, `model:openai/gpt-5`, `preset:crawler@4`, `tag:team=web`, `label:owner=will`; with nothing after it,
    what has no such value. Raises QuestionError."""
    kind, colon, rest = text.partition(":")
    if kind not in NAMED:
        if not colon:
            raise QuestionError("where", f"{text[:50]!r} is not KIND:VALUE")
        return Only(parse_dimension(kind, "where"), rest or None)
    name, _, value = rest.partition("=")
    return Only(parse_dimension(f"{kind}:{name}", "where"), value or None)


def parse_where(texts: Sequence[str]) -> tuple[Only, ...]:
    """What must hold of every line; `preset:NAME@VERSION` is two things. Raises QuestionError."""
    found: list[Only] = []
    for text in texts:
        only = parse_only(text)
        name, at, version = (only.value or "").rpartition("@")
        if only.dimension.kind is Kind.PRESET and at and version.isdigit():
            found += [Only(only.dimension, name), Only(Dimension(Kind.PRESET_VERSION), version)]
        else:
            found.append(only)
    return tuple(found)


def parse_grain(text: str | None) -> Period | None:
    """`hour` to `year`, or nothing. Raises QuestionError."""
    if text is None or text in GRAINS:
        return None if text is None else Period(text)
    raise QuestionError("grain", f"{text[:50]!r} is not one of {', '.join(GRAINS)}")


def question(
    start_us: int, end_us: int, days: tuple[int, int], by: tuple[Dimension, ...], grain: Period | None, only: tuple[Only, ...],
    zone: str, home_zone: str,
) -> Question:  # fmt: skip
    """A question over a range of instants and the days that it touches. Raises QuestionError where it makes no sense."""
    if not is_zone(zone):
        raise QuestionError("zone", f"{zone[:64]!r} is not in the tz database")
    if end_us <= start_us:
        raise QuestionError("to", "is not after `from`: a range goes from its first day to the day after its last")
    if days[1] - days[0] > MOST_DAYS:
        raise QuestionError("to", f"is more than {MOST_DAYS // 366} years after `from`")
    return Question(
        start=days[0], end=days[1], start_us=start_us, end_us=end_us, by=by, grain=grain, only=only, zone=zone, home=zone == home_zone
    )
