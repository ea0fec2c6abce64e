"""Owns caps, guardrails and breaches as values, and the one question asked of them: is this level reached?

A breach is a level, not an edge (C3): it is open exactly while the window that contains now holds at least the limit.
Nothing here remembers what came before; `execute` compares levels with the breaches that are open.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from .money import Nanos, usd_text
from .window import Period

BRAKE = 20  # breaches of an org that may stop keys within a minute, where nothing else is said (K4)


class Action(StrEnum):
    """What a breach does to the keys under the cap."""

    ALERT = "alert"
    PAUSE = "pause"
    REVOKE = "revoke"


class Resume(StrEnum):
    """How a paused key comes back once its breach has closed: by itself, or when a person says so."""

    AUTO = "auto"
    MANUAL = "manual"


class Enforce(StrEnum):
    """`observe` records what a cap would have done and sends nothing."""

    ON = "on"
    OBSERVE = "observe"


class Waits(StrEnum):
    """What of a breach's action waits for a person's approval (K4): nothing; the revoking, with the keys paused meanwhile; or
    all of it, where the brake holds."""

    NOTHING = "nothing"
    REVOKE = "revoke"
    ALL = "all"


class Verdict(StrEnum):
    """What a person said to a breach that waits."""

    APPROVED = "approved"
    REJECTED = "rejected"


class Kind(StrEnum):
    """What a breach is about: money spent, or calls whose price is unknown (C10)."""

    SPEND = "spend"
    UNPRICED = "unpriced"


class Rule(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a cap says, wherever it stands.

    Attributes:
      period: the window that spend is counted in.
      limit: nano-USD; 0 means nothing may be spent (C1).
      thresholds: percentages of the limit that alert once a window (C6).
      include_byok: whether upstream cost of calls on the customer's own provider key counts (M5).
      on_unpriced: alert, or pause while the window holds unpriced calls (C10).
      approval: whether revoking waits for a person's approval (K4).
      backstop_percent: of the limit, what the key's gateway is to keep as a limit of its own; 100 or more, None for none.
    """

    period: Period
    limit: Nanos
    action: Action = Action.ALERT
    thresholds: tuple[int, ...] = ()
    include_byok: bool = False
    on_unpriced: Action = Action.ALERT
    resume: Resume = Resume.AUTO
    enforce: Enforce = Enforce.ON
    approval: bool = True
    backstop_percent: int | None = None


class Cap(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A rule on one scope. `seq` is the entry that last set it, and its version."""

    cap_id: str
    scope: str
    rule: Rule
    seq: int = 0


class Guardrail(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A rule that gives every subject it covers a cap of its own, also subjects that appear later (S5).

    Attributes:
      each: `key` or `workspace`.
      within: `org`, or workspace ids; `except_`: key or workspace ids it leaves out.
    """

    guardrail_id: str
    each: str
    within: tuple[str, ...]
    except_: tuple[str, ...] = ()
    rule: Rule
    seq: int = 0

    def covers_workspace(self, workspace: str) -> bool:
        """Whether subjects in this workspace (or the workspace itself) are covered."""
        return ("org" in self.within or workspace in self.within) and workspace not in self.except_

    def cap_for(self, scope: str) -> Cap:
        """The cap that a covered scope gets from this guardrail."""
        return Cap(cap_id=f"{self.guardrail_id}/{scope}", scope=scope, rule=self.rule, seq=self.seq)


class Breach(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One stretch of time during which a cap's level was reached. (org, cap_id, ordinal) is its identity (C3).

    Attributes:
      start_us, end_us: the window; `limit`, `spent`: as it opened (C7).
      entry: the seq of the entry that crossed it, None when none did (a cap set, a key moved, midnight).
      waits, verdict, judged_by: what waited for a person, and what became of that (K4).
      closed_us, reason: when it cleared, and why; None while open.
    """

    cap_id: str
    ordinal: int
    kind: Kind
    scope: str
    period: Period
    start_us: int
    end_us: int
    limit: Nanos
    spent: Nanos
    unpriced: int
    action: Action
    enforce: Enforce
    entry: int | None
    waits: Waits
    opened_us: int
    verdict: Verdict | None = None
    judged_by: str | None = None
    closed_us: int | None = None
    reason: str | None = None

    @property
    def stops(self) -> bool:
        """Whether it was to stop keys as it opened."""
        return self.action is not Action.ALERT and self.enforce is Enforce.ON

    @property
    def acts(self) -> bool:
        """Whether it stops keys, if its action is to: not while the brake holds it (K4)."""
        return self.waits is not Waits.ALL or self.verdict is Verdict.APPROVED


class Sum(msgspec.Struct, gc=False):
    """What a scope used in one window. `spent` is billed, `byok` is upstream cost on own provider keys (M5); nano-USD."""

    spent: int = 0
    byok: int = 0
    unpriced: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def holds(self, other: "Sum", most: int) -> bool:
        """Whether each part stays within `most` when another is added."""
        return (
            self.spent + other.spent <= most
            and self.byok + other.byok <= most
            and self.input_tokens + other.input_tokens <= most
            and self.output_tokens + other.output_tokens <= most
        )

    def add(self, other: "Sum") -> None:
        """Adds in place."""
        self.spent += other.spent
        self.byok += other.byok
        self.unpriced += other.unpriced
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens


def total(parts: Iterable[Sum]) -> Sum:
    """The sum of parts."""
    whole = Sum()
    for part in parts:
        whole.add(part)
    return whole


def limit_text(limit: Nanos, period: Period) -> str:
    """A limit in words: `$5.00 per day`, `$50.00 in all`."""
    return f"${usd_text(limit)} {'in all' if period is Period.LIFETIME else f'per {period}'}"


def counted(rule: Rule, used: Sum) -> Nanos:
    """What of a window's usage counts against a rule."""
    return Nanos(used.spent + used.byok if rule.include_byok else used.spent)


def level(rule: Rule, kind: Kind, used: Sum) -> bool:
    """Whether a breach of this kind is open at this usage (C3, C10)."""
    if kind is Kind.SPEND:
        return counted(rule, used) >= rule.limit
    return rule.on_unpriced is Action.PAUSE and used.unpriced > 0


def may_wait(rule: Rule) -> bool:
    """Whether keys that such a rule stopped wait for a person's resume."""
    return rule.resume is Resume.MANUAL and rule.enforce is Enforce.ON and {rule.action, rule.on_unpriced} != {Action.ALERT}


def thresholds_reached(rule: Rule, used: Sum) -> list[int]:
    """The percentages that this usage has reached, in order; a limit of nothing has none."""
    spent = counted(rule, used)
    return [percent for percent in sorted(rule.thresholds) if rule.limit and spent * 100 >= percent * rule.limit]
