"""Owns the life of a key: its states, the table of moves between them, and what is wanted of it (K1).

It does not know why a cap is in breach, nor how a gateway is told.
"""

from enum import StrEnum

import msgspec


class State(StrEnum):
    """A key's state. Revoked is final."""

    ACTIVE = "active"
    PAUSED = "paused"
    REVOKED = "revoked"


MOVES: dict[State, frozenset[State]] = {
    State.ACTIVE: frozenset({State.PAUSED, State.REVOKED}),
    State.PAUSED: frozenset({State.ACTIVE, State.REVOKED}),
    State.REVOKED: frozenset(),
}

UNASSIGNED = "unassigned"  # the workspace of keys that registered themselves without naming one (S3)


class Key(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One autonomous behaviour (S1).

    Attributes:
      state: what we want it to be; `revision` counts the changes of that, `changed_us` when it last became so.
      held: why a person holds it paused, else None.
      by: who registered it; None when its own usage did (S3).
      leaking: it went on spending after its gateway had confirmed that it is stopped (K6), and has not changed since.
      alias_of: the older key whose credential this self-registered key turned out to be.
      seq: the entry that last set what a person can set.
    """

    key_id: str
    workspace: str
    state: State = State.ACTIVE
    revision: int = 0
    changed_us: int = 0
    held: str | None = None
    by: str | None = None
    leaking: bool = False
    alias_of: str | None = None
    deleted: bool = False
    seq: int = 0


class Workspace(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A policy domain: the keys in it come under its caps."""

    workspace_id: str
    deleted: bool = False
    seq: int = 0


class Confirmation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a gateway last said about one credential of a key.

    Attributes:
      connection: the gateway's, as the org knows it (S8); empty for the one gateway of an org without any.
      revision: of the command it answered.
      mark: the gateway's change mark for a pause that was ours; None when it was not ours to undo (K2).
    """

    key: str
    credential: str
    connection: str
    revision: int
    state: State
    mark: str | None = None
    confirmed_us: int


def may_become(state: State, wanted: State) -> bool:
    """Whether the table allows the move."""
    return wanted in MOVES[state]


def wanted(key: Key, stopped: bool, ended: bool = False) -> State:
    """What a key should be: revoked stays, or becomes so where a cap ends it without asking (K4); paused while a cap stops it
    or a person holds it; else active (K1)."""
    if ended or key.state is State.REVOKED:
        return State.REVOKED
    return State.PAUSED if stopped or key.held is not None else State.ACTIVE
