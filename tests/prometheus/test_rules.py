"""Recording rules and alerts: promtool checks and tests them, and every alert has a test that it fires."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import leave_out
from tests.servers.prometheus import NoPrometheus, promtool

HOME = Path(__file__).parents[2] / "prometheus"
RULES = sorted((HOME / "rules").glob("*.yml"))
TESTS = sorted((HOME / "tests").glob("*.yml"))


def told(*arguments: str, home: Path = HOME) -> str:
    """What promtool says; it must be content."""
    try:
        answer = promtool(*arguments, home=home)
    except NoPrometheus as error:
        leave_out(error)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def alerts() -> list[dict]:
    return [rule for path in RULES for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"] if "alert" in rule]


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    assert "SUCCESS" in told("check", "config", "prometheus.yml")


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_promtool_finds_every_rule_as_its_test_says(path: Path) -> None:
    assert "SUCCESS" in told("test", "rules", f"tests/{path.name}")


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    cases = [case for path in TESTS for test in yaml.safe_load(path.read_text())["tests"] for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == {rule["alert"] for rule in alerts()}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]


def test_a_rule_that_is_made_wrong_fails_its_test(tmp_path: Path) -> None:
    shutil.copytree(HOME, tmp_path / "here")
    rules = tmp_path / "here" / "rules" / "alerts.yml"
    rules.write_text(re.sub(r"ledger_lag_seconds\) > 30", "ledger_lag_seconds) > 3000", rules.read_text()))
    with pytest.raises(AssertionError, match="LedgerLag"):
        told("test", "rules", "tests/pipeline.yml", home=tmp_path / "here")
