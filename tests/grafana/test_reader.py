"""The dashboards' role sees the books as the API shows them, and nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ledger.store.reader import VIEWS
from tests.grafana.books import PASSWORD, Watched, watched_books
from tests.servers.postgres import Server


@pytest.fixture(scope="module")
def watched(postgres: Server, postgres_template: str) -> Iterator[Watched]:
    with watched_books(postgres, postgres_template) as watched:
        yield watched


def balances(watched: Watched, scope: str) -> list[dict[str, Any]]:
    periods = ("hour", "day", "week", "month", "year", "lifetime")
    return [one for period in periods for one in watched.api("balances", scope=scope, period=period)["balances"]]


def test_every_view_answers_and_has_rows(watched: Watched) -> None:
    assert [name for name in VIEWS if name not in ("parts",) and not watched.ask(f"SELECT * FROM watch.{name} LIMIT 1")] == []


def test_windows_are_the_balances_of_the_api(watched: Watched) -> None:
    for scope in ("org", "workspace:research", "key:crawler", "key:testing"):
        rows = watched.ask("SELECT * FROM watch.windows WHERE org = 'acme' AND scope = $1", scope)
        shown = {row["period"]: row for row in rows}
        for balance in balances(watched, scope):
            if balance["period"] == "hour":
                continue
            row = shown.pop(balance["period"])
            assert row["spent_usd"] == Decimal(balance["spent_usd"]), (scope, balance)
            assert (row["requests"], row["unpriced"]) == (balance["requests"], balance["unpriced"])
        assert shown == {}


def test_caps_are_those_of_the_api_with_what_they_leave(watched: Watched) -> None:
    compared = 0
    for scope in ("org", "workspace:support", "key:crawler", "key:testing", "key:alias-owner"):
        rows = {row["cap"]: row for row in watched.ask("SELECT * FROM watch.caps WHERE org = 'acme' AND scope = $1", scope)}
        for balance in balances(watched, scope):
            for cap in balance["caps"]:
                row = rows.pop(cap["cap"])
                assert row["limit_usd"] == Decimal(cap["limit_usd"])
                assert row["left_usd"] == Decimal(cap["left_usd"]), (scope, cap)
                assert row["end_at"].isoformat() == balance["end"].replace("Z", "+00:00")
                compared += 1
        assert rows == {}, scope
    assert compared >= 7


def test_a_window_is_read_by_its_own_days_however_long_the_history_is(watched: Watched) -> None:
    large = replace(watched, reader_url=f"{watched.reader_url}?enable_seqscan=off&enable_bitmapscan=off")  # as tables of many rows are read
    for view in ("windows", "caps"):
        plan = [row[0] for row in large.ask(f"EXPLAIN SELECT * FROM watch.{view} WHERE org = 'acme'")]
        reads = [bounds for scan, bounds in pairwise(plan) if "on days" in scan]
        assert reads and all("day >= " in bounds and "day < " in bounds and "Index Cond" in bounds for bounds in reads), plan


def test_keys_say_their_state_and_why_as_the_api_does(watched: Watched) -> None:
    rows = {row["key"]: row for row in watched.ask("SELECT * FROM watch.keys WHERE org = 'acme'")}
    keys = watched.api("keys")["keys"]
    assert {key["key"] for key in keys if key["alias_of"] is None} == set(rows)
    for key in keys:
        if key["alias_of"] is None:
            row = rows[key["key"]]
            assert (row["state"], row["revision"], row["workspace"]) == (key["state"], key["revision"], key["workspace"])
            assert row["reasons"] == ", ".join(key["reasons"]), key
    assert {row["state"] for row in rows.values()} == {"active", "paused"}


def test_breaches_are_those_of_the_api(watched: Watched) -> None:
    rows = watched.ask("SELECT * FROM watch.breaches WHERE org = 'acme' ORDER BY cap, ordinal")
    shown = sorted(watched.api("breaches")["breaches"], key=lambda breach: (breach["cap"], breach["ordinal"]))
    names = ("cap", "ordinal", "scope", "period", "action", "enforce")
    assert [[row[name] for name in names] for row in rows] == [[breach[name] for name in names] for breach in shown]
    assert [row["over_usd"] for row in rows] == [Decimal(breach["over_usd"]) for breach in shown]
    assert len(rows) >= 2


def test_the_reader_sees_no_table_and_changes_nothing(watched: Watched) -> None:
    for table in ("tokens", "journal", "orgs", "connections"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            watched.ask(f"SELECT * FROM public.{table}")
    with pytest.raises((asyncpg.ReadOnlySQLTransactionError, asyncpg.InsufficientPrivilegeError)):
        watched.ask("CREATE TABLE mine (n int)")


def test_the_command_may_be_repeated_and_refuses_what_it_must(watched: Watched, tmp_path: Path) -> None:
    def ledger(*asked: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LEDGER_DATABASE_URL": watched.database_url, **settings}
        return subprocess.run([sys.executable, "-m", "ledger", *asked], env=environment, capture_output=True, text=True, check=False)

    def reader(role: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return ledger("reader", role, **settings)

    file = f"sqlite:///{tmp_path}/ledger.db"
    assert ledger("migrate", LEDGER_DATABASE_URL=file).returncode == 0
    assert reader("grafana", LEDGER_READER_PASSWORD=PASSWORD).returncode == 0
    assert watched.ask("SELECT 1 AS one")[0]["one"] == 1
    for role, settings, said in (
        ("grafana", {}, "LEDGER_READER_PASSWORD is not set"),
        ('x"; DROP TABLE journal', {"LEDGER_READER_PASSWORD": PASSWORD}, "is not a role's name"),
        ("postgres", {"LEDGER_READER_PASSWORD": PASSWORD}, "the ledger itself writes with"),
        ("grafana", {"LEDGER_READER_PASSWORD": PASSWORD, "LEDGER_DATABASE_URL": file}, "which has no roles"),
    ):
        answer = reader(role, **settings)
        assert (answer.returncode, said in answer.stderr) == (1, True), answer.stderr
