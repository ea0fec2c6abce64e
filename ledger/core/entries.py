"""Owns the journal's entries: immutable facts in the past tense, each with its place in its org's gapless sequence (J1).

Everything the books show follows from these by `books.fold`. A new kind of fact is a new class here and a line there.
"""

import msgspec

from .caps import Action, Cap, Enforce, Guardrail, Kind, Sum, Verdict, Waits
from .commands import How, RecordUsage
from .connections import Connection
from .keys import State
from .money import Nanos
from .window import Period


class UsageRecorded(msgspec.Struct, gc=False):
    """A call was booked on a local day (W4), to the workspace its key was in (S4). Refers to the record, copies nothing.

    `hour_us` is the start of its local hour where an hour cap needs one, else None.
    """

    seq: int
    recorded_us: int
    day: int
    hour_us: int | None
    key: str
    workspace: str
    command: RecordUsage


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What every other entry has. `recorded_us` never runs backwards within an org (W5)."""

    seq: int
    recorded_us: int


class Opening(msgspec.Struct, frozen=True, gc=False):
    """What a scope had used in the hour that began at `hour_us`, when a cap began to count it by the hour (C5)."""

    scope: str
    hour_us: int
    used: Sum


class OrgOpened(Fact, frozen=True, kw_only=True):
    """The org exists from here on; `by` is None when its first usage opened it (S3)."""

    time_zone: str
    enforce: Enforce
    brake: int
    by: str | None


class OrgChanged(Fact, frozen=True, kw_only=True):
    """The org's time zone or enforcement changed. `openings` as in `CapSet`, for the hours of the new zone."""

    time_zone: str
    enforce: Enforce
    brake: int
    by: str
    was_time_zone: str
    was_enforce: Enforce
    was_brake: int
    openings: tuple[Opening, ...]


class WorkspaceOpened(Fact, frozen=True, kw_only=True):
    """A workspace exists from here on."""

    workspace: str
    by: str | None


class WorkspaceClosed(Fact, frozen=True, kw_only=True):
    """A workspace left the lists."""

    workspace: str
    by: str


class KeyRegistered(Fact, frozen=True, kw_only=True):
    """A key exists from here on; `by` is None when its first usage registered it (S3)."""

    key: str
    workspace: str
    by: str | None


class KeyMoved(Fact, frozen=True, kw_only=True):
    """A key's future belongs to another workspace; its past stays where it was spent (S4). `openings` as in `CapSet`."""

    key: str
    workspace: str
    was: str
    by: str
    openings: tuple[Opening, ...]


class CredentialAdded(Fact, frozen=True, kw_only=True):
    """A key has one more credential (S1). Where that is a key that registered itself, it becomes an alias (S3), and its
    days count in the older key's caps; `openings` as in `CapSet`."""

    key: str
    credential: str
    by: str
    openings: tuple[Opening, ...]


class CredentialRemoved(Fact, frozen=True, kw_only=True):
    """A key has one credential less."""

    key: str
    credential: str
    by: str


class KeyRemoved(Fact, frozen=True, kw_only=True):
    """A key left the lists."""

    key: str
    by: str


class LabelsSet(Fact, frozen=True, kw_only=True):
    """Labels of a scope changed from day `since` on (S9); None: the label ends. `was`: what stood on that day."""

    scope: str
    labels: dict[str, str | None]
    was: dict[str, str | None]
    since: int
    by: str


class CapSet(Fact, frozen=True, kw_only=True):
    """A cap stands from here on. `openings`: of scopes that are counted by the hour from here on, the present hour and later
    ones; of longer periods the days are known."""

    cap: Cap
    was: Cap | None
    by: str
    openings: tuple[Opening, ...]


class CapRemoved(Fact, frozen=True, kw_only=True):
    """A cap is gone."""

    cap: Cap
    by: str


class GuardrailSet(Fact, frozen=True, kw_only=True):
    """A guardrail stands from here on. `openings` as in `CapSet`."""

    guardrail: Guardrail
    was: Guardrail | None
    by: str
    openings: tuple[Opening, ...]


class GuardrailRemoved(Fact, frozen=True, kw_only=True):
    """A guardrail is gone, and its caps with it."""

    guardrail: Guardrail
    by: str


class ConnectionSet(Fact, frozen=True, kw_only=True):
    """A gateway's account is known from here on as this (S8)."""

    connection: Connection
    was: Connection | None
    by: str


class ConnectionRemoved(Fact, frozen=True, kw_only=True):
    """A gateway's account is not known any more."""

    connection: Connection
    by: str


class ThresholdReached(Fact, frozen=True, kw_only=True):
    """A share of a cap's limit was reached (C6); `percent` None: the window's first unpriced call (M4)."""

    cap_id: str
    scope: str
    period: Period
    start_us: int
    end_us: int
    limit: Nanos
    spent: Nanos
    percent: int | None
    enforce: Enforce
    entry: int | None


class CapBreached(Fact, frozen=True, kw_only=True):
    """A cap's level is reached from here on (C3, C7). Fields as in `caps.Breach`; it opened at `recorded_us`."""

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


class BreachJudged(Fact, frozen=True, kw_only=True):
    """A person approved or rejected what a breach waited with (K4)."""

    cap_id: str
    ordinal: int
    kind: Kind
    verdict: Verdict
    by: str
    why: str


class CapCleared(Fact, frozen=True, kw_only=True):
    """A breach is over (C4); `waiting` are the keys that stay paused until a person resumes them."""

    cap_id: str
    ordinal: int
    kind: Kind
    scope: str
    enforce: Enforce
    reason: str
    waiting: tuple[str, ...] = ()


class KeyHeld(Fact, frozen=True, kw_only=True):
    """A person holds a key paused."""

    key: str
    by: str
    why: str


class KeyReleased(Fact, frozen=True, kw_only=True):
    """A person's resume: lifts a person's hold and the waits for one, nothing else (K2)."""

    key: str
    by: str
    why: str


class KeyStateChanged(Fact, frozen=True, kw_only=True):
    """What we want of a key changed: a command to every credential of it (K3). `by` is set when a person revoked."""

    key: str
    workspace: str
    state: State
    revision: int
    reasons: tuple[str, ...]
    credentials: tuple[str, ...]
    by: str | None = None


class KeyLeaking(Fact, frozen=True, kw_only=True):
    """A key still spends though its gateway confirmed, more than a grace ago, that it is stopped (K6).

    `entry` is the call's, `credential` the name it came under, `started_us` when it began, `confirmed_us` the gateway's word.
    """

    key: str
    credential: str
    revision: int
    entry: int
    started_us: int
    confirmed_us: int


class CommandConfirmed(Fact, frozen=True, kw_only=True):
    """A gateway said what state a credential is in."""

    key: str
    credential: str
    connection: str
    revision: int
    state: State
    mark: str | None
    by: str


class UsageCorrected(Fact, frozen=True, kw_only=True):
    """An entry's price was set anew (J3). `cost` and `unpriced` are differences, booked on the corrected entry's own day.

    `by_amount`: whether the difference was asked for, not the price (J2).
    """

    digest: bytes
    corrects: int
    day: int
    hour_us: int | None
    key: str
    workspace: str
    cost: int
    unpriced: int
    price: Nanos
    by: str
    why: str
    by_amount: bool = False


class Share(msgspec.Struct, frozen=True, gc=False):
    """A workspace's part of a shared cost; nano-USD."""

    workspace: str
    weight: int
    cost: Nanos


class CostShared(Fact, frozen=True, kw_only=True):
    """A cost that no key made was shared out. Its parts follow, one `ShareBooked` each; `over` and `asked` as they were asked for."""

    digest: bytes
    amount: Nanos
    how: How
    over: tuple[tuple[str, int], ...]
    asked: int | None
    day: int
    parts: tuple[Share, ...]
    by: str
    why: str


class ShareBooked(Fact, frozen=True, kw_only=True):
    """A workspace's part of the cost that entry `shared` shared out, booked on a day under no key (M7)."""

    shared: int
    workspace: str
    day: int
    time_us: int
    cost: Nanos


AnyFact = (
    OrgOpened | OrgChanged | WorkspaceOpened | WorkspaceClosed | KeyRegistered | KeyMoved | CredentialAdded
    | CredentialRemoved | KeyRemoved | CapSet | CapRemoved | GuardrailSet | GuardrailRemoved | ConnectionSet
    | ConnectionRemoved | ThresholdReached | CapBreached | BreachJudged | CapCleared | KeyHeld | KeyReleased | KeyStateChanged | KeyLeaking
    | CommandConfirmed | UsageCorrected | LabelsSet | CostShared | ShareBooked
)  # fmt: skip
Entry = UsageRecorded | AnyFact
