"""Labels as values over days (S9)."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.core.labels import History, amended, as_of, changes, standing

days = st.integers(0, 9)
said = st.lists(st.tuples(days, st.sampled_from(("a", "b", None))), max_size=8)


@given(said, days)
def test_what_was_said_last_of_the_nearest_day_before_stands(words: list[tuple[int, str | None]], day: int) -> None:
    history: History = ()
    for since, value in words:
        history = amended(history, since, value)
    nearest = max((since for since, _ in words if since <= day), default=None)
    expected = None if nearest is None else [value for since, value in words if since == nearest][-1]
    assert standing(history, day) == expected
    assert list(history) == sorted(history, key=lambda word: word[0])


@given(st.dictionaries(st.sampled_from("xyz"), said), st.dictionaries(st.sampled_from("xyz"), st.sampled_from("ab")), days)
def test_after_the_changes_exactly_the_wanted_labels_stand_and_earlier_days_are_as_they_were(
    words: dict[str, list[tuple[int, str | None]]], wanted: dict[str, str], day: int
) -> None:
    labels = {name: history for name, word in words.items() for history in [_history(word)]}
    before = [as_of(labels, earlier) for earlier in range(day)]
    said_now = changes(labels, wanted, day)
    assert list(said_now) == sorted(said_now), "an entry is the same text wherever it is made (J1)"
    for name, value in reversed(said_now.items()):
        labels[name] = amended(labels.get(name, ()), day, value)
    assert list(as_of(labels, day).items()) == sorted(wanted.items())
    assert [as_of(labels, earlier) for earlier in range(day)] == before
    assert changes(labels, wanted, day) == {}


def _history(words: list[tuple[int, str | None]]) -> History:
    history: History = ()
    for since, value in words:
        history = amended(history, since, value)
    return history
