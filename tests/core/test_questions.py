"""What can be asked of the spend, in words, and which words mean nothing (S9)."""

from datetime import date

import pytest

from ledger.core.questions import (
    GRAINS,
    MOST_DAYS,
    MOST_DIMENSIONS,
    ROLLED,
    Dimension,
    Kind,
    Only,
    Question,
    QuestionError,
    parse_by,
    parse_grain,
    parse_where,
    question,
)
from ledger.core.window import HOUR_US, day_number, day_start_us

HOME = "America/New_York"
SPRING = day_number(date(2026, 3, 8))


def asked(
    by: str = "", grain: str | None = None, where: tuple[str, ...] = (), zone: str = HOME, later_us: tuple[int, int] = (0, 0)
) -> Question:
    """Of the 8th of March 2026, whose 23 hours begin and end so much later."""
    start_us, end_us = (day_start_us(SPRING + n, zone) + later_us[n] for n in (0, 1))
    return question(start_us, end_us, (SPRING, SPRING + 1), parse_by([by]), parse_grain(grain), parse_where(where), zone, HOME)


def test_dimensions_are_asked_for_by_name_in_the_order_of_the_columns_none_twice() -> None:
    found = parse_by([" key , tag:team,", "label:cost_center", "key", " "])
    assert found == (Dimension(Kind.KEY), Dimension(Kind.TAG, "team"), Dimension(Kind.LABEL, "cost_center"))
    assert [str(one) for one in found] == ["key", "tag:team", "label:cost_center"]
    assert len(parse_by(list(ROLLED) + [f"tag:{n}" for n in range(MOST_DIMENSIONS - len(ROLLED))])) == MOST_DIMENSIONS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model:openai/gpt-5", [("model", "", "openai/gpt-5")]),
        ("key:a:b", [("key", "", "a:b")]),
        ("member:", [("member", "", None)]),
        ("tag:team=web=1", [("tag", "team", "web=1")]),
        ("tag:team", [("tag", "team", None)]),
        ("label:owner=", [("label", "owner", None)]),
        ("preset:crawler@4", [("preset", "", "crawler"), ("preset_version", "", "4")]),
        ("preset:a@b@12", [("preset", "", "a@b"), ("preset_version", "", "12")]),
        ("preset:will@home", [("preset", "", "will@home")]),
        ("preset:crawler", [("preset", "", "crawler")]),
        ("preset:4", [("preset", "", "4")]),
        ("session:crawler@4", [("session", "", "crawler@4")]),
    ],
)
def test_a_line_is_chosen_by_what_it_has_or_lacks(text: str, found: list[tuple[str, str, str | None]]) -> None:
    """A colon, an equals sign or an at sign inside a value is part of it; nothing after them means lines without one."""
    assert parse_where([text]) == tuple(Only(Dimension(Kind(kind), name), value) for kind, name, value in found)


@pytest.mark.parametrize(
    ("field", "wrong", "why"),
    [
        ("by", {"by": "cost"}, "'cost' is not one of org, workspace, .*, tag:NAME, label:NAME, charge"),
        ("by", {"by": "tag"}, "say which: tag:NAME"),
        ("by", {"by": "key:k"}, "key takes no name"),
        ("by", {"by": "x" * 51}, f"'{'x' * 50}' is not"),
        ("by", {"by": ",".join(["key"] * (MOST_DIMENSIONS + 1))}, "more than 12 dimensions"),
        ("where", {"where": ("key",)}, "'key' is not KIND:VALUE"),
        ("where", {"where": ("cost:1",)}, "'cost' is not one of"),
        ("where", {"where": ("label:=will",)}, "say which: label:NAME"),
        ("where", {"where": ("y" * 51,)}, f"'{'y' * 50}' is not"),
        ("grain", {"grain": "lifetime"}, "'lifetime' is not one of hour, day, week, month, year"),
        ("grain", {"grain": "z" * 51}, f"'{'z' * 50}' is not"),
        ("to", {"later_us": (23 * HOUR_US, 0)}, "is not after `from`"),
    ],
)
def test_what_means_nothing_is_told_by_its_word(field: str, wrong: dict[str, object], why: str) -> None:
    with pytest.raises(QuestionError, match=f"^{why}") as refused:
        asked(**wrong)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert [parse_grain(grain) for grain in GRAINS] == list(GRAINS) and parse_grain(None) is None


def test_a_range_is_a_microsecond_at_least_and_forty_years_at_most_in_a_zone_that_there_is() -> None:
    assert asked(later_us=(23 * HOUR_US - 1, 0)).start_us + 1 == asked().end_us
    assert question(0, 1, (1, 1 + MOST_DAYS), (), None, (), HOME, HOME).end == 1 + 40 * 366
    with pytest.raises(QuestionError, match=r"^is more than 40 years after `from`") as long:
        question(0, 1, (0, 1 + MOST_DAYS), (), None, (), HOME, HOME)
    with pytest.raises(QuestionError, match=r"^'Nowhere/City' is not in the tz database") as nowhere:
        question(0, 1, (0, 1), (), None, (), "Nowhere/City", HOME)
    assert (long.value.field, nowhere.value.field) == ("to", "zone")


@pytest.mark.parametrize(
    ("wish", "timed", "rolled"),
    [
        ({}, False, True),
        ({"by": ",".join(ROLLED), "grain": "day"}, False, True),
        ({"by": "org,label:cost_center", "where": ("model:m",)}, False, True),
        ({"by": "key,session"}, False, False),
        ({"by": "key", "where": ("tag:team=web",)}, False, False),
        ({"grain": "hour"}, True, False),
        ({"zone": "Asia/Kolkata"}, True, False),
        ({"later_us": (1, 0)}, True, False),
        ({"later_us": (0, -1)}, True, False),
    ],
)
def test_the_booked_day_answers_whole_days_at_home_and_the_rollup_those_of_what_it_holds(
    wish: dict[str, object], timed: bool, rolled: bool
) -> None:
    """W4: hours, another zone's days and parts of a day are told by the event's time."""
    found = asked(**wish)  # type: ignore[arg-type]
    assert (found.timed, found.rolled) == (timed, rolled)


def test_a_dimension_that_is_shown_and_chosen_by_is_needed_once() -> None:
    assert asked("key,model", where=("model:m", "member:ann")).dimensions == [
        Dimension(Kind.KEY), Dimension(Kind.MODEL), Dimension(Kind.MEMBER),
    ]  # fmt: skip
