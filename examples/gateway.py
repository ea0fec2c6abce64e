"""A small gateway that agents call with their keys. It refuses paused keys, reports every call's usage to the ledger until that
has answered, and lets the ledger pause, resume and revoke its keys (the key protocol of `ledger.gateways.http`).

It answers without a model: what a call would have used comes with the request.
"""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from examples.prices import PRICES, cost_usd

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_TOGETHER = 200
LINGER_S = 0.01
LONGEST_WAIT_S = 2.0


@dataclass
class GatewayKey:
    """A key as this gateway has it."""

    org: str
    workspace: str
    name: str
    state: str = "active"
    revision: int = 0
    mark: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


class Reporter:
    """Sends usage to the ledger in batches, in order, again and again until it is answered: nothing is dropped."""

    def __init__(self, ledger_url: str, token: str) -> None:
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._client = httpx.AsyncClient(base_url=ledger_url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        self._task: asyncio.Task[None] | None = None
        self.reported = 0

    def report(self, event: dict[str, Any]) -> None:
        """Takes an event; it is sent within moments."""
        self._queue.put_nowait(event)

    async def start(self) -> None:
        """Begins to send."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Sends what is left, then stops."""
        await self._queue.join()
        if self._task is not None:
            self._task.cancel()
        await self._client.aclose()

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            await asyncio.sleep(LINGER_S)
            while len(batch) < MOST_TOGETHER and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._send(batch)
            for _ in batch:
                self._queue.task_done()
            self.reported += len(batch)

    async def _send(self, batch: list[dict[str, Any]]) -> None:
        wait_s = 0.05
        while True:
            try:
                answer = await self._client.post(
                    "/v1/usage", content=json.dumps(batch), headers={"Content-Type": "application/cloudevents-batch+json"}
                )
                if answer.status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


class Gateway:
    """The gateway's keys and counts. `clock` gives microseconds since 1970."""

    def __init__(self, keys: dict[str, GatewayKey], reporter: Reporter, admin_token: str, clock: Callable[[], int]) -> None:
        self.by_secret = keys
        self.by_name = {key.name: key for key in keys.values()}
        self.reporter = reporter
        self.admin_token = admin_token
        self.clock = clock
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._ids = itertools.count(1)

    @property
    def unreported(self) -> int:
        """How many calls were answered that the ledger has not answered for yet."""
        return self.accepted.total() - self.reporter.reported

    def complete(self, secret: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One call: answered and reported, or refused."""
        key = self.by_secret.get(secret)
        if key is None or key.state == "revoked":
            return 401, {"error": {"code": 401, "message": "this key is not known here"}}
        if key.state != "active":
            self.refused[key.name] += 1
            return 403, {"error": {"code": 403, "message": "this key is paused: its spend has reached a cap"}}
        model, used = body.get("model"), body.get("simulate") or {}
        if model not in PRICES:
            return 400, {"error": {"code": 400, "message": f"model: one of {', '.join(PRICES)}"}}
        tokens_in, tokens_out = int(used.get("input_tokens", 0)), int(used.get("output_tokens", 0))
        cost, name = cost_usd(model, tokens_in, tokens_out), f"gen-{next(self._ids):08d}"
        self.accepted[key.name] += 1
        moment = EPOCH + timedelta(microseconds=self.clock())
        data = {
            "org": key.org, "workspace": key.workspace, "key": key.name, "model": model, "input_tokens": tokens_in,
            "output_tokens": tokens_out, "cost_usd": f"{cost:f}", "response_id": name, "session": used.get("session"),
        }  # fmt: skip
        self.reporter.report(
            {"specversion": "1.0", "type": "llm.usage.v1", "source": "demo-gateway", "id": name, "time": moment.isoformat(), "data": data}
        )
        usage = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
            "cost": float(cost),
            "is_byok": False,
        }
        choice = {"index": 0, "message": {"role": "assistant", "content": "…"}, "finish_reason": "stop"}
        return 200, {"id": name, "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}

    def turn(self, key: GatewayKey, state: str, revision: int) -> None:
        """Changes a key's state, unless a higher revision was seen before."""
        if revision < key.revision:
            return
        key.revision = revision
        if key.state not in (state, "revoked"):
            key.state, key.mark = state, key.mark + 1
            if state == "active":
                key.stopped.clear()
            else:
                key.stopped.set()


def build_app(gateway: Gateway) -> FastAPI:
    """The gateway over HTTP."""

    @asynccontextmanager
    async def reporting(_: FastAPI):
        await gateway.reporter.start()
        yield
        await gateway.reporter.stop()

    app = FastAPI(title="Demo gateway", lifespan=reporting, docs_url=None, redoc_url=None)

    @app.post("/v1/chat/completions")
    async def complete(request: Request, authorization: Annotated[str, Header()] = "") -> JSONResponse:
        status, answer = gateway.complete(authorization.removeprefix("Bearer "), await request.json())
        return JSONResponse(answer, status)

    def shown(name: str, authorization: str) -> JSONResponse | GatewayKey:
        if authorization != f"Bearer {gateway.admin_token}":
            return JSONResponse({"error": "the admin token is wrong"}, 401)
        return gateway.by_name.get(name) or JSONResponse({"error": "this key is not known here"}, 404)

    def state_of(key: GatewayKey) -> JSONResponse:
        return JSONResponse({"state": key.state, "mark": str(key.mark), "revision": key.revision})

    @app.get("/v1/keys")
    async def read(key: str, authorization: Annotated[str, Header()] = "") -> JSONResponse:
        found = shown(key, authorization)
        return found if isinstance(found, JSONResponse) else state_of(found)

    @app.put("/v1/keys")
    async def put(key: str, request: Request, authorization: Annotated[str, Header()] = "") -> JSONResponse:
        found, body = shown(key, authorization), await request.json()
        if isinstance(found, JSONResponse):
            return found
        gateway.turn(found, str(body["state"]), int(body["revision"]))
        return state_of(found)

    return app
