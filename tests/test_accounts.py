"""A gateway's account read over real HTTP: its keys linked, an existing one adopted, its figures compared."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.accounts import Open, matched, opener, reconcile, reconcile_once, sync_keys, sync_once, vendor_keys
from ledger.api.app import build_app
from ledger.cli.policy import read_policies
from ledger.cli.vendors import policy_of
from ledger.core.commands import RecordUsage, SetConnection, SetKey
from ledger.core.connections import Connection, Gateway
from ledger.core.matching import DayVerdict
from ledger.core.window import Period
from ledger.gateways.gateway import GatewayRefused, GatewayUnavailable, TokenRefused
from ledger.gateways.litellm import parse_litellm
from ledger.gateways.openrouter import parse_openrouter
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import accounts, balances, observed, reports, tokens
from ledger.store.dialect import Database
from tests.gateways.payloads import END_US, HASH, litellm, openrouter, openrouter_span
from tests.servers.openrouter import TOKEN, hash_of
from tests.servers.openrouter_account import OpenRouterAccount
from tests.servers.vendor import Fault, Request, serving

DAY = END_US // 86_400_000_000
START = "2026-07-05T00:00:00Z"


def account(address: str, **said: Any) -> Connection:
    return Connection(**({"connection_id": "or", "gateway": Gateway.OPENROUTER, "address": address, "token": "env:OR_KEY"} | said))


async def head_of(database: Database) -> reports.Head:
    async with database.snapshot() as connection:
        head = await reports.head(connection, "acme")
    assert head is not None
    return head


OPEN: Open = opener({"OR_KEY": TOKEN})


async def test_keys_of_all_workspaces_are_read_page_by_page_disabled_ones_too() -> None:
    api = OpenRouterAccount()
    names = [f"key {n}" for n in range(5)]
    for name in names:
        api.put(name)
    api.put("elsewhere", workspace="ws-2", disabled=True, limit=None)
    async with serving(api) as vendor:
        found = await vendor_keys(account(vendor.address), OPEN)
    assert sorted(key.name for key in found) == sorted([*names, "elsewhere"])
    elsewhere = next(key for key in found if key.name == "elsewhere")
    assert (elsewhere.disabled, elsewhere.limit, elsewhere.workspace) == (True, None, "ws-2")
    assert found[0].limit == 100_000_000_000 and found[0].period is Period.MONTH


async def test_more_workspaces_than_one_page_holds_are_all_read() -> None:
    api = OpenRouterAccount()
    for n in range(230):
        api.put(f"key {n}", workspace=f"ws-{n}")
    async with serving(api) as vendor:
        found = await vendor_keys(account(vendor.address), OPEN)
    assert {key.workspace for key in found} == {f"ws-{n}" for n in range(230)}


class Says:
    """A gateway that answers everything with the same bytes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def answer(self, request: Request) -> tuple[int, Any]:
        return 200, self.text


@pytest.mark.parametrize(
    "text",
    ['{"data":{"data":[{"api_key_id":"a","total_usage":"much"}]}}', '{"data":{"data":[{"api_key_id":"a","total_usage":"NaN"}]}}',
     '{"data":{"data":[{"api_key_id":"a","total_usage":[1]}]}}', '{"data":{"data":[{"api_key_id":"a","total_usage":1e99}]}}',
     '{"data":{"data":[7]}}', '{"data":' * 100_000, "\udcff"],
)  # fmt: skip
async def test_figures_that_are_none_are_the_gateways_fault_and_said_so(database: Database, text: str) -> None:
    service = Service(database, Metrics(), lambda: END_US)
    async with serving(Says(text)) as vendor:
        await service.record([SetConnection(org="acme", by="will", connection=account(vendor.address))])
        with pytest.raises(GatewayUnavailable):
            await reconcile(database, await head_of(database), account(vendor.address), OPEN, DAY, DAY)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Fault("status", 500), GatewayUnavailable), (Fault("status", 429), GatewayUnavailable), (Fault("half"), GatewayUnavailable),
     (Fault("wrong"), GatewayUnavailable), (Fault("html"), GatewayUnavailable), (Fault("status", 401), TokenRefused)],
)  # fmt: skip
async def test_a_gateways_bad_day_reads_nothing_by_halves(fault: Fault, error: type[Exception]) -> None:
    api = OpenRouterAccount()
    api.put("a")
    async with serving(api) as vendor:
        vendor.always = fault
        with pytest.raises(error):
            await vendor_keys(account(vendor.address), OPEN)


async def test_a_sync_links_hashes_and_names_so_that_usage_by_name_is_the_keys_and_ambiguous_ones_are_shown(database: Database) -> None:
    api, service = OpenRouterAccount(), Service(database, Metrics(), lambda: END_US + 60_000_000)
    api.put("Agentic Coding")
    for seed in ("x", "y"):
        api.put("twin", seed=seed)
    async with serving(api) as vendor:
        here = account(vendor.address)
        await service.record([SetConnection(org="acme", by="will", connection=here)])
        await service.record([SetKey(org="acme", by="will", key="coder", credentials=(hash_of("Agentic Coding"),))])
        found = await matched(database, await head_of(database), here, await vendor_keys(here, OPEN))
        await sync_keys(service, "acme", found)
        again = await matched(database, await head_of(database), here, await vendor_keys(here, OPEN))
    assert list(found.ambiguous) == ["twin"] and again.links == [] and len(again.unknown) == 2
    await service.record([event for event in parse_openrouter(openrouter(openrouter_span()), "acme", here)])  # type: ignore[misc]
    async with database.snapshot() as connection:
        (balance,) = await balances.standing(connection, await head_of(database), ["key:coder"], [Period.LIFETIME], END_US)
        assert balance["spent_usd"] == "0.00006958"
        names = (await accounts.credentials(connection, (await head_of(database)).org_id))["coder"]
    assert set(names) == {"Agentic Coding", hash_of("Agentic Coding")}


async def test_an_adopted_gateway_is_a_policy_file_with_its_keys_limits_and_resets() -> None:
    api = OpenRouterAccount()
    api.put("crawler", limit=2.5, limit_reset="daily", include_byok_in_limit=True)
    api.put("free", limit=None)
    api.put("once", limit=10, limit_remaining=0.25, limit_reset=None)
    api.put("none/at all", limit=0, limit_reset="weekly")
    async with serving(api) as vendor:
        here = account(vendor.address)
        text = policy_of("acme", "UTC", here, await vendor_keys(here, OPEN))
    (policy,) = read_policies(text)
    caps = {name: (cap.period, cap.limit_usd, cap.action, cap.include_byok) for name, cap in policy.caps.items()}
    assert caps == {
        "crawler-limit": (Period.DAY, 2_500_000_000, "pause", True), "once-limit": (Period.LIFETIME, 250_000_000, "pause", False),
        "none-at all-limit": (Period.WEEK, 0, "pause", False),
    }  # fmt: skip
    assert set(policy.keys) == {"crawler", "free", "once", "none/at all"}
    assert policy.connections["or"].token == "env:OR_KEY"
    assert TOKEN not in text


async def test_every_adopted_key_has_a_cap_of_its_own_whatever_its_name() -> None:
    api = OpenRouterAccount()
    names = ["a/b", "a-b", "m" * 125, "n" * 128, "m" * 124 + "/"]
    for name in names:
        api.put(name, limit=2.5, limit_reset="daily")
    async with serving(api) as vendor:
        here = account(vendor.address)
        (policy,) = read_policies(policy_of("acme", "UTC", here, await vendor_keys(here, OPEN)))
    assert sorted(cap.scope for cap in policy.caps.values()) == sorted(f"key:{key}" for key in policy.keys)
    assert len(policy.keys) == len(names)


@pytest.mark.parametrize("length", [125, 128, 129, 300])
async def test_a_key_of_a_very_long_name_is_one_key_whether_it_is_adopted_or_reports_usage_first(database: Database, length: int) -> None:
    api, name = OpenRouterAccount(), "n" * length
    api.put(name)
    api.put(name + "n")
    async with serving(api) as vendor:
        here = account(vendor.address, adopt_keys=True)
        (policy,) = read_policies(policy_of("acme", "UTC", here, await vendor_keys(here, OPEN)))
        (call,) = parse_openrouter(openrouter(openrouter_span({"trace.metadata.openrouter.api_key_name": name})), "acme", here)
        assert isinstance(call, RecordUsage), call
        service = Service(database, Metrics(), lambda: END_US)
        await service.record([SetConnection(org="acme", by="will", connection=here), call])
        found = await matched(database, await head_of(database), here, await vendor_keys(here, OPEN))
    assert hash_of(name) in policy.keys[call.usage.key].credentials
    assert next(link for link in found.links if hash_of(name) in link.credentials).key == call.usage.key


@pytest.fixture
def folder(tmp_path: Path, sqlite_template: Path) -> Path:
    """A folder with an empty ledger."""
    (tmp_path / "ledger.db").write_bytes(sqlite_template.read_bytes())
    return tmp_path


async def test_the_command_prints_the_file_or_applies_it(folder: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "OR_KEY": TOKEN, "LEDGER_DATABASE_URL": f"sqlite:///{folder}/ledger.db"}

    async def ledger(*words: str) -> tuple[int | None, str, str]:
        pipes = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE}
        child = await asyncio.create_subprocess_exec(sys.executable, "-m", "ledger", *words, env=environ, cwd=folder, **pipes)
        out, err = await child.communicate()
        return child.returncode, out.decode(), err.decode()

    api = OpenRouterAccount()
    api.put("crawler", limit=2.5, limit_reset="daily")
    async with serving(api) as vendor:
        words = ("adopt", "openrouter", "--org", "acme", "--token", "env:OR_KEY", "--address", vendor.address)
        code, out, _ = await ledger(*words, "--plan")
        assert code == 0 and "limit_usd: '2.50'" in out
        assert (await ledger(*words, "--yes"))[0] == 0
        api.put("second")
        code, out, _ = await ledger("keys", "sync", "openrouter", "--plan")
        assert code == 2 and "+ key:second" in out
        assert "linked 1 keys" in (await ledger("keys", "sync", "openrouter"))[1]
        vendor.always = Fault("html")
        assert (await ledger("keys", "sync", "openrouter"))[2].lower().count("is its address right") == 1
        code, _, err = await ledger("adopt", "openrouter", "--org", "acme", "--connection", "new", "--token", TOKEN)
        assert code == 1 and "env:NAME" in err and TOKEN not in err


async def test_openrouters_figures_are_compared_by_key_and_day(database: Database) -> None:
    api, service = OpenRouterAccount(), Service(database, Metrics(), lambda: END_US + 60_000_000)
    coder, quiet, stranger = api.put("Agentic Coding"), api.put("quiet"), api.put("stranger")
    api.usage = {(coder, START): 0.00006958, (quiet, START): 1.5, (stranger, START): 0.25}
    async with serving(api) as vendor:
        here = account(vendor.address)
        await service.record([SetConnection(org="acme", by="will", connection=here)])
        await service.record([SetKey(org="acme", by="will", key="coder", credentials=(coder, "Agentic Coding"))])
        await service.record([SetKey(org="acme", by="will", key="quiet", credentials=(quiet,))])
        lost = {"gen_ai.response.id": "g2", "trace.metadata.openrouter.api_key_name": "lost"}
        spans = openrouter(openrouter_span(), openrouter_span(lost))
        await service.record([event for event in parse_openrouter(spans, "acme", here)])  # type: ignore[misc]
        lines = await reconcile(database, await head_of(database), here, OPEN, DAY - 1, DAY)
        api.truncated = True
        with pytest.raises(GatewayUnavailable, match="cut its answer"):
            await reconcile(database, await head_of(database), here, OPEN, DAY, DAY)
    assert {line.key: line.verdict for line in lines} == {
        "coder": DayVerdict.MATCHED, "quiet": DayVerdict.MISSING, "lost": DayVerdict.EXTRA, stranger: DayVerdict.UNATTRIBUTED,
    }  # fmt: skip


async def test_an_account_without_analytics_is_compared_by_its_keys_counters_of_today(database: Database) -> None:
    api, service, today = OpenRouterAccount(analytics=False), Service(database, Metrics()), int(time.time() // 86_400)
    api.put("busy", usage_daily="0.25")
    api.put("idle", usage_daily=0)
    async with serving(api) as vendor:
        here = account(vendor.address)
        await service.record([SetConnection(org="acme", by="will", connection=here)])
        (line,) = await reconcile(database, await head_of(database), here, OPEN, today, today)
        assert (line.theirs, line.ours, line.verdict) == (250_000_000, 0, DayVerdict.UNATTRIBUTED)
        with pytest.raises(GatewayRefused):
            await reconcile(database, await head_of(database), here, OPEN, today - 1, today)


class SpendLogs:
    """LiteLLM's log of every call; `paged` is a version that gives pages, and cuts what is not asked for by page."""

    logs: list[dict[str, Any]]
    paged: bool = False

    def answer(self, request: Request) -> tuple[int, Any]:
        if request.path == ("spend", "logs", "v2"):
            return self.page(request.query) if self.paged else (404, {"detail": "Not Found"})
        assert request.path == ("spend", "logs") and request.query["summarize"] == "false" and not self.paged
        return 200, self.logs

    def page(self, asked: Mapping[str, str]) -> tuple[int, Any]:
        number, size = int(asked["page"]), int(asked["page_size"])
        begin, end = (asked[name].replace(" ", "T") for name in ("start_date", "end_date"))
        rows = sorted((row for row in self.logs if begin <= row["startTime"][:19] <= end), key=lambda row: row["startTime"])
        assert size <= 1_000 and asked["sort_order"] == "asc"
        return 200, {"data": rows[(number - 1) * size : number * size], "total": min(len(rows), 10_000), "page": number}


async def test_litellms_spend_logs_are_compared_also_for_a_connection_that_counts_nothing(database: Database) -> None:
    api, service = SpendLogs(), Service(database, Metrics(), lambda: END_US + 60_000_000)
    row = {"request_id": "r", "api_key": HASH, "startTime": "2026-07-05T03:09:51.321000", "endTime": "2026-07-05T03:09:54.687000Z"}
    api.logs = [row | {"spend": 1.35e-05}, row | {"spend": 1.35e-05, "endTime": "2026-07-07T00:00:00Z"}]
    async with serving(api) as vendor:
        for name, counts in (("proxy", True), ("aside", False)):
            here = account(vendor.address, gateway=Gateway.LITELLM, connection_id=name, counts=counts)
            await service.record([SetConnection(org="acme", by="will", connection=here)])
            await service.record([SetKey(org="acme", by="will", key="k", credentials=(HASH,))])
            calls = [event for event in parse_litellm(litellm(), "acme", here)]
            if counts:
                await service.record(calls)  # type: ignore[arg-type]
            else:
                async with database.writer.begin() as connection:
                    await observed.keep(connection, (await head_of(database)).org_id, name, calls)  # type: ignore[arg-type]
            (line,) = await reconcile(database, await head_of(database), here, OPEN, DAY, DAY)
            assert (line.key, line.verdict, line.requests) == ("k", DayVerdict.MATCHED, 1)


@pytest.mark.parametrize("count", [1, 1_000, 12_001])
async def test_a_long_spend_log_is_read_to_its_end_with_the_call_that_began_the_day_before(database: Database, count: int) -> None:
    api, service = SpendLogs(), Service(database, Metrics())
    row = {"api_key": HASH, "spend": 1.35e-05, "startTime": "2026-07-05T03:09:51.321+00:00", "endTime": "2026-07-05T03:09:54.687+00:00"}
    api.paged, api.logs = True, [row | {"request_id": f"r-{n}"} for n in range(count)]
    api.logs += [row | {"request_id": "late", "startTime": "2026-07-04T23:59:59.9+00:00", "endTime": "2026-07-05T00:00:01+00:00"}]
    api.logs += [row | {"request_id": "away", "api_key": "f" * 64, "spend": 0.0, "status": "failure"}]
    api.logs += [row | {"request_id": "before", "startTime": "2026-07-04T23:58:00+00:00", "endTime": "2026-07-04T23:59:00+00:00"}]
    async with serving(api) as vendor:
        here = account(vendor.address, gateway=Gateway.LITELLM, connection_id="proxy")
        await service.record([SetConnection(org="acme", by="will", connection=here)])
        (line,) = await reconcile(database, await head_of(database), here, OPEN, DAY, DAY)
    assert (line.theirs, line.verdict) == ((count + 1) * 13_500, DayVerdict.UNATTRIBUTED)


async def test_a_gateway_that_keeps_no_account_says_so(database: Database) -> None:
    with pytest.raises(GatewayRefused, match="nothing to sync or to adopt"):
        await vendor_keys(account("http://t", gateway=Gateway.LITELLM), OPEN)


async def test_on_schedule_keys_are_linked_and_accounts_compared_and_the_outcome_is_measured(database: Database) -> None:
    """One account that does not answer holds up no other."""
    api, service = OpenRouterAccount(), Service(database, Metrics(), lambda: END_US + 86_400_000_000)
    coder, stranger = api.put("Agentic Coding"), api.put("stranger")
    api.usage = {(coder, START): 0.00006958, (stranger, START): 0.25}
    async with serving(api) as vendor:
        here, dead = account(vendor.address), account("http://127.0.0.1:9", connection_id="dead")
        inward = Connection(connection_id="inward", gateway=Gateway.OPENROUTER)
        await service.record([SetConnection(org="acme", by="will", connection=way) for way in (dead, here, inward)])
        await service.record([event for event in parse_openrouter(openrouter(openrouter_span()), "acme", here)])  # type: ignore[misc]
        await service.record([SetKey(org="acme", by="will", key="Agentic Coding", workspace="w")])
        assert await sync_once(service, OPEN) == 0
        assert await reconcile_once(service, OPEN) == 0
    async with database.snapshot() as connection:
        names = await accounts.credentials(connection, (await head_of(database)).org_id)
    assert names == {"Agentic Coding": [coder]}
    read = service.metrics.registry.get_sample_value
    counts = {verdict: read("ledger_reconciled_key_days", {"verdict": verdict}) for verdict in DayVerdict}
    assert counts == {DayVerdict.MATCHED: 1, DayVerdict.MISSING: 0, DayVerdict.EXTRA: 0, DayVerdict.UNATTRIBUTED: 1}
    assert read("ledger_accounts_unread") == 1


async def test_a_person_asks_over_http_and_a_gateway_that_does_not_answer_is_a_503(database: Database) -> None:
    api, service = OpenRouterAccount(), Service(database, Metrics(), lambda: END_US + 86_400_000_000)
    stranger = api.put("stranger")
    api.usage = {(stranger, START): 0.25}
    async with database.writer.begin() as connection:
        await tokens.create(connection, tokens.Token("a", ("admin",), None, None), 1, "admin-token-0000001")
        await tokens.create(connection, tokens.Token("r", ("read",), "acme", None), 1, "reader-token-000001")
    transport = httpx.ASGITransport(build_app(service, {"OR_KEY": TOKEN}))
    async with serving(api) as vendor, httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        ways = (account(vendor.address), Connection(connection_id="spans", gateway=Gateway.OTLP))
        await service.record([SetConnection(org="acme", by="will", connection=way) for way in ways])

        async def ask(name: str, token: str = "admin-token-0000001", **query: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"}
            return await client.get(f"/v1/orgs/acme/connections/{name}/reconcile", params=query, headers=headers)

        found = await ask("or", **{"from": "2026-07-05", "to": "2026-07-05"})
        assert (found.status_code, found.json()["counts"]["unattributed"]) == (200, 1)
        assert found.json()["lines"] == [
            {"day": "2026-07-05", "key": stranger, "verdict": "unattributed", "theirs_usd": "0.25", "ours_usd": "0", "requests": 0}
        ]
        assert (await ask("or")).json()["counts"]["unattributed"] == 1, "the week up to yesterday"
        assert [(await ask(name)).status_code for name in ("nowhere", "spans")] == [404, 409]
        described = (await client.get("/openapi.json")).json()["paths"]["/v1/orgs/{org}/connections/{connection}/reconcile"]["get"]
        assert {"404", "409", "422", "503"} <= described["responses"].keys()
        backwards = await ask("or", **{"from": "2026-07-05", "to": "2026-07-04"})
        assert (backwards.status_code, [fault["field"] for fault in backwards.json()["errors"]]) == (422, ["to"])
        assert (await ask("or", "reader-token-000001")).status_code == 403
        vendor.always = Fault("status", 500)
        assert (await ask("or")).status_code == 503
