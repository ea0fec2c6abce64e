"""What finance asks for on the command line: a breach explained, reports, adjustments, shared costs."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ledger.cli.common import out
from tests.cli.conftest import Ledger, book

ROOT = Path(__file__).parents[2]


@pytest.fixture
def over(ledger: Ledger) -> Ledger:
    """An org whose one key is over its daily cap."""
    ledger("apply", ledger.file(), "--yes")
    book(ledger, ("e1", "1.50"), ("e2", "0.70"))
    return ledger


def crossing(ledger: Ledger) -> str:
    return str(json.loads(ledger("explain", "daily/key:crawler/1", "--format", "json").stdout)["crossed"]["seq"])


def test_a_breach_is_explained_in_a_few_lines(over: Ledger) -> None:
    """C7, J6."""
    lines = over("explain", "daily/key:crawler/1").stdout.splitlines()
    assert lines[0].split() == ["breach", "daily/key:crawler/1", "OPEN", "key:crawler"]
    words = {line.split()[0]: line for line in lines[1:]}
    assert "$2.20 of $2.00, over by $0.20" in words["why"] and words["crossed"].endswith("e2")
    assert "paused" in words["done"] and words["action"].split() == ["action", "pause"]
    over("adjust", crossing(over), "--cost", "0", "--reason", "billed twice")
    assert "spend corrected" in over("explain", "daily/key:crawler/1").stdout.splitlines()[0]


def test_a_table_names_a_guardrails_cap_by_the_guardrail_since_the_scope_stands_beside_it(over: Ledger) -> None:
    table = over("balances", "key:crawler", "workspace:research").stdout
    assert "daily/…" in table and "org-month" in table
    assert json.loads(over("balances", "key:crawler", "--format", "json").stdout)[0]["caps"][0]["cap"] == "daily/key:crawler"


def test_an_adjustment_corrects_in_the_calls_own_window_and_is_booked_once(over: Ledger) -> None:
    """J2, J3."""
    order = ("adjust", crossing(over), "--amount", "-0.30", "--reason", "billed twice", "--request", "r1")
    assert over(*order).stdout.startswith("recorded") and over(*order).stdout.startswith("duplicate")
    (balance,) = over.rows("balances", "key:crawler")
    assert balance["spent_usd"] == "1.90"
    rows = json.loads(over("report", "--by", "key,charge", "--format", "json").stdout)["rows"]
    assert [(row["charge"], row["spent_usd"]) for row in rows] == [("correction", "-0.30"), ("usage", "2.20")]
    told = over("explain", "--where", "charge:correction").stdout
    assert "-$0.30" in told and "billed twice" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cost", "1", "--amount", "1"), "--cost or --amount"), ((), "--cost or --amount"), (("--cost", "-1"), "--cost"),
        (("--amount", "much"), "--amount"), (("--amount", "-5"), "more than the entry costs"),
        (("--amount", "0"), "costs $0.70 already: there is nothing to correct"), (("--cost", "0.70"), "nothing to correct"),
    ],
)  # fmt: skip
def test_an_adjustment_that_makes_no_sense_is_refused(over: Ledger, words: tuple[str, ...], said: str) -> None:
    assert said in over("adjust", crossing(over), *words, "--reason", "why", code=1).stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("share", "-5", "--over", "lab"), "AMOUNT: '-5' is not above zero"), (("share", "0", "--over", "lab"), "such as 12.50"),
        (("adjust", "abc", "--cost", "1"), "ENTRY: 'abc' is not the seq of an entry, such as 12"),
    ],
)  # fmt: skip
def test_what_is_no_amount_or_no_entry_is_told_what_is_one(over: Ledger, words: tuple[str, ...], said: str) -> None:
    assert said in over(words[0], "--reason", "why", *words[1:], code=1).stderr


def test_a_cost_is_shared_to_the_nano_and_stands_in_the_report(over: Ledger) -> None:
    over("share", "0.000000003", "--over", "research", "--over", "lab", "--reason", "platform")
    (rows,) = [json.loads(over("report", "--by", "workspace", "--where", "charge:shared", "--format", "json").stdout)["rows"]]
    assert sorted(row["spent_usd"] for row in rows) == ["0.000000001", "0.000000002"]
    for wrong in (("lab=0",), ("lab=-1",), ("lab",), ("lab=1", "nowhere=1")):
        parts = [word for part in wrong for word in ("--over", part)]
        over("share", "1", *parts, "--how", "weight", "--reason", "platform", code=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--over", "lab=2147483648", "--how", "weight"), "the weight of 'lab' is not above zero and at most 2147483647"),
        (("--over", f"lab={'9' * 5_000}", "--how", "weight"), "is not WORKSPACE=WEIGHT"),
        (("--over", "lab=--5", "--how", "weight"), "'lab=--5' is not WORKSPACE=WEIGHT"),
        (("--over", "lab", "--day", "1999-12-31"), "1999-12-31 is before the year 2000"),
    ],
)  # fmt: skip
def test_a_shared_cost_has_the_bounds_that_it_has_over_http(over: Ledger, words: tuple[str, ...], said: str) -> None:
    """T4, W3."""
    refused = over("share", "1", *words, "--reason", "platform", code=1).stderr
    assert said in refused and "Traceback" not in refused


def test_a_report_is_a_table_json_csv_and_focus_with_the_same_total(over: Ledger) -> None:
    """M7."""
    table = over("report", "--by", "workspace,key").stdout.splitlines()
    assert table[0].split() == ["workspace", "key", "spent_usd", "requests", "input_tokens", "output_tokens"]
    assert table[1].split()[:3] == ["research", "crawler", "2.20"] and table[2].split()[:2] == ["total", "2.20"]
    assert json.loads(over("report", "--format", "json").stdout)["total"]["spent_usd"] == "2.20"
    assert over("report").stdout.splitlines()[2].split()[:2] == ["total", "2.20"], "also of one line"
    (row,) = csv.DictReader(io.StringIO(over("report", "--by", "key", "--format", "csv").stdout))
    assert row["spent_usd"] == "2.20"
    reader = csv.DictReader(io.StringIO(over("report", "--by", "key", "--where", "key:nobody", "--format", "csv").stdout))
    assert reader.fieldnames is not None and "spent_usd" in reader.fieldnames and list(reader) == []
    (charge,) = csv.DictReader(io.StringIO(over("report", "--format", "focus").stdout))
    assert charge["BilledCost"] == "2.20"


def test_a_report_on_a_narrow_terminal_has_its_names_and_amounts_whole(over: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "width", 40)
    told = over("report", "--by", "key").stdout
    assert "crawler" in told and "2.20" in told and "output_tokens" in told


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--by", "colour"), "--by"), (("--zone", "Mars/Olympus"), "--zone"), (("--grain", "fortnight"), "--grain"),
        (("--from", "2026-04-01", "--to", "2026-03-01"), "--to"), (("--from", "1980-01-01", "--to", "2080-01-01"), "--to"),
        (("--from", "1926-01-01"), "--from"), (("--from", "2026-02-30"), "--from"), (("--where", "crawler"), "--where"),
        (("--format", "focus", "--by", "model"), "--by"), (("--format", "focus", "--grain", "month"), "--grain"),
    ],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_refused_by_its_option(over: Ledger, words: tuple[str, ...], option: str) -> None:
    refused = over("report", *words, code=1)
    assert refused.stderr.startswith(f"error {option}: ") and not refused.stdout
    assert "xls" in over("report", "--format", "xls", code=2).stderr


def test_a_correction_and_an_entry_of_another_org_are_not_adjusted(over: Ledger) -> None:
    entry = int(crossing(over))
    over("adjust", str(entry), "--cost", "0.10", "--reason", "billed twice")
    last = max(row["seq"] for row in json.loads(over("explain", "--where", "charge:correction", "--format", "json").stdout)["newest"])
    assert "itself a correction" in over("adjust", str(last), "--amount", "-0.01", "--reason", "so", code=1).stderr
    assert "no usage entry" in over("adjust", str(last + 1_000), "--cost", "0", "--reason", "so", code=1).stderr
    over("apply", over.file("org: {id: globex}\n"), "--yes")
    assert "no usage entry" in over("adjust", str(entry), "--cost", "0", "--reason", "so", "--org", "globex", code=1).stderr


def test_a_reader_that_goes_away_ends_a_report_without_a_word(over: Ledger) -> None:
    names = {name: value for name, value in (os.environ | over.environment).items() if value is not None}
    command = [sys.executable, "-m", "ledger", "report", "--format", "csv"]
    report = subprocess.Popen(command, env=names, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert report.stdout is not None and report.stderr is not None
    report.stdout.close()
    assert (report.stderr.read(), report.wait(30)) == (b"", 1)
