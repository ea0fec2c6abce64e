"""The command line, run as a person runs it: arguments and environment in; exit code, output and error out."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from ledger.__main__ import build
from ledger.core.commands import RecordUsage, Usage
from ledger.core.money import parse_usd
from ledger.record import Shelf, record
from ledger.service import system_clock
from ledger.store.dialect import connect
from ledger.wire.identity import identity

POLICY = """
org: {id: acme, time_zone: America/New_York}
workspaces: {research: , lab: }
keys:
  crawler: {workspace: research, credentials: [hash-1]}
guardrails:
  daily: {each: key, in: [org], except: [testing], period: day, limit_usd: 2.00, action: pause, thresholds: [50, 80]}
caps:
  org-month: {scope: org, period: month, limit_usd: "250.00", action: alert}
"""


class Ledger:
    """The `ledger` command in a directory of its own."""

    def __init__(self, home: Path, database_url: str) -> None:
        self.home = home
        self.environment: dict[str, str | None] = {"LEDGER_DATABASE_URL": database_url}
        self._app, self._runner = build(), CliRunner()

    def __call__(self, *words: str, code: int = 0, answer: str | None = None, **settings: str) -> Result:
        """Runs a command, which must exit with this code; `answer` is what the person types."""
        result = self._runner.invoke(self._app, list(words), input=answer, env=self.environment | settings, catch_exceptions=False)
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result

    def rows(self, *words: str) -> Any:
        """What a command lists, read from its JSON."""
        return json.loads(self(*words, "--format", "json").stdout)

    def sql(self, statement: str) -> None:
        """Runs a statement behind the ledger's back."""

        async def work() -> None:
            database = connect(str(self.environment["LEDGER_DATABASE_URL"]))
            async with database.writer.begin() as connection:
                await connection.execute(text(statement))
            await database.close()

        asyncio.run(work())

    def file(self, policy: str = POLICY) -> str:
        """A policy file."""
        path = self.home / "policy.yaml"
        path.write_text(policy)
        return str(path)


@pytest.fixture
def ledger(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """On each database, with the schema at head."""
    monkeypatch.chdir(tmp_path)
    return Ledger(tmp_path, database_url)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """On a SQLite file that is not there yet."""
    monkeypatch.chdir(tmp_path)
    return Ledger(tmp_path, f"sqlite:///{tmp_path / 'fresh.db'}")


def book(ledger: Ledger, *events: tuple[str, str]) -> None:
    """Books usage at the system's time."""

    async def work() -> None:
        database, now_us = connect(str(ledger.environment["LEDGER_DATABASE_URL"])), system_clock()
        commands = [
            RecordUsage(
                source="gateway", event_id=name, digest=identity("acme", "gateway", name), time_us=now_us, cost=parse_usd(dollars),
                cost_text=dollars, upstream=None, upstream_text=None, usage=Usage(org="acme", key="hash-1", workspace="research"),
            )
            for name, dollars in events
        ]  # fmt: skip
        await record(database, Shelf(), commands, now_us)
        await database.close()

    asyncio.run(work())
