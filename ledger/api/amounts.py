"""Owns the shapes of balances in answers."""

from pydantic import BaseModel

from ..core.caps import Action, Enforce
from ..core.window import Period


class CapBalance(BaseModel):
    """What a cap leaves in a balance's window."""

    cap: str
    limit_usd: str
    left_usd: str


class CapAbove(CapBalance):
    """A cap above a scope, in its own window: all of them must hold (C2), and the tightest is the one that leaves least.

    `forecast_usd`: what the window will have seen at its end at its pace so far.
    """

    scope: str
    period: Period
    start: str | None
    end: str | None
    spent_usd: str
    byok_usd: str
    unpriced: int
    percent: int
    action: Action
    enforce: Enforce
    forecast_usd: str | None
    tightest: bool


class Balance(BaseModel):
    """What a scope used in one window; `start` and `end` are null for a lifetime."""

    scope: str
    period: Period
    start: str | None
    end: str | None
    spent_usd: str
    byok_usd: str
    held_usd: str
    unpriced: int
    requests: int
    input_tokens: int
    output_tokens: int
    caps: list[CapBalance]
    above: list[CapAbove]


class Balances(BaseModel):
    """Balances, and the journal's place that they are true for."""

    seq: int
    recorded_at: str | None
    balances: list[Balance]
    cursor: str | None
