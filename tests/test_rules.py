"""docs/rules.md held against the tests: every rule is cited by at least one of them, and none is cited that is not there."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
NAME = re.compile(r"\b(?:M[1-9]|S[1-9]|W[1-9]|C10|C[1-9]|K[1-9]|H[1-9]|J[1-9]|T[1-9])\b")
# Rules that nothing obeys yet. This set shrinks: a rule that a test cites must leave it.
LATER = {"S6", "C8", "H1", "H2", "H3", "J4"}


def _stated() -> list[str]:
    return re.findall(r"^- \*\*(\w+)", (ROOT / "docs/rules.md").read_text(), re.MULTILINE)


def _cited(*folders: str) -> set[str]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".txt")]
    return {name for path in files if path != Path(__file__) for name in NAME.findall(path.read_text())}


def test_every_rule_is_stated_once() -> None:
    stated = _stated()
    assert len(stated) == len(set(stated)) > 50


def test_every_rule_is_cited_by_a_test_or_stands_among_those_of_later() -> None:
    assert set(_stated()) - _cited("tests") == LATER


def test_no_rule_is_cited_that_is_not_stated() -> None:
    assert _cited("ledger", "tests", "examples") <= set(_stated())
