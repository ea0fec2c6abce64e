"""docs/watching.md held against what it describes: every metric with its unit and labels, every dashboard, alert, command and picture."""

import json
import re
import shlex
from pathlib import Path

import yaml
from typer.main import get_command

from ledger.__main__ import build
from ledger.core.window import Period
from ledger.metrics import Metrics
from ledger.store.gauges import Now, OrgWindow, Slow

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/watching.md").read_text()


def rows(first: str) -> list[list[str]]:
    """The rows of tables whose first cell names something that begins so."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith(f"| `{first}")]
    return [[re.sub("`", "", row[0]), *row[1:]] for row in cells]


def metrics() -> dict[str, tuple[str, set[str]]]:
    """Every metric as a scrape names it, with its unit and labels."""
    metrics = Metrics()
    windows = [OrgWindow("acme", Period.DAY, 1, 1, 1)]
    now = Now(1, 1, {("pause", "on"): 1}, 1, 1, {"sent": 1}, 1, 1, {"unknown_org": 1}, 1, 1, 1, {("acme", "or"): 1}, windows, [("acme", 1)])
    metrics.books.show(now, Slow({"active": 1}, 1, 1), 1)
    labels = {child._name: set(child._labelnames) for child in vars(metrics).values() if hasattr(child, "_labelnames")}
    found: dict[str, tuple[str, set[str]]] = {}
    for family in metrics.registry.collect():
        if family.name.startswith("ledger_"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            unit = family.documentation.rpartition("(")[2].rstrip(").")
            own = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[name] = (unit, labels.get(family.name, own))
    return found


def test_every_metric_is_told_with_its_unit_and_its_labels() -> None:
    told = {}
    for name, unit, _ in rows("ledger_"):
        name, _, labels = name.partition(" ")
        told[name] = (unit, set(re.findall(r"\w+", labels)))
    assert told == metrics()
    assert set(re.findall(r"`(ledger_\w+[a-z])`", TEXT)) == set(told)


def test_every_alert_is_told_with_how_bad_it_is() -> None:
    rules = yaml.safe_load((ROOT / "prometheus/rules/alerts.yml").read_text())["groups"]
    alerts = [(rule["alert"], rule["labels"]["severity"]) for group in rules for rule in group["rules"]]
    assert [(row[0], row[1]) for row in rows("Ledger")] == alerts


def test_every_dashboard_is_told() -> None:
    titles = {json.loads(path.read_text())["title"] for path in (ROOT / "grafana/dashboards").glob("*.json")}
    table = TEXT.partition("## Three dashboards")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| ([A-Z][\w ]+) \|", table, re.MULTILINE)) == titles


def test_every_command_that_the_page_or_an_alert_names_is_there_with_its_options() -> None:
    alerts = (ROOT / "prometheus/rules/alerts.yml").read_text()
    commands = {words for words in re.findall(r"`(ledger [a-z][^`]*)`", TEXT + alerts)}
    assert len(commands) > 10
    for words in commands:
        command = get_command(build())
        for word in shlex.split(re.sub(r"{{.*?}}", "x", words))[1:]:
            if word.startswith("--"):
                assert word in {option for given in command.params for option in given.opts}, words
            elif word in (inner := getattr(command, "commands", {})):
                command = inner[word]
            else:
                assert not inner, words


def test_every_picture_that_a_page_shows_is_there_and_small() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    pictures = {page.parent / path for page in pages for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())}
    assert pictures == set((ROOT / "docs/pictures").iterdir())
    assert all(picture.stat().st_size <= 150_000 for picture in pictures)
