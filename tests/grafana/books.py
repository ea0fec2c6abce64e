"""Books with something in every corner of them, behind a real `ledger serve` on a real PostgreSQL, and a reader beside it."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from tests.servers.ledger import Serving, serving_ledger
from tests.servers.postgres import Server

ORG = "acme"
ROLE, PASSWORD = "grafana", "reader-password-0123456789"
RULE = {"period": "day", "action": "pause"}
ORDERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("", {"time_zone": "America/New_York"}),
    ("/keys/alias-owner", {"workspace": "support"}),
    ("/guardrails/each", {"each": "key", "in": ["org"], "except": ["testing"], **RULE, "limit_usd": "2.00", "thresholds": [50]}),
    ("/guardrails/teams", {"each": "workspace", "in": ["support"], "period": "week", "action": "alert", "limit_usd": "50.00"}),
    ("/caps/org-month", {"scope": "org", "period": "month", "action": "alert", "limit_usd": "250.00"}),
    ("/caps/org-year", {"scope": "org", "period": "year", "action": "alert", "limit_usd": "5.00"}),
    ("/caps/byok", {"scope": "key:testing", "period": "month", "action": "alert", "limit_usd": "9.00", "include_byok": True}),
    ("/caps/hourly", {"scope": "key:testing", "period": "hour", "action": "alert", "limit_usd": "9.00"}),
)


@dataclass
class Watched:
    """A ledger with books, and a reader's way to its database."""

    serving: Serving
    database_url: str
    reader_url: str

    def api(self, what: str, **parameters: str) -> Any:
        """GET of something of the org."""
        return self.serving.client.get(f"/v1/orgs/{ORG}/{what}", params=parameters).raise_for_status().json()

    def ask(self, sql: str, *values: Any) -> list[Any]:
        """What the reader's query finds."""

        async def fetch() -> list[Any]:
            connection = await asyncpg.connect(self.reader_url)
            try:
                return await connection.fetch(sql, *values)
            finally:
                await connection.close()

        return asyncio.run(fetch())


def calls(now: datetime) -> list[dict[str, Any]]:
    """Usage of today and of the days before, with and without a price, on own provider keys, by a runaway."""
    days = [now - timedelta(days=n) for n in (0, 1, 3, 9, 40)]
    spent = [
        (day, key, home, cost) for day in days for key, home, cost in (("testing", "research", "0.40"), ("alias-owner", "support", "0.25"))
    ]
    spent += [(now, "crawler", "research", "1.10"), (now, "crawler", "research", "1.10"), (now, "old-name", "support", "0.15")]
    spent += [(now, "testing", "research", None)]
    return [
        {
            "specversion": "1.0", "type": "llm.usage.v1", "source": "test", "id": f"call-{n}", "time": at.isoformat(),
            "data": {"org": ORG, "workspace": home, "key": key, "model": f"model-{n % 3}", "provider": "p",
                     "preset": "daily" if n % 2 else None, "cost_usd": cost,
                     "upstream_cost_usd": "0.10" if key == "testing" else None, "byok": key == "testing"},
        }
        for n, (at, key, home, cost) in enumerate(spent)
    ]  # fmt: skip


async def _until_rolled_up(url: str) -> None:
    """The rollup follows the journal by itself, a moment behind it."""
    behind = "SELECT count(*) FROM orgs LEFT JOIN rolled USING (org_id) WHERE orgs.seq > coalesce(rolled.seq, 0)"
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(30):
            while await connection.fetchval(behind):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


@contextlib.contextmanager
def watched_books(postgres: Server, template: str, **settings: str) -> Iterator[Watched]:
    """The books, served; the reader made by its command."""
    url = postgres.create_database(template)
    try:
        with serving_ledger(url, **settings) as serving:
            for path, body in ORDERS:
                serving.client.put(f"/v1/orgs/{ORG}{path}", json=body).raise_for_status()
            batch = {"Content-Type": "application/cloudevents-batch+json"}
            usage = calls(datetime.now(timezone.utc))
            for status in ("recorded", "duplicate"):
                answer = serving.client.post("/v1/usage", json=usage, headers=batch).raise_for_status().json()
                assert {result["status"] for result in answer["results"]} == {status}, answer
            owner = {"workspace": "support", "credentials": ["old-name"]}
            serving.client.put(f"/v1/orgs/{ORG}/keys/alias-owner", json=owner).raise_for_status()
            serving.client.post(f"/v1/orgs/{ORG}/keys/testing/pause", json={"reason": "looked at"}).raise_for_status()
            environment = os.environ | {"LEDGER_DATABASE_URL": url, "LEDGER_READER_PASSWORD": PASSWORD}
            made = subprocess.run(
                [sys.executable, "-m", "ledger", "reader", ROLE], env=environment, capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr
            asyncio.run(_until_rolled_up(url))
            place = urlsplit(url)
            yield Watched(serving, url, f"postgresql://{ROLE}:{PASSWORD}@{place.hostname}:{place.port}{place.path}")
    finally:
        postgres.drop_database(url)
