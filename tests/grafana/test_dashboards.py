"""The dashboards: ids, units, titles, thresholds; every query run on a real Prometheus that scrapes a real ledger and on a real PostgreSQL
with books in it; their answers compared with the API's."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger.kafka import Kafka as Cluster
from ledger.kafka import create_topics, producing, publish
from tests.grafana.books import ORG, Watched, calls, watched_books
from tests.servers.kafka import Server as Kafka
from tests.servers.ledger import running_consumers
from tests.servers.postgres import Server as Postgres
from tests.servers.prometheus import Server

HOME = Path(__file__).parents[2]
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((HOME / "grafana" / "dashboards").glob("*.json"))}
PANELS = [(name, panel) for name, board in BOARDS.items() for panel in board["panels"]]
TARGETS = [(name, panel, target) for name, panel in PANELS for target in panel["targets"]]
PROMQL = [(f"{name}/{panel['title']}/{target['refId']}", target["expr"]) for name, panel, target in TARGETS if "expr" in target]
SQL = [(f"{name}/{panel['title']}", target["rawSql"]) for name, panel, target in TARGETS if "rawSql" in target]
UNITS = {"short", "none", "currencyUSD", "s", "eps", "bytes", "percentunit", "string"}
QUIET = {"breach_to_confirmed_seconds", "ledger_parked_events", "ledger_key_commands", "vector(0)"}  # in good times there are none


def panel_of(board: str, title: str) -> dict[str, Any]:
    return next(panel for panel in BOARDS[board]["panels"] if panel["title"] == title)


def sql_of(watched: Watched, board: str, title: str, **chosen: str) -> list[Any]:
    """A panel's rows, its variables and macros filled in as Grafana does it."""
    return watched.ask(filled(panel_of(board, title)["targets"][0]["rawSql"], **chosen))


def filled(sql: str, **chosen: str) -> str:
    values = {"org": ORG, "workspace": "", "key": ""} | chosen
    now = datetime.now(timezone.utc)
    sql = re.sub(r"\$\{(\w+):sqlstring\}", lambda found: "'" + values[found[1]].replace("'", "''") + "'", sql)
    sql = sql.replace("$__timeFrom()", f"'{(now - timedelta(days=60)).isoformat()}'").replace("$__timeTo()", f"'{now.isoformat()}'")
    assert "$" not in sql, sql
    return sql


def promql(expr: str) -> str:
    expr = expr.replace("$__rate_interval", "1m").replace("$org", ORG)
    assert "$" not in expr, expr
    return expr


@pytest.fixture(scope="module")
def watched(postgres: Postgres, postgres_template: str) -> Iterator[Watched]:
    with watched_books(postgres, postgres_template) as watched:
        yield watched


@pytest.fixture(scope="module")
def consumers(kafka: Kafka, watched: Watched) -> Iterator[str]:
    """Consumers of the same books, which have booked one record and could not read another."""
    prefix = f"dashboards-{uuid.uuid4().hex[:8]}."
    cluster = Cluster(kafka.bootstrap, prefix)
    good = json.dumps(calls(datetime.now(timezone.utc))[0] | {"id": "by-kafka"}).replace(ORG, "elsewhere").encode()

    async def produce() -> None:
        await create_topics(cluster, partitions=1, replication=1)
        async with producing(cluster) as producer:
            await publish(producer, [(cluster.topic("usage"), b"elsewhere", good), (cluster.topic("usage"), b"elsewhere", b"not JSON")])

    asyncio.run(produce())
    with running_consumers(watched.database_url, kafka.bootstrap, prefix, ["usage", "pulse"]) as address:
        yield address


@pytest.fixture(scope="module")
def scraping(prometheus: Callable[..., AbstractContextManager[Server]], watched: Watched, consumers: str) -> Iterator[Server]:
    """Prometheus with the configuration that is shipped, its targets the real processes, its second shortened."""
    config = yaml.safe_load((HOME / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [watched.serving.metrics_url.split("/")[2], consumers]}]
    with prometheus(config, HOME / "prometheus" / "rules") as server:
        server.await_query("ledger:burn:rate6h", wait_s=40)
        server.await_query("ledger_dead_letters_total > 0", wait_s=40)
        yield server


def test_ids_and_titles_are_unique_and_nothing_overlaps() -> None:
    assert set(BOARDS) == {"breaches", "pipeline", "spend"}
    assert len({board["uid"] for board in BOARDS.values()}) == 3
    for name, board in BOARDS.items():
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels), name
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert max(x for x, _ in cells) < 24
            assert not cells & taken, (name, panel["title"])
            taken |= cells


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=[f"{name}/{panel['title']}" for name, panel in PANELS])
def test_a_panel_says_what_it_shows_in_which_unit_and_when_to_worry(board: str, panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["description"].endswith(".")
    assert defaults["unit"] in UNITS
    steps = defaults["thresholds"]["steps"]
    assert steps[0]["value"] is None
    assert [step["value"] for step in steps[1:]] == sorted(step["value"] for step in steps[1:])
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs), board


def test_data_comes_from_the_sources_that_are_provisioned() -> None:
    sources = yaml.safe_load((HOME / "grafana/provisioning/datasources/ledger.yml").read_text())["datasources"]
    known = {(source["type"], source["uid"]) for source in sources}
    used = {(target["datasource"]["type"], target["datasource"]["uid"]) for _, _, target in TARGETS}
    used |= {(var["datasource"]["type"], var["datasource"]["uid"]) for board in BOARDS.values() for var in board["templating"]["list"]}
    assert used == known


def test_links_lead_to_dashboards_that_there_are() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    assert {link["url"].rpartition("/")[2] for board in BOARDS.values() for link in board["links"]} == uids


@pytest.mark.parametrize("expr", [expr for _, expr in PROMQL], ids=[name for name, _ in PROMQL])
def test_every_promql_query_has_an_answer_on_a_real_prometheus(scraping: Server, expr: str) -> None:
    if any(quiet in expr for quiet in QUIET):
        scraping.query(promql(expr))
    else:
        assert scraping.await_query(promql(expr)), expr


@pytest.mark.parametrize(
    ("panel", "target"), [(panel, target) for _, panel, target in TARGETS if "expr" in target], ids=lambda it: it.get("title", "")
)
def test_a_line_goes_on_where_another_process_shows_the_gauges(panel: dict[str, Any], target: dict[str, Any]) -> None:
    """A query that leaves the process in would draw a line for each, and show the last figure of one that has gone."""
    by_process = "{{instance}}" in target.get("legendFormat", "")
    assert by_process or re.match(r"(sum|max)( by|\()|histogram_quantile\(|ledger:", target["expr"]), panel["title"]


@pytest.mark.parametrize(
    "expr", [target["expr"] for _, panel, target in TARGETS if panel["type"] == "stat" and "expr" in target], ids=lambda expr: expr
)
def test_a_panel_of_one_figure_has_one(scraping: Server, expr: str) -> None:
    assert len(scraping.query(promql(expr))) <= 1, expr


def test_every_metric_that_a_query_or_a_rule_names_is_one_that_the_ledger_shows(scraping: Server) -> None:
    files = (HOME / "prometheus" / "rules").glob("*.yml")
    rules = [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    text = "\n".join([expr for _, expr in PROMQL] + [rule["expr"] for rule in rules])
    named = {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in re.findall(r"\b(?:ledger|process)_\w+", text)}
    assert named - scraping.families() - {"ledger_rate_card_age_seconds"} == set()  # shown once a price list was taken in
    assert set(re.findall(r"\bledger:[\w:]+", text)) <= {rule["record"] for rule in rules if "record" in rule}


@pytest.mark.parametrize("sql", [sql for _, sql in SQL], ids=[name for name, _ in SQL])
@pytest.mark.parametrize("chosen", [{}, {"workspace": "research"}, {"workspace": "research", "key": "testing"}, {"org": "o'x"}], ids=str)
def test_every_sql_query_runs_as_the_reader(watched: Watched, sql: str, chosen: dict[str, str]) -> None:
    began = time.monotonic()
    rows = watched.ask(filled(sql, **chosen))
    assert time.monotonic() - began < 5
    if chosen == {} and "watch.commands" not in sql:
        assert rows, sql


@pytest.mark.parametrize("name", sorted({var["name"] for board in BOARDS.values() for var in board["templating"]["list"]}))
def test_every_variable_offers_what_can_be_chosen(watched: Watched, name: str) -> None:
    query = next(var["query"] for var in BOARDS["spend"]["templating"]["list"] if var["name"] == name)
    offered = [tuple(row)[-1] for row in watched.ask(filled(query))]
    assert {"org": {ORG}, "workspace": {"", "research"}, "key": {"", "crawler", "testing", "alias-owner"}}[name] <= set(offered)


@pytest.mark.parametrize(("title", "period"), [("Today", "day"), ("This week", "week"), ("This month", "month"), ("This year", "year")])
@pytest.mark.parametrize("chosen", [{}, {"workspace": "support"}, {"workspace": "research", "key": "testing"}], ids=str)
def test_spend_is_what_the_api_says(watched: Watched, title: str, period: str, chosen: dict[str, str]) -> None:
    scope = f"key:{chosen['key']}" if "key" in chosen else f"workspace:{chosen['workspace']}" if chosen else "org"
    (balance,) = watched.api("balances", scope=scope, period=period)["balances"]
    (row,) = sql_of(watched, "spend", title, **chosen)
    assert row["spent_usd"] == Decimal(balance["spent_usd"])


def test_caps_above_a_key_are_those_of_the_api(watched: Watched) -> None:
    rows = sql_of(watched, "spend", "Every cap above the chosen scope", key="alias-owner")
    (balance,) = watched.api("balances", scope="key:alias-owner", period="day")["balances"]
    above = {cap["cap"]: cap for cap in balance["above"]}
    for row in rows:
        cap = above.pop(row["cap"])
        assert (row["scope"], row["period"], row["action"], row["enforce"]) == tuple(
            cap[n] for n in ("scope", "period", "action", "enforce")
        )
        assert (row["limit_usd"], row["left_usd"]) == (Decimal(cap["limit_usd"]), Decimal(cap["left_usd"]))
        assert int(row["used_percent"]) == cap["percent"]
        assert float(row["forecast_usd"]) == pytest.approx(float(cap["forecast_usd"]), rel=0.05)  # time passes between the two
    assert above == {}
    assert {row["cap"] for row in rows} == {"org-month", "org-year", "each/key:alias-owner", "teams/workspace:support"}
    percents = [row["used_percent"] for row in rows]
    assert percents == sorted(percents, reverse=True)


def test_the_month_burns_down_to_what_the_api_says_is_left(watched: Watched) -> None:
    rows = sql_of(watched, "spend", "Burn-down of this month")
    (balance,) = watched.api("balances", scope="org", period="month")["balances"]
    left = next(cap["left_usd"] for cap in balance["caps"] if cap["cap"] == "org-month")
    assert rows[-1]["left_usd"] == Decimal(left)
    assert 28 <= len(rows) <= 31
    assert rows[-1]["even_pace_usd"] == 0


def test_the_keys_nearest_their_caps_come_first(watched: Watched) -> None:
    rows = sql_of(watched, "spend", "The 50 keys nearest their caps")
    assert rows[0]["cap"] == "each/key:crawler"
    assert (rows[0]["state"], rows[0]["spent_usd"], round(rows[0]["used_percent"])) == ("paused", Decimal("2.20"), 110)


@pytest.mark.parametrize("dimension", ["model", "provider", "preset"])
def test_spend_by_dimension_is_the_reports(watched: Watched, dimension: str) -> None:
    spent = watched.ask("SELECT sum(spent_usd) AS usd FROM watch.days WHERE org = $1 AND scope = 'org'", ORG)[0]["usd"]
    until = time.monotonic() + 20
    while sum(row["spent_usd"] for row in sql_of(watched, "spend", f"By {dimension}")) != spent:
        assert time.monotonic() < until, f"not {spent} together"
        time.sleep(0.2)
    rows = sql_of(watched, "spend", f"By {dimension}")
    assert len(rows) == {"model": 3, "provider": 1, "preset": 2}[dimension]


def test_who_is_paused_and_why_is_what_the_api_says(watched: Watched) -> None:
    rows = {row["key"]: row["reasons"] for row in sql_of(watched, "breaches", "Who is paused, and why")}
    keys = {key["key"]: ", ".join(key["reasons"]) for key in watched.api("keys")["keys"] if key["state"] != "active"}
    assert rows == keys
    assert set(rows) == {"crawler", "testing"}


def test_gauges_on_prometheus_are_what_the_api_says(scraping: Server, watched: Watched) -> None:
    ((_, shown),) = scraping.await_query(f'ledger_window_spent_usd{{org="{ORG}",period="month"}}')
    (balance,) = watched.api("balances", scope="org", period="month")["balances"]
    assert shown == pytest.approx(float(balance["spent_usd"]))
    opened = [breach for breach in watched.api("breaches")["breaches"] if breach["closed_at"] is None]
    assert scraping.query("sum(ledger_open_breaches)")[0][1] == len(opened)
