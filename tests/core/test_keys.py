"""The life of a key as one table (K1)."""

import pytest

from ledger.core.keys import MOVES, Key, State, may_become, wanted

TABLE = {
    (State.ACTIVE, State.ACTIVE): False,
    (State.ACTIVE, State.PAUSED): True,
    (State.ACTIVE, State.REVOKED): True,
    (State.PAUSED, State.ACTIVE): True,
    (State.PAUSED, State.PAUSED): False,
    (State.PAUSED, State.REVOKED): True,
    (State.REVOKED, State.ACTIVE): False,
    (State.REVOKED, State.PAUSED): False,
    (State.REVOKED, State.REVOKED): False,
}


def test_the_table_knows_every_state() -> None:
    assert set(MOVES) == set(State)
    assert len(TABLE) == len(State) ** 2


@pytest.mark.parametrize(("state", "other"), TABLE)
def test_a_key_moves_as_the_table_says(state: State, other: State) -> None:
    assert may_become(state, other) is TABLE[state, other]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("held", [None, "will: looks odd"])
def test_a_key_is_wanted_paused_while_a_cap_stops_it_or_a_person_holds_it(state: State, stopped: bool, held: str | None) -> None:
    """K1: however it got where it is; revoked is final."""
    key = Key(key_id="k", workspace="w", state=state, held=held)
    expected = State.PAUSED if stopped or held else State.ACTIVE
    assert wanted(key, stopped) is (State.REVOKED if state is State.REVOKED else expected)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("stopped", [True, False])
def test_what_is_wanted_is_where_it_is_or_a_move_of_the_table(state: State, stopped: bool) -> None:
    now = wanted(Key(key_id="k", workspace="w", state=state), stopped)
    assert now is state or may_become(state, now)
