"""What is only read: balances, breaches, commands, entries, explanations; and a gateway's confirmation."""

from ledger.api.amounts import Balances
from ledger.relay import relay_once
from ledger.wire.table import FIELDS
from tests.api.asking import Api, event, moment, problem

CAP = {"scope": "key:crawler", "period": "day", "limit_usd": "10.00", "action": "pause", "thresholds": [50]}


async def breached(api: Api) -> None:
    """A key over its cap, and the command to pause it on its way."""
    await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    await api.use(event("a", "4.20", input_tokens=25, output_tokens=236), event("b", "6.00", session="run-17"))
    await relay_once(api.service)


async def test_a_balance_is_as_the_contract_writes_it(api: Api) -> None:
    await breached(api)
    answer = await api.get("/v1/orgs/acme/balances", scope="key:crawler")
    assert answer["balances"] == [
        {
            "scope": "key:crawler", "period": "day", "start": "2026-03-08T00:00:00Z", "end": "2026-03-09T00:00:00Z",
            "spent_usd": "10.20", "byok_usd": "0", "held_usd": "0", "unpriced": 0, "requests": 2, "input_tokens": 25,
            "output_tokens": 236, "caps": [{"cap": "day-cap", "limit_usd": "10.00", "left_usd": "0"}],
            "above": [
                {
                    "cap": "day-cap", "scope": "key:crawler", "period": "day", "start": "2026-03-08T00:00:00Z",
                    "end": "2026-03-09T00:00:00Z", "limit_usd": "10.00", "spent_usd": "10.20", "byok_usd": "0", "unpriced": 0,
                    "left_usd": "0", "percent": 102, "action": "pause", "enforce": "on", "forecast_usd": "27.20", "tightest": True,
                }
            ],
        }
    ]  # fmt: skip
    org = await api.get("/v1/orgs/acme")
    assert (answer["seq"], answer["recorded_at"]) == (org["seq"], org["recorded_at"])
    again = await api.get("/v1/orgs/acme/balances", scope="key:crawler")
    assert answer == again == Balances.model_validate(answer).model_dump(mode="json")  # no more and no less than is described


async def test_a_balance_until_the_end_of_a_day_is_that_day_s(api: Api) -> None:
    """J7: calls that ended before an instant are those of the window that ends with it, not of the one that begins there."""
    await api.use(event("e1", "1.00", time=moment(days=-1)), event("e2", "2.00"))
    for more, day, spent in (
        ({"until": "2026-03-08T00:00:00Z"}, "2026-03-07T00:00:00Z", "1.00"),
        ({"until": "2026-03-08T00:00:00.000001Z"}, "2026-03-08T00:00:00Z", "0"),
        ({"until": "2026-03-08T00:00:00Z", "at": "2026-03-08T00:00:00Z"}, "2026-03-08T00:00:00Z", "0"),
    ):
        (balance,) = (await api.get("/v1/orgs/acme/balances", scope="org", **more))["balances"]
        assert (balance["start"], balance["spent_usd"]) == (day, spent), more


async def test_balances_of_every_scope_add_up(api: Api) -> None:
    """M7."""
    await api.use(*(event(f"e{n}", f"0.{n}1", key=f"k{n}", workspace=f"w{n % 3}") for n in range(9)))
    rows = await api.pages("/v1/orgs/acme/balances", "balances", 4)
    kinds: dict[str, int] = {}
    for row in rows:
        kind = row["scope"].partition(":")[0]
        kinds[kind] = kinds.get(kind, 0) + round(float(row["spent_usd"]) * 100)
    assert kinds == {"org": 369, "workspace": 369, "key": 369}
    assert len(rows) == 1 + 3 + 9


async def test_windows_are_the_orgs_own(api: Api) -> None:
    """W1."""
    await api.put("/v1/orgs/acme", {"time_zone": "America/New_York"}, 201)
    await api.use(event(time="2026-03-08T04:59:00Z"), event("e2", time="2026-03-08T05:00:00Z"))
    periods = ["hour", "day", "week", "month", "year", "lifetime"]
    balances = (await api.get("/v1/orgs/acme/balances", scope="org", period=periods))["balances"]
    assert [row["period"] for row in balances] == periods
    day = balances[1]
    assert (day["start"], day["end"], day["requests"]) == ("2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", 1)
    assert (balances[5]["start"], balances[5]["end"], balances[5]["requests"]) == (None, None, 2)


async def test_a_plus_sign_in_a_query_is_a_plus_sign(api: Api) -> None:
    await api.use(event())
    assert (await api.ask("GET", "/v1/orgs/acme/balances?scope=org&at=2026-03-08T10:00:00+01:00")).json()["balances"][0]["requests"] == 1


async def test_commands_are_listed_in_pages(api: Api) -> None:
    """K3: newest first, each once, however many were made at the same time."""
    rail = {"each": "key", "in": ["org"], "period": "day", "limit_usd": "0", "action": "pause"}
    await api.put("/v1/orgs/acme/keys/k1", {"credentials": ["h2", "h1"]}, 201)
    await api.put("/v1/orgs/acme/guardrails/each", rail, 201)
    await api.use(*(event(f"e{n}", key=f"k{n}") for n in range(4)))
    await relay_once(api.service)
    api.clock[0] += 1_000_000
    await api.ask("DELETE", "/v1/orgs/acme/guardrails/each")
    await relay_once(api.service)
    whole = await api.get("/v1/orgs/acme/commands")
    assert (len(whole["commands"]), whole["cursor"]) == (12, None)
    paged = await api.pages("/v1/orgs/acme/commands", "commands", 5)
    assert paged == whole["commands"]
    assert [row["state"] for row in paged] == ["active"] * 6 + ["paused"] * 6
    problem(await api.ask("GET", "/v1/orgs/acme/commands", cursor="abc"), 422, "cursor")


async def test_an_unknown_scope_has_spent_nothing(api: Api) -> None:
    await api.use(event())
    assert (await api.get("/v1/orgs/acme/balances", scope="key:stranger"))["balances"][0]["spent_usd"] == "0"


async def test_a_breach_says_what_crossed_what_by_how_much_and_what_was_done(api: Api) -> None:
    """C7."""
    await breached(api)
    (breach,) = (await api.get("/v1/orgs/acme/breaches"))["breaches"]
    entry = breach["entry"]
    assert breach == {
        "cap": "day-cap", "ordinal": 1, "kind": "spend", "scope": "key:crawler", "period": "day", "start": "2026-03-08T00:00:00Z",
        "end": "2026-03-09T00:00:00Z", "limit_usd": "10.00", "spent_usd": "10.20", "over_usd": "0.20", "unpriced": 0, "action": "pause",
        "enforce": "on", "entry": entry, "opened_at": "2026-03-08T09:00:00Z", "closed_at": None, "reason": None,
        "waits": "nothing", "verdict": None, "judged_by": None,
    }  # fmt: skip
    (crossed,) = (await api.get("/v1/orgs/acme/entries", after=entry - 1, limit=1))["entries"]
    assert (crossed["seq"], crossed["id"]) == (entry, "b")


async def test_breaches_are_listed_newest_first_in_pages(api: Api) -> None:
    for n in range(5):
        await api.put(f"/v1/orgs/acme/caps/c{n}", CAP | {"scope": f"key:k{n}", "limit_usd": "1"}, 201)
    for n in range(5):
        api.clock[0] += 1_000_000
        await api.use(event(f"e{n}", key=f"k{n}"))
    first = await api.get("/v1/orgs/acme/breaches", limit=3)
    rest = await api.get("/v1/orgs/acme/breaches", limit=3, cursor=first["cursor"])
    assert [row["cap"] for row in first["breaches"] + rest["breaches"]] == ["c4", "c3", "c2", "c1", "c0"]
    assert rest["cursor"] is None
    assert [row["cap"] for row in (await api.get("/v1/orgs/acme/breaches", cap="c1"))["breaches"]] == ["c1"]
    assert [row["cap"] for row in (await api.get("/v1/orgs/acme/breaches", scope="key:k2"))["breaches"]] == ["c2"]


async def test_a_breach_closes_when_its_window_ends(api: Api) -> None:
    """C4, W1: nothing resets anything."""
    await breached(api)
    api.clock[0] += 24 * 3_600_000_000
    await api.service.pulse(["acme"])
    (breach,) = (await api.get("/v1/orgs/acme/breaches"))["breaches"]
    assert (breach["closed_at"], breach["reason"]) == ("2026-03-09T09:00:00Z", "window_ended")
    assert (await api.get("/v1/orgs/acme/breaches", open="true"))["breaches"] == []
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "active"


async def test_a_command_says_what_became_of_it_and_a_gateway_confirms_it(api: Api) -> None:
    """K3, J1."""
    await breached(api)
    (command,) = (await api.get("/v1/orgs/acme/commands", delivery="pending"))["commands"]
    assert (command["key"], command["state"], command["revision"], command["reasons"]) == ("crawler", "paused", 1, "cap:day-cap")
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["confirmed"] is None
    path = f"/v1/orgs/acme/commands/{command['id']}/confirm"
    confirmed = await api.post(path, {"state": "paused", "mark": "m1"})
    assert (confirmed["delivery"], confirmed["confirmed_at"]) == ("confirmed", "2026-03-08T09:00:00Z")
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["confirmed"] == "paused"
    seq = (await api.get("/v1/orgs/acme"))["seq"]
    await api.post(path, {"state": "paused", "mark": "m1"})
    assert (await api.get("/v1/orgs/acme"))["seq"] == seq, "said twice, it changes nothing"
    assert (await api.get("/v1/orgs/acme/commands", key="crawler", delivery="confirmed"))["commands"] == [confirmed]
    problem(await api.ask("POST", "/v1/orgs/acme/commands/9:crawler/confirm", {"state": "paused"}), 404)
    problem(await api.ask("POST", "/v1/orgs/acme/commands/²:x/confirm", {"state": "paused"}), 404)
    problem(await api.ask("POST", path, {"state": "paused", "mark": "a\0b"}), 422, "mark")


async def test_the_journal_is_read_in_its_gapless_sequence(api: Api) -> None:
    """J1."""
    await breached(api)
    rail = {"each": "key", "in": ["org"], "period": "hour", "limit_usd": "1.00", "action": "pause"}
    await api.put("/v1/orgs/acme/guardrails/runaway", rail, 201)
    await api.put("/v1/orgs/acme/caps/hourly", CAP | {"period": "hour"}, 201)
    await api.put("/v1/orgs/acme/keys/crawler", {"workspace": "lab", "credentials": ["hash"]})
    await api.put("/v1/orgs/acme", {"time_zone": "Asia/Tokyo"})
    await api.post("/v1/orgs/acme/keys/crawler/pause", {"reason": "looks odd"})
    await api.post("/v1/orgs/acme/keys/crawler/resume", {"reason": "it was fine"})
    for path in ("keys/crawler", "caps/day-cap", "guardrails/runaway"):
        await api.ask("DELETE", f"/v1/orgs/acme/{path}")
    seen, after = [], 0
    while page := (await api.get("/v1/orgs/acme/entries", after=after, limit=7))["entries"]:
        seen += page
        after = page[-1]["seq"]
    assert [entry["seq"] for entry in seen] == list(range(1, (await api.get("/v1/orgs/acme"))["seq"] + 1))
    kinds = {entry["type"] for entry in seen}
    assert kinds == {
        "OrgOpened", "OrgChanged", "WorkspaceOpened", "KeyRegistered", "KeyMoved", "CredentialAdded", "KeyRemoved", "CapSet", "CapRemoved",
        "GuardrailSet", "GuardrailRemoved", "UsageRecorded", "ThresholdReached", "CapBreached", "CapCleared", "KeyStateChanged", "KeyHeld",
        "KeyReleased",
    }  # fmt: skip
    (hourly,) = [entry for entry in seen if entry["type"] == "CapSet" and entry["cap"]["cap"] == "hourly"]
    assert hourly["was"] is None
    opened = next(entry["openings"] for entry in seen if entry["type"] == "GuardrailSet")
    assert opened == [{"scope": "key:crawler", "hour": "2026-03-08T09:00:00Z", "spent_usd": "10.20"}]


async def test_a_paused_key_is_explained_down_to_the_entry_that_crossed(api: Api) -> None:
    """J6."""
    await breached(api)
    answer = await api.get("/v1/orgs/acme/explain", scope="key:crawler")
    assert answer["about"] == "key:crawler"
    facts = answer["facts"]
    assert [(cap["cap"], cap["over_usd"]) for cap in facts["why"]] == [("day-cap", "0.20")]
    assert [(row["id"], row["cost_usd"]) for row in facts["crossed"]] == [("b", "6.00")]
    assert facts["driver"] == {"by": "session", "value": "run-17", "spent_usd": "6.00", "share": "58%"}
    assert (facts["set_by"][0]["by"], facts["until"]) == ("admin", "2026-03-09T00:00:00Z")


async def test_a_balance_and_a_breach_are_explained_by_their_entries(api: Api) -> None:
    """J6."""
    await breached(api)
    facts = (await api.get("/v1/orgs/acme/explain", scope="key:crawler", period="day", at=moment()))["facts"]
    assert (facts["entries"], facts["entries_usd"], facts["balance"]["spent_usd"]) == (2, "10.20", "10.20")
    assert [entry["id"] for entry in facts["newest"]] == ["b", "a"]
    facts = (await api.get("/v1/orgs/acme/explain", breach="day-cap/1"))["facts"]
    assert (facts["crossed"]["id"], [entry["state"] for entry in facts["done"]]) == ("b", ["paused"])


async def test_documentation_is_served_without_the_internet(api: Api) -> None:
    page = await api.client.get("/docs")
    assert page.status_code == 200 and "https://" not in page.text
    assert (await api.client.get("/openapi.json")).json()["info"]["title"]


async def test_the_description_of_the_api_is_whole(api: Api) -> None:
    """Every field of an event, every body, and every error as the problem document that it is."""
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    data = paths["/v1/usage"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {*data, "source", "id", "time"} - {"tags"} == set(FIELDS)
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert method in ("get", "delete") or operation["requestBody"]["content"], (method, path)
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    ((media, content),) = response["content"].items()
                    assert media == "application/problem+json" and content["schema"]["$ref"].endswith("/ProblemDocument"), (path, status)
                elif status != "204":
                    assert response["content"], (path, status)


async def test_health_says_why_not_in_words(api: Api) -> None:
    assert (await api.client.get("/livez")).json() == {"status": "alive"}
    assert (await api.client.get("/readyz")).json() == {"status": "ready"}
