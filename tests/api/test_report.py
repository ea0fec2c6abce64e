"""`GET /report`: the answers in each form, what it refuses, and that it holds nothing up."""

import asyncio
import csv
import io
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from ledger.api.problems import Problem
from ledger.api.streams import Slots
from tests.api.asking import Api, event, moment, problem

REPORT = "/v1/orgs/acme/report"
MARCH = {"from": "2026-03-01", "to": "2026-04-01"}


async def ask(api: Api, token: str = "admin", headers: dict[str, str] | None = None, **query: object) -> httpx.Response:
    return await api.ask("GET", f"{REPORT}?{urlencode(query, doseq=True)}", by=token, headers=headers)


async def report(api: Api, **query: object) -> Any:
    answer = await ask(api, **query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()


async def spend(api: Api) -> None:
    """Two keys, three calls, one of them unpriced; a deleted key; a label."""
    await api.put("/v1/orgs/acme", {"time_zone": "America/New_York"}, 201)
    await api.put("/v1/orgs/acme/workspaces/research", {"labels": {"cost_center": "4711"}, "labels_from": "2026-03-01"}, 201)
    await api.use(
        event("e1", "1.000000001", tags={"team": "web"}),
        event("e2", "2.00", key="gone", time=moment(days=-1), model="openai/gpt-5", input_tokens=100, cached_input_tokens=40),
        event("e3", ...),
    )
    answer = await api.ask("DELETE", "/v1/orgs/acme/keys/gone")
    assert answer.status_code == 204


async def test_a_report_says_what_was_spent_by_whom_and_the_seq_it_is_true_for(api: Api) -> None:
    await spend(api)
    answer = await report(api, **MARCH, by="key,model")
    assert [(row["key"], row["model"], row["spent_usd"], row["unpriced"]) for row in answer["rows"]] == [
        ("crawler", "deepseek/deepseek-v4-flash", "1.000000001", 1), ("gone", "openai/gpt-5", "2.00", 0),
    ]  # fmt: skip
    balance = await api.get("/v1/orgs/acme/balances", scope="org", period="month")
    total = answer["total"]
    shared = balance["balances"][0]
    assert {name: total[name] for name in ("spent_usd", "unpriced", "requests", "input_tokens")} == {
        name: shared[name] for name in ("spent_usd", "unpriced", "requests", "input_tokens")
    }
    assert answer["seq"] == balance["seq"] and answer["zone"] == "America/New_York"


async def test_labels_group_spend_as_they_stood(api: Api) -> None:
    await spend(api)
    await api.put("/v1/orgs/acme/workspaces/research", {"labels": {"cost_center": "4720"}, "labels_from": "2026-03-08"})
    answer = await report(api, **MARCH, by="label:cost_center", grain="day")
    assert [(row["label:cost_center"], row["spent_usd"]) for row in answer["rows"]] == [("4711", "2.00"), ("4720", "1.000000001")]
    shown = await api.get("/v1/orgs/acme/workspaces/research")
    assert shown["labels"] == {"cost_center": "4720"}


async def test_csv_comes_by_format_or_by_accept_with_the_seq_in_its_name(api: Api) -> None:
    await spend(api)
    asked = await ask(api, **MARCH, by=["key", "tag:team"], format="csv")
    accepted = await ask(api, **MARCH, by="key,tag:team", headers={"Accept": "text/csv"})
    assert asked.text == accepted.text and asked.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(asked.text)))
    assert [(row["key"], row["tag:team"], row["spent_usd"]) for row in rows] == [
        ("crawler", "", "0"), ("crawler", "web", "1.000000001"), ("gone", "", "2.00"),
    ]  # fmt: skip
    assert f"seq{asked.headers['ledger-seq']}.csv" in asked.headers["content-disposition"]


async def test_no_cell_of_a_csv_is_a_formula_and_amounts_and_json_stay_as_they_are(api: Api) -> None:
    """Who opens a report in a spreadsheet runs nothing that a sender wrote into a name (OWASP)."""
    names = ['=HYPERLINK("https://evil.example")', "+1+cmd", "-1+1", "@cf/meta/llama", "plain=1", "-0.30"]
    await api.use(*(event(f"e{n}", "1.00", model=name) for n, name in enumerate(names)))
    entry = next(row["seq"] for row in (await api.get("/v1/orgs/acme/entries"))["entries"] if row.get("id") == "e4")
    body = {"entry": entry, "amount_usd": "-0.30", "reason": "billed twice"}
    corrected = await api.ask("POST", "/v1/orgs/acme/adjustments", body, headers={"Idempotency-Key": "r1"})
    assert corrected.is_success, corrected.text
    rows = list(csv.DictReader(io.StringIO((await ask(api, by="model,charge", format="csv")).text)))
    assert {row["model"] for row in rows} == {f"'{name}" for name in names[:4]} | set(names[4:])
    assert "-0.30" in {row["spent_usd"] for row in rows}
    focus = list(csv.DictReader(io.StringIO((await ask(api, format="focus")).text)))
    assert {f"'{name}" for name in names[:4]} <= {row["SkuId"] for row in focus}
    assert {row["model"] for row in (await report(api, by="model"))["rows"]} == set(names)


async def test_a_question_that_makes_no_sense_is_refused_by_the_part_that_is_wrong(api: Api) -> None:
    await spend(api)
    for query, field in (
        ({"from": "2026-04-01", "to": "2026-03-01"}, "to"), ({"from": "1926-01-01", "to": "2026-01-01"}, "from"),
        ({"from": "1980-01-01", "to": "2080-01-01"}, "to"), ({"from": "2026-02-30"}, "from"), ({"from": "2026-03-08T09:00"}, "from"),
        ({"zone": "Mars/Olympus"}, "zone"), ({"by": "colour"}, "by"), ({"by": "tag"}, "by"), ({"by": "key:crawler"}, "by"),
        ({"grain": "fortnight"}, "grain"), ({"grain": "lifetime"}, "grain"), ({"format": "xls"}, "format"), ({"where": "crawler"}, "where"),
        ({"by": "tag:\0"}, "by"), ({"where": "key:\0"}, "where"), ({"zone": "localtime"}, "zone"), ({"zone": "right/UTC"}, "zone"),
        ({"where": "tag:team"}, None), ({"by": ",".join(f"tag:t{n}" for n in range(13))}, "by"),
    ):  # fmt: skip
        answer = await ask(api, **query)
        if field is not None:
            problem(answer, 422, field)
        else:
            assert answer.status_code == 200
    problem(await api.ask("GET", "/v1/orgs/nobody/report"), 404)


async def test_a_range_of_moments_cuts_days(api: Api) -> None:
    await spend(api)
    answer = await report(api, **{"from": moment(hours=-30), "to": moment(hours=-20)}, by="key")
    assert [(row["key"], row["spent_usd"]) for row in answer["rows"]] == [("gone", "2.00")]
    hours = await report(api, **MARCH, grain="hour", where="key:crawler")
    assert [(row["start"], row["requests"]) for row in hours["rows"]] == [("2026-03-08T09:00:00Z", 2)]


async def test_a_line_of_a_report_explains_itself_down_to_its_entries(api: Api) -> None:
    """J6."""
    await spend(api)
    where = ["label:cost_center=4711", "key:crawler"]
    answer = await api.ask("GET", f"/v1/orgs/acme/explain?{urlencode({**MARCH, 'where': where}, doseq=True)}")
    facts = answer.json()["facts"]
    (row,) = (await report(api, **MARCH, where=where, by="key"))["rows"]
    assert facts["sums"] == {name: row[name] for name in facts["sums"]}
    assert facts["entries"] == 2 and [entry["id"] for entry in facts["newest"]] == ["e3", "e1"]
    problem(await api.ask("GET", "/v1/orgs/acme/explain?where=colour:red"), 422, "where")


async def test_a_by_or_a_grain_that_focus_would_pass_over_is_refused(api: Api) -> None:
    await spend(api)
    for name, said in (("by", {"by": "model"}), ("grain", {"grain": "month"})):
        problem(await ask(api, **MARCH, **said, format="focus"), 422, name)
        problem(await ask(api, **MARCH, **said, headers={"Accept": "application/vnd.focus+csv"}), 422, name)


async def test_a_token_for_one_workspace_sees_that_workspace_only(api: Api) -> None:
    await spend(api)
    await api.use(event("e4", "5.00", key="writer", workspace="press"))
    await api.let_in("press", "read", org="acme", workspace="press")
    await api.let_in("other", "read", org="globex")
    answer = await report(api, token="press", **MARCH)
    assert answer["total"]["spent_usd"] == "5.00"
    problem(await ask(api, token="other"), 403)


async def test_a_thousand_reports_at_once_are_answered_or_refused_and_usage_goes_on(api: Api) -> None:
    await spend(api)
    asking = [asyncio.create_task(ask(api, **MARCH)) for _ in range(1000)]
    used = await asyncio.wait_for(api.use(event("e9", "0.01")), 20)
    answers = await asyncio.gather(*asking)
    assert used[0]["status"] == "recorded"
    told = {status: [answer for answer in answers if answer.status_code == status] for status in (200, 503)}
    assert len(told[200]) >= 50 and len(told[200]) + len(told[503]) == 1000
    assert all(answer.headers["retry-after"] for answer in told[503])
    assert (await report(api, **MARCH))["total"]["spent_usd"] == "3.010000001"


async def test_one_orgs_reports_take_one_place_and_leave_the_others_to_other_orgs() -> None:
    slots, order = Slots(2, 3), list[str]()

    async def ask(org: str) -> None:
        async with slots.taken(org):
            order.append(org)
            await asyncio.sleep(0.01)

    busy = [asyncio.create_task(ask("busy")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Problem):
        await ask("busy")
    await asyncio.gather(ask("quiet"), *busy)
    assert order[:2] == ["busy", "quiet"] and len(order) == 4
    await ask("busy")


async def test_who_waits_too_long_for_a_report_is_told_and_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.api.streams.MOST_WAIT_S", 0.02)
    slots = Slots(1, 3)
    async with slots.taken("busy"):
        for org in ("busy", "quiet"):
            with pytest.raises(Problem) as told:
                async with slots.taken(org):
                    raise AssertionError("there is no place")
            assert told.value.status_code == 503
    for org in ("busy", "quiet"):
        async with slots.taken(org):
            pass


async def test_a_reader_who_goes_away_gives_the_connection_back(api: Api) -> None:
    await spend(api)
    pool = api.service.database.reader.pool
    before = pool.checkedout()  # type: ignore[attr-defined]
    for _ in range(12):
        request = asyncio.create_task(ask(api, **MARCH, by="key"))
        await asyncio.sleep(0.002)
        request.cancel()
        with pytest.raises((asyncio.CancelledError, httpx.HTTPError)):
            await request
            raise asyncio.CancelledError
    await asyncio.sleep(0.1)
    assert pool.checkedout() == before  # type: ignore[attr-defined]
    assert (await report(api, **MARCH, by="key"))["total"]["requests"] == 3
