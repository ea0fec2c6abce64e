"""`ledger rates` by the real command: a list that can't be read changes nothing; a price that is set prices what waits (M4)."""

import json
from pathlib import Path

import pytest

from tests.cli.test_import import Ledger, file
from tests.wire.events import raw
from tests.wire.test_pricelists import LITELLM


@pytest.fixture
def ledger(tmp_path: Path, sqlite_template: Path) -> Ledger:
    (tmp_path / "ledger.db").write_bytes(sqlite_template.read_bytes())
    return Ledger(tmp_path)


def test_a_list_is_taken_in_once_and_one_that_is_cut_short_leaves_the_old_one(ledger: Ledger) -> None:
    prices, broken = file(ledger, "prices.json", LITELLM), file(ledger, "broken.json", LITELLM[:-40])
    code, out, err = ledger("rates", "sync", "litellm", "--file", prices)
    assert code == 0 and "version 1: 5 new" in out and "left out 4 models" in err
    code, _, err = ledger("rates", "sync", "litellm", "--file", broken)
    assert code == 1 and "the card stays as it is" in err
    assert "version 1" in ledger("rates", "list", "gpt-4o")[1]
    found, none = (ledger("rates", "list", name, "--format", "csv")[1].splitlines() for name in ("gpt-4o", "no-such"))
    assert none == found[:1] and len(found) > 1, "a header, also of no rows"
    dearer = LITELLM.replace('"gpt-4o": {"input_cost_per_token": 2.5e-06', '"gpt-4o": {"input_cost_per_token": 9e-06')
    changed = file(ledger, "changed.json", dearer)
    code, out, _ = ledger("rates", "diff", "litellm", "--file", changed)
    assert code == 2 and "gpt-4o at openai: input=2.5" in out and "→ input=9" in out


def test_a_price_that_is_set_prices_the_entries_that_wait_for_it(ledger: Ledger) -> None:
    name = file(ledger, "usage.jsonl", raw({"cost_usd": ..., "model": "mine", "input_tokens": 1_000_000}))
    assert ledger("import", name)[0] == 1, "there is no org yet to import for"
    (ledger.folder / "policy.yaml").write_text("org: {id: acme}\n")
    ledger("apply", "policy.yaml", "--yes")
    assert "1 of them unpriced" in ledger("import", name)[1]
    assert ledger("rates", "set", "mine", "input=-3")[0] == 1
    _, out, err = ledger("rates", "set", "mine", "input=3", "output=15")
    assert "priced 1 entries that waited" in out and not err
    assert ledger.spent() == ("3.00", 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "mine", "input=1", "input=2"), "input: is there twice"), (("set", "", "input=1"), "MODEL: is empty"),
        (("set", "mine", "input=1", "--tier", "5:input=2", "--tier", "5:input=3"), "--tier: begins twice"),
        (("set", "mine", "input=1_5"), "input: '1_5' is not a number of dollars"),
        (("list", "--version", "7"), "--version: 7 is not there yet: there is no card"),
        (("list", "--version", "9" * 20), "is not there yet"),
    ],
)  # fmt: skip
def test_a_price_that_is_said_twice_and_a_version_that_is_not_there_are_refused(ledger: Ledger, words: tuple[str, ...], said: str) -> None:
    code, out, err = ledger("rates", *words)
    assert code == 1 and not out and said in err


def test_a_tier_says_only_what_differs_from_the_one_before(ledger: Ledger) -> None:
    """As in price lists (M3); in whatever order they are given."""
    ledger("rates", "set", "mine", "input=1", "output=10", "--tier", "200000:input=4", "--tier", "128000:input=2,output=20")
    tiers = json.loads(ledger("rates", "list", "mine", "--format", "json")[1])[0]["tiers"]
    assert [(tier["above_input_tokens"], tier["usd_per_million"]) for tier in tiers] == [
        (128_000, {"input": "2", "output": "20"}), (200_000, {"input": "4", "output": "20"}),
    ]  # fmt: skip


@pytest.mark.parametrize("verb", ["sync", "diff"])
def test_a_file_or_an_address_for_a_list_that_has_none_is_refused_and_not_passed_over(ledger: Ledger, verb: str) -> None:
    prices = file(ledger, "prices.json", LITELLM)
    for words in (("genai-prices", "--file", prices), ("--url", "http://127.0.0.1:1/"), ("litellm", "--file", prices, "--url", "http://x")):
        code, out, err = ledger("rates", verb, *words)
        assert code == 1 and not out and words[-2] in err
