"""Owns what can be asked of the books, as values, and the status each request is answered with.

A command is a wish in the imperative; what becomes of it is entries. Commands are never stored (see `entries`).
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from .caps import Enforce, Guardrail, Rule, Verdict
from .connections import Connection
from .keys import State
from .money import Nanos


class Status(StrEnum):
    """What became of a command, in order of precedence: the first that applies is the answer."""

    REJECTED = "rejected"
    PARKED = "parked"
    EXISTS_WITH_DIFFERENT_CONTENT = "exists_with_different_content"
    DUPLICATE = "duplicate"
    RECORDED = "recorded"
    ACCEPTED = "accepted"  # handed to Kafka, to be booked


class Reason(StrEnum):
    """Why something was rejected or parked; part of the wire."""

    IN_THE_FUTURE = "in_the_future"
    UNKNOWN_ORG = "unknown_org"
    BEFORE_2000 = "before_2000"
    TOO_MUCH = "too_much"
    MALFORMED = "malformed"
    WRONG_ORG = "wrong_org"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    STALE_VERSION = "stale_version"


class Result(msgspec.Struct, frozen=True, gc=False):
    """A command's answer. `seq` is the entry it became, if it did; `detail` is for a person."""

    status: Status
    reason: Reason | None = None
    detail: str | None = None
    seq: int | None = None


class Usage(msgspec.Struct, gc=False):
    """What a gateway says happened in one call, as parsed. Counts are tokens; cached and cache-write tokens are inside
    input, reasoning inside output. Prompts and completions have no field here (S7)."""

    org: str = ""
    key: str = ""
    workspace: str | None = None
    model: str | None = None
    provider: str | None = None
    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    images: int = 0
    searches: int = 0
    byok: bool = False
    batch: bool = False
    member: str | None = None
    end_user: str | None = None
    preset: str | None = None
    preset_version: int | None = None
    session: str | None = None
    tags: dict[str, str] | None = None
    hold: str | None = None
    response_id: str | None = None
    started_us: int | None = None


class RecordUsage(msgspec.Struct, gc=False):
    """Book one usage event.

    Attributes:
      digest: 16 bytes, the identity of (org, source, event_id) (J2).
      time_us: the call's end; decides its windows (W2).
      cost, upstream: nano-USD, None when not said. The texts are as the sender wrote them (M2).
      computed: nano-USD by the rate card's version `card`, None where it has no price (M3).
    """

    source: str
    event_id: str
    digest: bytes
    time_us: int
    cost: Nanos | None
    cost_text: str | None
    upstream: Nanos | None
    upstream_text: str | None
    usage: Usage
    computed: Nanos | None = None
    card: int | None = None

    @property
    def booked(self) -> Nanos | None:
        """What is booked: the cost as sent, else as computed; None is unpriced (M4)."""
        return self.computed if self.cost is None else self.cost


class Rejected(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An event that could not be read: what was wrong, in which field, and what identity it showed."""

    detail: str
    field: str | None = None
    reason: Reason = Reason.MALFORMED
    source: str | None = None
    event_id: str | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What every command of a person or a program carries: its org, who gives it (T3), and the version it was based on.

    `version`: None for any; 0 for "only if it is not there yet"; else the seq that the thing was last set at.
    """

    org: str
    by: str
    version: int | None = None


def org_of(command: RecordUsage | Order) -> str:
    """The org whose books a command is about."""
    return command.usage.org if isinstance(command, RecordUsage) else command.org


class Labelled(Order, frozen=True, kw_only=True):
    """An order that may also set labels (S9): exactly these from day `since` on (None: from today); None leaves them."""

    labels: dict[str, str] | None = None
    since: int | None = None


class SetOrg(Labelled, frozen=True, kw_only=True):
    """Open an org, or change its time zone, its labels, whether its caps are enforced, or its brake: how many breaches that
    stop keys may do so within a minute before the rest wait for a person (K4). Empty or None leaves what is there."""

    time_zone: str = ""
    enforce: Enforce | None = None
    brake: int | None = None


class SetWorkspace(Labelled, frozen=True, kw_only=True):
    """Open a workspace, or change its labels."""

    workspace: str


class RemoveWorkspace(Order, frozen=True, kw_only=True):
    """Close a workspace that has no keys left; it stays in every report."""

    workspace: str


class SetKey(Labelled, frozen=True, kw_only=True):
    """Register a key, move it to a workspace (S4), set its labels or its credentials (S1, K3). None leaves what is there."""

    key: str
    workspace: str | None = None
    credentials: tuple[str, ...] | None = None


class RemoveKey(Order, frozen=True, kw_only=True):
    """Take a key off the lists; its spend stays in every report and its caps stay on."""

    key: str


class SetCap(Order, frozen=True, kw_only=True):
    """Put a cap on a scope, or change it."""

    cap: str
    scope: str
    rule: Rule


class RemoveCap(Order, frozen=True, kw_only=True):
    """Take a cap away."""

    cap: str


class SetGuardrail(Order, frozen=True, kw_only=True):
    """Set a guardrail, and with it the cap of everything it covers (S5)."""

    guardrail: Guardrail


class RemoveGuardrail(Order, frozen=True, kw_only=True):
    """Take a guardrail and all its caps away."""

    guardrail: str


class SetConnection(Order, frozen=True, kw_only=True):
    """Declare a gateway's account, or change it (S8)."""

    connection: Connection


class RemoveConnection(Order, frozen=True, kw_only=True):
    """Forget a gateway's account; what came in by it stays."""

    connection: str


class TurnKey(Order, frozen=True, kw_only=True):
    """A person pauses, resumes or revokes a key."""

    key: str
    state: State
    why: str


class JudgeBreach(Order, frozen=True, kw_only=True):
    """A person approves or rejects what an open breach waits with (K4)."""

    cap: str
    ordinal: int
    verdict: Verdict
    why: str


class ConfirmCommand(Order, frozen=True, kw_only=True):
    """A gateway says what state a credential is in, in answer to a revision. `mark`: see `keys.Confirmation`."""

    key: str
    credential: str
    connection: str = ""
    revision: int
    state: State
    mark: str | None = None


class CorrectUsage(Order, frozen=True, kw_only=True):
    """Set the price of an entry of usage anew, in its own window (J3, M4).

    `digest` is the identity of the request, `entry` the seq that is corrected; `cost` what it should have been, or
    `difference` by how much that differs from what it is; nano-USD.
    """

    digest: bytes
    entry: int
    cost: Nanos | None
    difference: int | None = None
    why: str


class How(StrEnum):
    """How a cost is shared out: the same for each, by weights, or by what each spent in the month."""

    EVENLY = "evenly"
    WEIGHT = "weight"
    SPEND = "spend"


class ShareCost(Order, frozen=True, kw_only=True):
    """Share a cost that no key made over workspaces.

    `digest` is the identity of the request; `over`: workspaces with their weights; `day`: when it counts, None: today.
    """

    digest: bytes
    amount: Nanos
    how: How
    over: tuple[tuple[str, int], ...]
    day: int | None = None
    why: str


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """An order that cannot be carried out; raised as a value inside `execute`."""

    reason: Reason
    detail: str


Command = (
    RecordUsage | SetOrg | SetWorkspace | RemoveWorkspace | SetKey | RemoveKey | SetCap | RemoveCap
    | SetGuardrail | RemoveGuardrail | SetConnection | RemoveConnection | TurnKey | JudgeBreach | ConfirmCommand | CorrectUsage
    | ShareCost
)  # fmt: skip
Commands = Sequence[Command]
IDENTIFIED = (RecordUsage, CorrectUsage, ShareCost)  # what is known by a digest (J2)
