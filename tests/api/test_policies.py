"""Caps, guardrails and adjustments over HTTP."""

from typing import Any

from tests.api.asking import Api, event, problem

CAP = {"scope": "key:crawler", "period": "day", "limit_usd": "10.00", "action": "pause", "thresholds": [80, 50, 50]}
RAIL = {"each": "key", "in": ["org"], "except": ["testing"], "period": "day", "limit_usd": "2.00", "action": "pause"}


async def test_a_cap_is_shown_as_the_contract_writes_it(api: Api) -> None:
    made = await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    assert made == {
        "cap": "day-cap", "scope": "key:crawler", "period": "day", "limit_usd": "10.00", "action": "pause", "thresholds": [50, 80],
        "include_byok": False, "on_unpriced": "alert", "resume": "auto", "enforce": "on", "approval": True, "backstop_percent": None,
        "version": made["version"],
    }  # fmt: skip
    assert await api.get("/v1/orgs/acme/caps/day-cap") == made
    assert (await api.get("/v1/orgs/acme/caps"))["caps"] == [made]


async def test_a_cap_that_changes_nothing_makes_no_entry(api: Api) -> None:
    made = await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    assert await api.put("/v1/orgs/acme/caps/day-cap", CAP | {"limit_usd": 10}) == made


async def test_a_cap_on_what_was_spent_already_breaches_at_once(api: Api) -> None:
    """C5."""
    await api.use(event(cost="12.00"))
    await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    (breach,) = (await api.get("/v1/orgs/acme/breaches", open="true"))["breaches"]
    assert (breach["cap"], breach["ordinal"], breach["over_usd"]) == ("day-cap", 1, "2.00")
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "paused"


async def test_a_cap_taken_away_clears_its_breach_and_a_new_one_has_a_new_ordinal(api: Api) -> None:
    """C3, C4."""
    await api.use(event(cost="12.00"))
    await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    assert (await api.ask("DELETE", "/v1/orgs/acme/caps/day-cap")).status_code == 204
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "active"
    await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    breaches = (await api.get("/v1/orgs/acme/breaches"))["breaches"]
    assert sorted((breach["ordinal"], breach["closed_at"] is None) for breach in breaches) == [(1, False), (2, True)]


async def test_a_limit_of_nothing_means_that_nothing_may_be_spent(api: Api) -> None:
    """C1."""
    await api.use(event(cost="0"))
    await api.put("/v1/orgs/acme/caps/none", CAP | {"limit_usd": "0"}, 201)
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "paused"


async def test_a_guardrail_covers_keys_that_appear_later_each_with_its_own_cap(api: Api) -> None:
    """S5."""
    made = await api.put("/v1/orgs/acme/guardrails/daily", RAIL, 201)
    assert (made["each"], made["in"], made["except"]) == ("key", ["org"], ["testing"])
    assert await api.get("/v1/orgs/acme/guardrails/daily") == made
    await api.use(event("a", "2.00", key="one"), event("b", "1.99", key="two"), event("c", "9.00", key="testing"))
    states = {key["key"]: key["state"] for key in (await api.get("/v1/orgs/acme/keys"))["keys"]}
    assert states == {"one": "paused", "two": "active", "testing": "active"}
    await api.put("/v1/orgs/acme/guardrails/daily", RAIL | {"limit_usd": "3.00"})
    assert (await api.get("/v1/orgs/acme/keys/one"))["state"] == "active"
    assert (await api.ask("DELETE", "/v1/orgs/acme/guardrails/daily")).status_code == 204
    assert (await api.get("/v1/orgs/acme/guardrails"))["guardrails"] == []


async def test_caps_and_guardrails_are_listed_in_pages(api: Api) -> None:
    for name in "abc":
        await api.put(f"/v1/orgs/acme/caps/{name}", CAP, 201)
        await api.put(f"/v1/orgs/acme/guardrails/{name}", RAIL, 201)
    for what, one in (("caps", "cap"), ("guardrails", "guardrail")):
        first = await api.get(f"/v1/orgs/acme/{what}", limit=2)
        rest = await api.get(f"/v1/orgs/acme/{what}", limit=2, cursor=first["cursor"])
        assert [row[one] for row in first[what] + rest[what]] == ["a", "b", "c"] and rest["cursor"] is None


async def test_a_slash_belongs_to_the_caps_that_guardrails_make(api: Api) -> None:
    assert "'/'" in problem(await api.ask("PUT", "/v1/orgs/acme/caps/a%2Fb", CAP), 422, "cap")
    assert "'/'" in problem(await api.ask("PUT", "/v1/orgs/acme/guardrails/a%2Fb", RAIL), 422, "guardrail")


async def test_an_org_that_observes_pauses_nobody_and_says_what_it_would_have_done(api: Api) -> None:
    """C1: enforce observe, for a whole org."""
    await api.put("/v1/orgs/acme", {"enforce": "observe"}, 201)
    await api.put("/v1/orgs/acme/caps/day-cap", CAP, 201)
    await api.use(event(cost="12.00"))
    (breach,) = (await api.get("/v1/orgs/acme/breaches"))["breaches"]
    assert (breach["action"], breach["enforce"]) == ("pause", "observe")
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "active"


async def adjust(api: Api, request: str, entry: int, cost: str, status: int = 200) -> Any:
    body = {"entry": entry, "cost_usd": cost, "reason": "the price list was wrong"}
    return await api.post("/v1/orgs/acme/adjustments", body, status, headers={"Idempotency-Key": request})


async def usage_seq(api: Api) -> int:
    entries = (await api.get("/v1/orgs/acme/entries"))["entries"]
    return next(row["seq"] for row in entries if row["type"] == "UsageRecorded")


async def test_an_adjustment_is_booked_once_however_often_it_is_sent(api: Api) -> None:
    """J2, J3."""
    await api.use(event(cost="12.00"))
    seq = await usage_seq(api)
    assert (await adjust(api, "a1", seq, "2.00"))["status"] == "recorded"
    assert (await adjust(api, "a1", seq, "2.00"))["status"] == "duplicate"
    assert "another adjustment" in (await adjust(api, "a1", seq, "3.00", 409))["detail"]
    assert (await api.get("/v1/orgs/acme/balances", scope="org"))["balances"][0]["spent_usd"] == "2.00"


async def test_a_price_that_comes_later_prices_the_call_in_its_own_window(api: Api) -> None:
    """M4, J3."""
    await api.use(event(cost=None))
    await adjust(api, "a1", await usage_seq(api), "2.00")
    (balance,) = (await api.get("/v1/orgs/acme/balances", scope="org"))["balances"]
    assert (balance["spent_usd"], balance["unpriced"], balance["requests"]) == ("2.00", 0, 1)


async def test_an_adjustment_names_what_is_wrong_with_it(api: Api) -> None:
    await api.use(event())
    seq = await usage_seq(api)
    good = {"entry": seq, "cost_usd": "1", "reason": "x"}
    key = {"Idempotency-Key": "a1"}
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good), 422, "idempotency-key")
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good, headers={"Idempotency-Key": "k" * 129}), 422, "idempotency-key")
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good | {"entry": 0}, headers=key), 422, "entry")
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good | {"cost_usd": "-1"}, headers=key), 422, "cost_usd")
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good | {"reason": ""}, headers=key), 422, "reason")
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good | {"entry": 2**53}, headers=key), 404)
    problem(await api.ask("POST", "/v1/orgs/acme/adjustments", good | {"entry": 1}, headers=key), 404)


async def test_a_guardrail_covers_no_workspace_that_there_is_not(api: Api) -> None:
    """S5: a cap may stand on a workspace before it is opened; a guardrail covers it from then on, and no breach is left behind (C4)."""
    rail = {"each": "workspace", "in": ["org"], "period": "day", "limit_usd": "0", "action": "alert"}
    await api.put("/v1/orgs/acme/guardrails/each", rail, 201)
    await api.put("/v1/orgs/acme/caps/press", {"scope": "workspace:press", "period": "day", "limit_usd": "5", "action": "alert"}, 201)
    assert (await api.get("/v1/orgs/acme/breaches"))["breaches"] == []
    await api.use(event(workspace="press"))
    assert [row["cap"] for row in (await api.get("/v1/orgs/acme/breaches"))["breaches"]] == ["each/workspace:press"]
    await api.put("/v1/orgs/acme/guardrails/each", rail | {"limit_usd": "1.01"})
    assert (await api.get("/v1/orgs/acme/breaches", open=True))["breaches"] == []


async def test_a_cap_that_stands_before_its_workspace_is_opened_follows_the_orgs_zone(api: Api) -> None:
    """W4, C3: its breach is in the window that contains now, as every other's."""
    await api.put("/v1/orgs/acme/caps/none", {"scope": "workspace:press", "period": "day", "limit_usd": "0", "action": "alert"}, 201)
    await api.put("/v1/orgs/acme", {"time_zone": "Asia/Kathmandu"})
    (breach,) = (await api.get("/v1/orgs/acme/breaches", open=True))["breaches"]
    assert (breach["ordinal"], breach["start"]) == (2, "2026-03-07T18:15:00Z")
