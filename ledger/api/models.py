"""Owns the shapes of requests and answers, for OpenAPI and for reading what people send. Unknown fields are refused."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..core.caps import BRAKE, Action, Enforce, Resume, Rule, Verdict, Waits
from ..core.keys import State
from ..core.money import Nanos
from ..core.window import Period, is_zone
from ..wire.secrets import redact
from .values import Day, Id, LimitUsd, Scope

Text = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$"), AfterValidator(redact)]  # what people write (S2)


class Given(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Labelled(Given):
    """What may carry labels (S9): exactly these from a day on; left out, they stay as they are."""

    labels: Annotated[dict[Id, Id], Field(max_length=50, examples=[{"cost_center": "4711"}])] | None = None
    labels_from: Annotated[Day | None, Field(description="the first day they stand on, of the org's calendar; default: today")] = None

    def labelling(self) -> dict[str, Any]:
        """As the core's orders have it."""
        return {"labels": self.labels, "since": self.labels_from}


def _zone(name: str) -> str:
    if not is_zone(name):
        raise ValueError("is not in the tz database, as America/New_York is")
    return name


Zone = Annotated[str, Field(min_length=1, max_length=64, examples=["America/New_York"]), AfterValidator(_zone)]
Brake = Annotated[int, Field(ge=0, le=10**6, description="breaches that may stop keys within a minute; the rest wait for approval")]


class OrgGiven(Labelled):
    """Fields that are left out are set to their defaults: a PUT says the whole thing, but for the labels."""

    time_zone: Zone = "UTC"
    enforce: Enforce = Enforce.ON
    brake: Brake = BRAKE


class WorkspaceGiven(Labelled):
    """A workspace has nothing to set but its labels."""


class KeyGiven(Labelled):
    """What is left out stays as it is."""

    workspace: Id | None = None
    credentials: Annotated[list[Id], Field(max_length=100)] | None = None


class RuleGiven(Given):
    """What a cap or a guardrail says (C1)."""

    period: Period
    limit_usd: LimitUsd
    action: Action = Action.ALERT
    thresholds: Annotated[list[Annotated[int, Field(ge=1, le=1000, strict=True)]], Field(max_length=20)] = []
    include_byok: bool = False
    on_unpriced: Literal["alert", "pause"] = "alert"
    resume: Resume = Resume.AUTO
    enforce: Enforce = Enforce.ON
    approval: Annotated[bool, Field(description="whether revoking waits for a person's approval")] = True
    backstop_percent: Annotated[
        Annotated[int, Field(ge=100, le=10_000, strict=True)] | None,
        Field(description="of the limit: what a key's gateway keeps"),
    ] = None

    def rule(self) -> Rule:
        """As the core has it."""
        return Rule(
            period=self.period, limit=Nanos(self.limit_usd), action=self.action, thresholds=tuple(sorted(set(self.thresholds))),
            include_byok=self.include_byok, on_unpriced=Action(self.on_unpriced), resume=self.resume, enforce=self.enforce,
            approval=self.approval, backstop_percent=self.backstop_percent,
        )  # fmt: skip


class CapGiven(RuleGiven):
    """A rule on one scope."""

    scope: Scope


class GuardrailGiven(RuleGiven):
    """A rule for every subject it covers (S5)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    each: Literal["key", "workspace"]
    within: Annotated[list[Id], Field(alias="in", min_length=1, max_length=1000, description="`org`, or workspaces")]
    except_: Annotated[list[Id], Field(alias="except", max_length=10_000, description="keys or workspaces")] = []


class ReasonGiven(Given):
    """Why a person does it."""

    reason: Text


class ConfirmGiven(Given):
    """A gateway's answer to a command."""

    state: State
    mark: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$"), AfterValidator(redact)] | None = None


class Org(BaseModel):
    """An org, and where its journal stands."""

    org: str
    time_zone: str
    enforce: Enforce
    brake: int
    labels: dict[str, str]
    seq: int
    recorded_at: str | None


class Workspace(BaseModel):
    """A workspace."""

    workspace: str
    deleted: bool
    labels: dict[str, str]
    version: int


class Key(BaseModel):
    """A key: what is wanted of it, why, and what its gateway confirmed."""

    key: str
    workspace: str
    state: State
    reasons: list[str]
    wanted: State
    confirmed: State | None
    revision: int
    changed_at: str | None
    credentials: list[str]
    held: str | None
    leaking: bool
    alias_of: str | None
    registered_by: str | None
    deleted: bool
    labels: dict[str, str]
    version: int


class RuleShown(BaseModel):
    """What a cap or a guardrail says."""

    period: Period
    limit_usd: str
    action: Action
    thresholds: list[int]
    include_byok: bool
    on_unpriced: Action
    resume: Resume
    enforce: Enforce
    approval: bool
    backstop_percent: int | None
    version: int


class Cap(RuleShown):
    """A cap."""

    cap: str
    scope: str


class Guardrail(RuleShown):
    """A guardrail."""

    model_config = ConfigDict(populate_by_name=True)
    guardrail: str
    each: str
    within: Annotated[list[str], Field(alias="in")]
    except_: Annotated[list[str], Field(alias="except")]


class Breach(BaseModel):
    """A breach (C7)."""

    cap: str
    ordinal: int
    kind: str
    scope: str
    period: Period
    start: str | None
    end: str | None
    limit_usd: str
    spent_usd: str
    over_usd: str
    unpriced: int
    action: Action
    enforce: Enforce
    entry: int | None
    waits: Waits
    verdict: Verdict | None
    judged_by: str | None
    opened_at: str | None
    closed_at: str | None
    reason: str | None


class KeyCommand(BaseModel):
    """A command to a gateway, for one credential, and what became of it (K3)."""

    id: str
    key: str
    credential: str
    connection: str | None
    revision: int
    state: State
    reasons: str
    delivery: str
    attempts: int
    created_at: str | None
    attempted_at: str | None
    confirmed_at: str | None
    error: str | None


class Orgs(BaseModel):
    """A page of orgs."""

    orgs: list[Org]
    cursor: str | None


class Workspaces(BaseModel):
    """A page of workspaces."""

    workspaces: list[Workspace]
    cursor: str | None


class Keys(BaseModel):
    """A page of keys."""

    keys: list[Key]
    cursor: str | None


class Caps(BaseModel):
    """A page of caps."""

    caps: list[Cap]
    cursor: str | None


class Guardrails(BaseModel):
    """A page of guardrails."""

    guardrails: list[Guardrail]
    cursor: str | None


class Breaches(BaseModel):
    """A page of breaches, newest first."""

    breaches: list[Breach]
    cursor: str | None


class KeyCommands(BaseModel):
    """A page of commands, and one of breaches that wait for a person, each newest first and with its own cursor."""

    commands: list[KeyCommand]
    waiting: list[Breach]
    cursor: str | None
    waiting_cursor: str | None


class Entries(BaseModel):
    """A page of the journal; each entry has `seq`, `type`, `recorded_at` and its type's own fields."""

    entries: list[dict[str, Any]]


class Explanation(BaseModel):
    """A figure or a state, down to its entries (J6)."""

    about: str
    facts: dict[str, Any]
