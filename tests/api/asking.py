"""How the tests ask the API: a client with named tokens, and usage events as senders write them."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from ledger.service import Service
from ledger.store import tokens
from ledger.store.tokens import Token

NOW = datetime(2026, 3, 8, 9, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
ONE, BATCH, LINES = "application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson"


def moment(**later: float) -> str:
    """A time so much later than the API's now, as RFC 3339."""
    return (NOW + timedelta(**later)).isoformat().replace("+00:00", "Z")


def event(name: str = "e1", cost: Any = "1.00", key: str = "crawler", **more: Any) -> dict[str, Any]:
    """A usage event. `more` goes into its data, but for `time`, `source`, `type` and `specversion`; `...` leaves out."""
    attributes = {part: more.pop(part) for part in ("time", "source", "type", "specversion") if part in more}
    data = {"org": "acme", "workspace": "research", "key": key, "model": "deepseek/deepseek-v4-flash", "cost_usd": cost} | more
    whole = {"specversion": "1.0", "type": "llm.usage.v1", "source": "gateway", "id": name, "time": moment()} | attributes
    whole["data"] = {part: value for part, value in data.items() if value is not ...}
    return {part: value for part, value in whole.items() if value is not ...}


@dataclass
class Api:
    """An API and the tokens that were made for it. Set `now_us` to move its clock."""

    client: httpx.AsyncClient
    service: Service
    clock: list[int]
    tokens: dict[str, str] = field(default_factory=dict)

    async def let_in(self, name: str, *scopes: str, org: str | None = None, workspace: str | None = None) -> None:
        """Makes a token and remembers it by its name."""
        async with self.service.database.writer.begin() as connection:
            self.tokens[name] = await tokens.create(connection, Token(name, scopes, org, workspace), NOW_US)

    async def ask(
        self, method: str, path: str, body: Any = None, *, by: str = "admin", headers: dict[str, Any] | None = None, **query: Any
    ) -> httpx.Response:
        """A request by the bearer of a token, with a JSON body if there is one."""
        sent = {"Authorization": f"Bearer {self.tokens[by]}"} | (headers or {})
        content = body
        if body is not None and not isinstance(body, bytes):
            content, sent = json.dumps(body).encode(), {"Content-Type": "application/json"} | sent
        return await self.client.request(method, path, content=content, headers=sent, params=query or None)

    async def get(self, path: str, status: int = 200, **options: Any) -> Any:
        """What a GET answers, which must have this status."""
        answer = await self.ask("GET", path, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def pages(self, path: str, listed: str, limit: int, cursor: str = "cursor") -> list[Any]:
        """A whole list, asked for page by page: each page's cursor in turn, until there is none."""
        rows: list[Any] = []
        more: dict[str, str] = {}
        while True:
            page = await self.get(path, limit=limit, **more)
            rows += page[listed]
            if page[cursor] is None:
                return rows
            more = {cursor: page[cursor]}

    async def put(self, path: str, body: Any, status: int = 200, **options: Any) -> Any:
        """What a PUT answers, which must have this status."""
        answer = await self.ask("PUT", path, body, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int = 200, **options: Any) -> Any:
        """What a POST answers, which must have this status."""
        answer = await self.ask("POST", path, body, **options)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def use(self, *events: dict[str, Any], by: str = "admin") -> list[dict[str, Any]]:
        """Sends a batch of events; a result for each."""
        answer = await self.ask("POST", "/v1/usage", list(events), by=by, headers={"Content-Type": BATCH})
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    async def send(self, body: bytes, content_type: str, **headers: str) -> httpx.Response:
        """A usage body as it is."""
        return await self.ask("POST", "/v1/usage", body, headers={"Content-Type": content_type} | headers)


def problem(answer: httpx.Response, status: int, field: str | None = None) -> str:
    """The detail of a problem document, which must have this status and name this field."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status and document["title"] and document["detail"]
    if field is not None:
        assert field in [fault["field"] for fault in document["errors"]], document
    return document["detail"]
