"""Adjustments and shared costs over HTTP: booked once, in their own windows, in reports and balances; or refused in words."""

from typing import Any

from tests.api.asking import Api, event, problem

ORG = "/v1/orgs/acme"


async def post(api: Api, what: str, body: Any, status: int = 200, request: str = "r1") -> Any:
    return await api.post(f"{ORG}/{what}", body, status, headers={"Idempotency-Key": request})


async def seq_of(api: Api, name: str) -> int:
    return next(row["seq"] for row in (await api.get(f"{ORG}/entries"))["entries"] if row.get("id") == name)


async def month(api: Api, scope: str = "org") -> str:
    return (await api.get(f"{ORG}/balances", scope=scope, period="month"))["balances"][0]["spent_usd"]


async def test_an_adjustment_by_an_amount_takes_back_no_more_than_the_entry_costs(api: Api) -> None:
    await api.use(event("e1", "1.00"), event("e2", ...))
    first, unpriced = await seq_of(api, "e1"), await seq_of(api, "e2")
    back = {"entry": first, "amount_usd": "-0.30", "reason": "a refund"}
    assert (await post(api, "adjustments", back))["status"] == "recorded"
    assert (await post(api, "adjustments", back))["status"] == "duplicate"
    assert await month(api) == "0.70"
    for body, why in (
        ({"entry": first, "amount_usd": "-0.70000001"}, "more than the entry costs, which is $0.70"),
        ({"entry": unpriced, "amount_usd": "-0.10"}, "no price yet"),
        ({"entry": first + 2, "amount_usd": "-0.10"}, "is itself a correction"),
        ({"entry": first}, "cost_usd"), ({"entry": first, "amount_usd": "1", "cost_usd": "1"}, "cost_usd"),
        ({"entry": first, "cost_usd": "1000000.01"}, "cost_usd: is more than"),
        ({"entry": first, "amount_usd": "1000000"}, "amount_usd: takes the entry to more than"),
        ({"entry": first, "amount_usd": "much"}, "amount_usd"),
        ({"entry": first, "amount_usd": "0"}, "costs $0.70 already: there is nothing to correct"),
        ({"entry": first, "cost_usd": "0.7"}, "nothing to correct"),
    ):  # fmt: skip
        assert why in (await post(api, "adjustments", body | {"reason": "so"}, 422, "r2"))["detail"], body
    await post(api, "adjustments", {"entry": first, "amount_usd": "-0.70", "reason": "all of it"}, request="r3")
    assert await month(api) == "0"


async def test_a_request_that_is_sent_again_with_anything_else_in_it_is_refused(api: Api) -> None:
    """J2: every field that was sent is compared, why it was done too."""
    await api.use(event("e1", "1.00"), event("e2", "1.00"))
    first, second = await seq_of(api, "e1"), await seq_of(api, "e2")
    back = {"entry": first, "amount_usd": "-0.25", "reason": "a refund"}
    fee = {"amount_usd": "3", "how": "evenly", "over": ["research"], "reason": "a licence"}
    await post(api, "adjustments", back)
    await post(api, "shared-costs", fee)
    price = {"entry": first, "cost_usd": "0.75", "reason": "a refund"}  # comes to the same, and is another request
    for another in (back | {"reason": "a gift"}, back | {"amount_usd": "-0.26"}, back | {"entry": second}, price):
        assert "another adjustment" in (await post(api, "adjustments", another, 409))["detail"], another
    for another in (fee | {"reason": "a gift"}, fee | {"day": "2026-03-08"}, fee | {"over": {"research": 1}}):
        assert "another shared cost" in (await post(api, "shared-costs", another, 409))["detail"], another
    for what, sent in (("adjustments", back), ("shared-costs", fee)):
        assert (await post(api, what, sent))["status"] == "duplicate"
    assert await month(api) == "4.75"


async def test_no_usage_takes_the_place_of_an_adjustment_or_a_shared_cost(api: Api) -> None:
    """T1: whoever may send usage only, and guesses what a person's request will be called."""
    await api.use(event("e1", "1.00"), *(event("r1", "0.01", source=f"http:{what}") for what in ("adjustments", "shared-costs")))
    back = {"entry": await seq_of(api, "e1"), "amount_usd": "-0.25", "reason": "a refund"}
    fee = {"amount_usd": "3", "how": "evenly", "over": ["research"], "reason": "a licence"}
    assert [(await post(api, what, body))["status"] for what, body in (("adjustments", back), ("shared-costs", fee))] == ["recorded"] * 2


async def test_an_entry_of_another_org_is_nobody_s_to_correct(api: Api) -> None:
    await api.use(event("e1", "1.00"), *(event(f"g{n}", "1.00", org="globex") for n in range(9)))
    seq = (await api.get("/v1/orgs/globex/entries"))["entries"][-1]["seq"]
    assert "no usage entry" in (await post(api, "adjustments", {"entry": seq, "cost_usd": "0", "reason": "so"}, 404))["detail"]


async def test_a_shared_cost_is_in_balances_and_reports_to_the_nano(api: Api) -> None:
    await api.use(event("e1", "3.00"), event("e2", "1.00", key="writer", workspace="press"))
    shared = {"amount_usd": "0.000000100", "how": "spend", "over": ["research", "press"], "reason": "the gateway's fee"}
    assert (await post(api, "shared-costs", shared))["status"] == "recorded"
    assert (await post(api, "shared-costs", shared))["status"] == "duplicate"
    problem(
        await api.ask("POST", f"{ORG}/shared-costs", shared | {"how": "evenly"}, headers={"Idempotency-Key": "r1"}), 409, "Idempotency-Key"
    )
    assert [await month(api, scope) for scope in ("workspace:research", "workspace:press", "org")] == [
        "3.000000075", "1.000000025", "4.0000001",
    ]  # fmt: skip
    report = await api.get(f"{ORG}/report?by=workspace,key,charge")
    assert [(row["workspace"], row["key"], row["charge"], row["spent_usd"]) for row in report["rows"]] == [
        ("press", None, "shared", "0.000000025"), ("press", "writer", "usage", "1.00"),
        ("research", None, "shared", "0.000000075"), ("research", "crawler", "usage", "3.00"),
    ]  # fmt: skip
    assert report["total"]["spent_usd"] == "4.0000001"
    weighted = {"amount_usd": "3", "how": "weight", "over": {"research": 1, "press": 2}, "reason": "a licence", "day": "2026-03-01"}
    await post(api, "shared-costs", weighted, request="r2")
    assert await month(api, "workspace:press") == "3.000000025"


async def test_the_entries_of_a_shared_cost_name_times_and_amounts_as_all_others_do(api: Api) -> None:
    await api.use(event("e1", "3.00"))
    sent = {"amount_usd": "3", "how": "evenly", "over": ["research"], "reason": "a licence", "day": "2026-03-01"}
    await post(api, "shared-costs", sent)
    cost, part = (await api.get(f"{ORG}/entries"))["entries"][-2:]
    assert (cost["type"], cost["amount_usd"], cost["asked"]) == ("CostShared", "3.00", "2026-03-01")
    assert (part["type"], part["time"], part["cost_usd"]) == ("ShareBooked", "2026-03-01T00:00:00Z", "3.00")
    assert not [name for entry in (cost, part) for name in entry if name.endswith("_us") or name == "amount"]


async def test_a_shared_cost_has_a_day_and_no_hour(api: Api) -> None:
    """C3: what an hour cap does not count, the hour's balance does not show; an explanation neither (J6)."""
    api.clock[0] -= 9 * 3_600_000_000
    await api.use(event("e1", "1.00", time="2026-03-08T00:00:00Z"))
    await api.put(f"{ORG}/caps/hourly", {"scope": "org", "period": "hour", "limit_usd": "3", "action": "alert"}, 201)
    await post(api, "shared-costs", {"amount_usd": "5", "how": "evenly", "over": ["research"], "reason": "a licence"})
    for more in ({}, {"as_of": "2026-03-09T00:00:00Z", "at": "2026-03-08T00:00:00Z"}):
        hour, day = (await api.get(f"{ORG}/balances", scope="org", period=["hour", "day"], **more))["balances"]
        assert (hour["spent_usd"], day["spent_usd"]) == ("1.00", "6.00")
        assert [cap["left_usd"] for cap in hour["caps"]] == ["2.00"][: len(hour["caps"])]
    assert (await api.get(f"{ORG}/breaches"))["breaches"] == []
    facts = (await api.get(f"{ORG}/explain", scope="org", period="hour"))["facts"]
    assert (facts["entries"], facts["entries_usd"]) == (1, "1.00")


async def test_the_explanation_of_an_hour_has_its_corrections(api: Api) -> None:
    """J3, J6: a correction is in the hour of the call, whenever it was made."""
    await api.use(event("e1", "1.00", time="2026-03-08T07:10:00Z"), event("e2", ..., time="2026-03-08T07:20:00Z"), event("e3", "9.00"))
    for name, cost in (("e1", "0.70"), ("e2", "0.05")):
        await post(api, "adjustments", {"entry": await seq_of(api, name), "cost_usd": cost, "reason": "a refund"}, request=name)
    for scope in ("org", "workspace:research", "key:crawler"):
        facts = (await api.get(f"{ORG}/explain", scope=scope, period="hour", at="2026-03-08T07:30:00Z"))["facts"]
        assert (facts["entries"], facts["entries_usd"], facts["balance"]["spent_usd"]) == (4, "0.75", "0.75")
        assert {row["type"] for row in facts["newest"]} == {"UsageRecorded", "UsageCorrected"}


async def test_a_split_that_makes_no_sense_is_refused(api: Api) -> None:
    await api.use(event("e1", "3.00"))
    good = {"amount_usd": "1", "how": "evenly", "over": ["research"], "reason": "so"}
    for change, why in (
        ({"over": []}, "at least one"), ({"over": {}}, "at least one"), ({"how": "weight", "over": {"research": 0}}, "not above zero"),
        ({"how": "weight", "over": {"research": 0.5}}, "over.research: Input should be a valid integer"),
        ({"how": "weight", "over": {"research": -1}}, "not above zero"), ({"how": "weight"}, "not above zero"),
        ({"over": ["research", "research"]}, "twice"), ({"amount_usd": "0"}, "above zero"), ({"amount_usd": "-1"}, "negative"),
        ({"day": "2026-03-09"}, "not begun"), ({"how": "spend", "day": "2026-02-01"}, "has spent anything"), ({"how": "fairly"}, "how"),
    ):  # fmt: skip
        assert why in (await post(api, "shared-costs", good | change, 422))["detail"], change
    assert "workspace" in (await post(api, "shared-costs", good | {"over": ["nowhere"]}, 404))["detail"]
    assert await month(api) == "3.00"
