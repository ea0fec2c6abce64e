"""The whole way round on a real broker and a real PostgreSQL: usage by each door, a breach, the key paused at its vendor, the
window's end, the key resumed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from ledger.api.app import build_app
from ledger.core.caps import Action, Rule
from ledger.core.commands import Command, SetCap, SetConnection, SetKey
from ledger.core.connections import Connection, Gateway
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.kafka import door, producing
from ledger.metrics import Metrics
from ledger.service import Service, system_clock
from ledger.store import keys as keyed
from ledger.store import reports, tokens
from tests.consumers.described import check_described
from tests.consumers.harness import Event, Stage
from tests.gateways.payloads import END_US, attributes, litellm, openrouter, openrouter_span
from tests.servers import gateway, webhook
from tests.servers import litellm as proxy
from tests.servers import openrouter as account
from tests.servers.vendor import serving
from tests.wire.events import raw

DAY_US = 86_400_000_000
INGEST = {"Authorization": "Bearer ingest-token-000001"}
SECRETS = {"OPENROUTER": account.TOKEN, "LITELLM": proxy.TOKEN, "GATEWAY": gateway.TOKEN, "WEBHOOK": webhook.SECRET}
MOMENT = "2026-07-05T03:09:54Z"  # END_US


class Vendors:
    """One of each kind. `states`: by our key, what its vendor says of it."""

    def __init__(self) -> None:
        self.openrouter, self.litellm = account.OpenRouterApi(), proxy.LiteLLMApi()
        self.gateway, self.webhook = gateway.HttpProtocol({"by-http": gateway.Key(), "by-otlp": gateway.Key()}), webhook.Receiver()
        self.hashes = {"by-openrouter": self.openrouter.add("Agentic Coding"), "by-litellm": self.litellm.add("crawler")}

    def states(self) -> dict[str, str]:
        return {
            "by-openrouter": self.openrouter.state(self.hashes["by-openrouter"]),
            "by-litellm": self.litellm.state(self.hashes["by-litellm"]),
            "by-http": self.gateway.keys["by-http"].state,
            "by-otlp": self.gateway.keys["by-otlp"].state,
            "by-kafka": self.webhook.states.get("by-kafka", "active"),
        }

    def orders(self, addresses: list[str]) -> list[Command]:
        """Connections, keys, and a cap of a dollar a day on each."""
        names, kinds = ("openrouter", "litellm", "gateway", "webhook"), (Gateway.OPENROUTER, Gateway.LITELLM, Gateway.HTTP, Gateway.WEBHOOK)
        made: list[Command] = []
        for name, kind, address in zip(names, kinds, addresses, strict=True):
            reference = f"env:{name.upper()}"
            token, secret = (None, reference) if kind is Gateway.WEBHOOK else (reference, None)
            keys = {"Agentic Coding": "by-openrouter"} if kind is Gateway.OPENROUTER else {}
            way = Connection(connection_id=name, gateway=kind, address=address, token=token, secret=secret, keys=keys)
            made.append(SetConnection(org="acme", by="will", connection=way))
        rule = Rule(period=Period.DAY, limit=Nanos(USD), action=Action.PAUSE)
        for key in self.states():
            credentials = (self.hashes[key],) if key in self.hashes else ()
            made.append(SetKey(org="acme", by="will", key=key, workspace="w", credentials=credentials))
            made.append(SetCap(org="acme", by="will", cap=key, scope=f"key:{key}", rule=rule))
        return made


@asynccontextmanager
async def doors(stage: Stage, clock: Callable[[], int]) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP doors, which hand over to Kafka."""
    service = Service(stage.database, Metrics(), clock)
    async with producing(stage.kafka) as producer:
        service.hand_over = door(producer, stage.kafka)
        transport = httpx.ASGITransport(build_app(service, SECRETS))
        async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=INGEST, timeout=60) as client:
            yield client


async def spend(stage: Stage, client: httpx.AsyncClient, vendors: Vendors) -> None:
    """Two dollars by each door."""
    said, hashed = {"content-type": "application/cloudevents+json"}, vendors.hashes["by-litellm"]
    answers = [
        await client.post("/v1/usage", content=raw({"key": "by-http", "cost_usd": "2.00"}, id="a", time=MOMENT), headers=said),
        await client.post("/v1/webhooks/acme/openrouter", content=openrouter(openrouter_span({"gen_ai.usage.total_cost": 2.0}))),
        await client.post("/v1/webhooks/acme/litellm", content=litellm({"user_api_key_hash": hashed}, response_cost=2)),
        await client.post("/v1/traces", content=span("by-otlp"), headers={"content-type": "application/json"}),
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 200], [answer.text for answer in answers]
    await stage.produce([Event("acme", "by-kafka", raw({"key": "by-kafka", "cost_usd": "2.00"}, id="b", time=MOMENT), 2 * USD)])


def span(key: str) -> bytes:
    said = attributes({"gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1, "gen_ai.usage.cost": 2.0, "ledger.key": key})
    one = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "chat", "attributes": said,
           "startTimeUnixNano": str(END_US * 1000 - 10**9), "endTimeUnixNano": str(END_US * 1000)}  # fmt: skip
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}).encode()


def set_clock(shift: Path, ahead_us: int) -> None:
    """All at once: the consumer reads it at any moment."""
    fresh = shift.with_suffix(".new")
    fresh.write_text(str(ahead_us))
    fresh.replace(shift)


async def until(stage: Stage, vendors: Vendors, state: str) -> None:
    """Until each key is in this state at its vendor, and the vendors' words are in the books."""
    last = time.monotonic() + 60
    while time.monotonic() < last:
        for process in stage.processes:
            process.check()
        if set(vendors.states().values()) == {state}:
            rows = await commands(stage)
            if not [row for row in rows if row["delivery"] in ("pending", "attempted")]:
                return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{vendors.states()}, {await commands(stage)}\n{stage.logs()}")


async def commands(stage: Stage) -> list[dict[str, Any]]:
    async with stage.database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None
        return await keyed.commands(connection, head)


async def test_usage_by_any_door_pauses_its_key_at_its_vendor_until_the_window_ends(stage: Stage, tmp_path: Path) -> None:
    vendors, shift = Vendors(), tmp_path / "clock"
    ahead_us = END_US + 1_000_000 - system_clock()
    set_clock(shift, ahead_us)
    async with AsyncExitStack() as stack:
        apis = (vendors.openrouter, vendors.litellm, vendors.gateway, vendors.webhook)
        addresses = [(await stack.enter_async_context(serving(api))).address for api in apis]
        async with stage.database.writer.begin() as connection:
            await tokens.create(connection, tokens.Token("in", ("ingest",), "acme", None), 1, "ingest-token-000001")
        client = await stack.enter_async_context(doors(stage, lambda: system_clock() + ahead_us))
        await Service(stage.database, Metrics(), lambda: system_clock() + ahead_us).record(vendors.orders(addresses))
        stage.start("usage", "pulse", "relay", "keys", CLOCK=str(shift), **SECRETS)
        await spend(stage, client, vendors)
        await until(stage, vendors, "paused")
        set_clock(shift, ahead_us + DAY_US)
        await until(stage, vendors, "active")
    for api in apis:
        assert sorted(state for _, state in api.turned) == sorted(["paused", "active"] * (len(api.turned) // 2)), "each turned once"
    confirmed = {(row["key"], row["state"]) for row in await commands(stage) if row["delivery"] == "confirmed"}
    assert confirmed >= {(key, state) for key in vendors.states() for state in ("paused", "active")}
    await stage.until_published()
    assert check_described("ledger.key-status", await stage.read("ledger.key-status")) == {"ledger.key.pause.v1", "ledger.key.resume.v1"}
    assert "ledger.cap.cleared.v1" in check_described("ledger.breaches", await stage.read("ledger.breaches"))
