"""Bad input: a clear status each, nothing half-done, the server unmoved (T4)."""

import json
import re
from typing import Any

import pytest

from ledger.api.values import encode_cursor
from tests.api.asking import BATCH, LINES, ONE, Api, event, moment, problem

DIGITS = "1234567890123456789012345678901234567890"

# What is wrong with one event: its neighbours are recorded, the answer says which, why, and in which field.
BAD_EVENTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("NaN as text", event("bad", "NaN"), "data.cost_usd"),
    ("Infinity as text", event("bad", "Infinity"), "data.cost_usd"),
    ("a negative cost", event("bad", "-0.01"), "data.cost_usd"),
    ("a cost of 40 digits", event("bad", DIGITS), "data.cost_usd"),
    ("a cost of more than a million", event("bad", "1000000.000000001"), "data.cost_usd"),
    ("a cost that is true", event("bad", True), "data.cost_usd"),
    ("a cost that is a list", event("bad", ["1"]), "data.cost_usd"),
    ("a cost with its currency", event("bad", "1.00 EUR"), "data.cost_usd"),
    ("a cost in underscores", event("bad", "1_000"), "data.cost_usd"),
    ("another currency", event("bad", currency="EUR"), "data.currency"),
    ("tokens as text", event("bad", input_tokens="12"), "data.input_tokens"),
    ("tokens below nothing", event("bad", input_tokens=-1), "data.input_tokens"),
    ("half a token", event("bad", output_tokens=1.5), "data.output_tokens"),
    ("tokens past 64 bits", event("bad", input_tokens=2**64), "data.input_tokens"),
    ("more than a trillion tokens", event("bad", output_tokens=10**12 + 1), "data.output_tokens"),
    ("a key that is a number", event("bad", key=7), "data.key"),  # type: ignore[arg-type]
    ("an empty key", event("bad", key=""), "data.key"),
    ("no key", event("bad", key=...), "data.key"),  # type: ignore[arg-type]
    ("no data", {name: value for name, value in event("bad").items() if name != "data"}, "data"),
    ("data that is a list", event("bad") | {"data": []}, "data"),
    ("no source", event("bad", source=...), "source"),
    ("no time", event("bad", time=...), "time"),
    ("a time without a zone", event("bad", time="2026-03-08T09:00:00"), "time"),
    ("a time that is a number", event("bad", time=1_772_960_400), "time"),
    ("the year 0", event("bad", time="0000-01-01T00:00:00Z"), "time"),
    ("another type", event("bad", type="llm.usage.v2"), "type"),
    ("another specversion", event("bad", specversion="0.3"), "specversion"),
    ("a key that is too long", event("bad", key="k" * 129), "data.key"),
    ("a source that is too long", event("bad", source="s" * 513), "source"),
    ("a model that is too long", event("bad", model="m" * 257), "data.model"),
    ("too many tags", event("bad", tags={str(n): "x" for n in range(33)}), "data.tags"),
    ("a NUL", event("bad", key="cra\0wler"), "data.key"),
    ("a NUL in a tag", event("bad", tags={"team": "a\0b"}), "data.tags"),
    ("64 levels of nesting", event("bad", prompt=json.loads("[" * 64 + "]" * 64)), None),
    ("a number", 7, None),  # type: ignore[list-item]
    ("nothing", None, None),  # type: ignore[list-item]
]


async def test_one_bad_event_is_rejected_in_its_place_and_its_neighbours_are_recorded(api: Api) -> None:
    for what, bad, field in BAD_EVENTS:
        before, rejected, after = await api.use(event(f"before {what}"), bad, event(f"after {what}"))
        assert (before["status"], after["status"]) == ("recorded", "recorded"), what
        assert (rejected["status"], rejected["reason"], rejected.get("field")) == ("rejected", "malformed", field), what
        assert rejected["detail"].startswith(f"{field}: ") if field else rejected["detail"], what
    (balance,) = (await api.get("/v1/orgs/acme/balances", scope="org"))["balances"]
    assert (balance["spent_usd"], balance["requests"]) == (f"{2 * len(BAD_EVENTS)}.00", 2 * len(BAD_EVENTS))


async def test_an_org_has_a_most_that_fits_a_day_and_what_passes_it_hurts_no_neighbour(api: Api) -> None:
    """M1: no sum leaves 64 bits. What is over is rejected, each event for itself; other days and other orgs go on."""
    millions = [event(f"m{n}", "1000000", input_tokens=10**12) for n in range(1_003)]
    said = await api.use(*millions, millions[-1], event("neighbour", org="globex"))
    assert [one["status"] for one in said] == ["recorded"] * 1_000 + ["rejected"] * 4 + ["recorded"]
    assert {(one["reason"], one["detail"][:13]) for one in said[1_000:1_004]} == {("too_much", "takes its org")}
    assert [one["status"] for one in await api.use(event("free", "0"), event("a cent", "0.01"))] == ["recorded", "rejected"]
    (late,) = await api.use(event("yesterday", "0.01", time=moment(days=-1)))
    assert late["status"] == "recorded"
    (balance,) = (await api.get("/v1/orgs/acme/balances", scope="org", period="month"))["balances"]
    assert (balance["spent_usd"], balance["input_tokens"]) == ("1000000000.01", 10**15)


async def test_what_a_day_may_come_to_holds_for_corrections_and_shared_costs_too(api: Api) -> None:
    """T4: else a day that they took past it would refuse every call of that day, also one that costs nothing (S3)."""
    await api.use(event("later", ...), *(event(f"m{n}", "1000000") for n in range(1_000)))
    seq = next(row["seq"] for row in (await api.get("/v1/orgs/acme/entries"))["entries"] if row.get("id") == "later")
    priced = {"entry": seq, "cost_usd": "0.01", "reason": "its price"}
    shared = {"amount_usd": "0.01", "how": "evenly", "over": ["research"], "reason": "a licence"}
    for what, sent, status, field in (
        ("adjustments", priced, 422, "cost_usd"), ("shared-costs", shared, 422, "amount_usd"),
        ("shared-costs", shared | {"day": moment(days=-1)[:10]}, 200, ""),
    ):  # fmt: skip
        said = await api.ask("POST", f"/v1/orgs/acme/{what}", sent, headers={"Idempotency-Key": what + str(status)})
        assert said.status_code == status, said.text
        if field:
            problem(said, 422, field)
    assert [one["status"] for one in await api.use(event("free", "0"), event("unpriced", ...))] == ["recorded"] * 2


async def test_an_org_has_a_most_that_fits_its_life_and_whoever_passes_it_can_still_be_asked_for(api: Api) -> None:
    """M1: ten days at the most that fits a day would leave 64 bits, and every longer window with them."""
    said = [
        result
        for day in range(5)
        for result in await api.use(*(event(f"{day}/{n}", "1000000", time=moment(days=-day), input_tokens=10**12) for n in range(1_000)))
    ]
    assert [one["status"] for one in said] == ["recorded"] * 4_000 + ["rejected"] * 1_000
    assert {one["reason"] for one in said[4_000:]} == {"too_much"}
    await api.put("/v1/orgs/acme/caps/life", {"scope": "org", "period": "lifetime", "limit_usd": "1", "action": "alert"}, 201)
    balances = await api.get("/v1/orgs/acme/balances", scope="org", period=["month", "lifetime"])
    assert balances["balances"][1]["spent_usd"] == "4000000000.00"
    (breach,) = (await api.get("/v1/orgs/acme/breaches"))["breaches"]
    assert breach["spent_usd"] == "4000000000.00"
    seq = next(row["seq"] for row in (await api.get("/v1/orgs/acme/entries"))["entries"] if row.get("cost_usd"))
    cent = {"amount_usd": "0.01", "how": "evenly", "over": ["research"], "reason": "a licence"}
    for n, (what, sent, status) in enumerate((
        ("shared-costs", cent, 422), ("adjustments", {"entry": seq, "amount_usd": "-0.01", "reason": "a refund"}, 200),
        ("adjustments", {"entry": seq, "cost_usd": "1000000", "reason": "in full"}, 200), ("shared-costs", cent, 422),
        ("adjustments", {"entry": seq, "cost_usd": "999999.99", "reason": "a refund"}, 200), ("shared-costs", cent, 200),
        ("adjustments", {"entry": seq, "amount_usd": "0.01", "reason": "in full"}, 422),
    )):  # fmt: skip
        said = await api.ask("POST", f"/v1/orgs/acme/{what}", sent, headers={"Idempotency-Key": f"r{n}"})
        assert said.status_code == status, said.text
        if status == 422:
            problem(said, 422, "amount_usd")


@pytest.mark.parametrize(
    ("written", "field"),
    [("1.4E-7", None), ("1e999999", "data.cost_usd"), ("-1", "data.cost_usd"), (DIGITS, "data.cost_usd"), ("0." + DIGITS, None)],
)
async def test_a_cost_that_is_a_json_number_is_read_by_its_digits(api: Api, written: str, field: str | None) -> None:
    """M1."""
    body = json.dumps(event()).replace('"1.00"', written).encode()
    (result,) = (await api.send(body, ONE)).json()["results"]
    assert (result["status"], result.get("field")) == (("rejected", field) if field else ("recorded", None))


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x10"])
async def test_what_is_not_a_json_number_makes_the_body_not_json(api: Api, written: str) -> None:
    body = json.dumps(event()).replace('"1.00"', written).encode()
    problem(await api.send(body, ONE), 400)
    problem(await api.send(b"[%b]" % body, BATCH), 400)
    (result,) = (await api.send(body, LINES)).json()["results"]
    assert result["status"] == "rejected"
    await api.get("/v1/orgs/acme", 404)


@pytest.mark.parametrize(
    ("time", "status", "reason"),
    [
        (moment(minutes=5), "recorded", None),
        (moment(minutes=5, seconds=1), "parked", "in_the_future"),
        ("9999-12-31T23:59:59Z", "parked", "in_the_future"),
        ("9999-12-31T23:59:59-14:00", "parked", "in_the_future"),
        ("2000-01-01T00:00:00Z", "recorded", None),
        ("1999-12-31T23:59:59Z", "rejected", "before_2000"),
        ("0001-01-01T00:00:00Z", "rejected", "before_2000"),
        ("0001-01-01T00:00:00+14:00", "rejected", "before_2000"),
    ],
)
async def test_a_time_far_from_now_is_told_apart(api: Api, time: str, status: str, reason: str | None) -> None:
    """W3: five minutes ahead is a clock that is wrong; a second more is parked; before 2000 is a mistake."""
    (result,) = await api.use(event(time=time))
    assert (result["status"], result.get("reason")) == (status, reason)


async def test_a_parked_event_can_be_sent_again_when_its_time_has_come(api: Api) -> None:
    """W3."""
    ahead = event(time=moment(minutes=6))
    assert (await api.use(ahead))[0]["status"] == "parked"
    api.clock[0] += 60_000_000
    assert (await api.use(ahead))[0]["status"] == "recorded"


UNREADABLE = {
    "nothing": b"", "cut short": b"{", "words": b"not json", "a brace too many": b'{"a":1}}', "not UTF-8": b"\xff\xfe", "text": b'"text"',
    "very deep": b"[" * 100_000, "deep objects": b'{"a":' * 100_000, "open": b"[[]", "null": b"null", "NUL": b"\0",
}  # fmt: skip


@pytest.mark.parametrize("media", [ONE, BATCH])
async def test_a_body_that_can_not_be_read_is_refused_as_a_whole(api: Api, media: str) -> None:
    for body in UNREADABLE.values():
        problem(await api.send(body, media), 400)
    await api.get("/v1/orgs/acme", 404)


async def test_lines_are_faults_of_one_event_each(api: Api) -> None:
    body = b"\n".join([json.dumps(event("a")).encode(), b"{", b"\xff", b"[" * 100_000, json.dumps(event("b")).encode()])
    results = (await api.send(body, LINES)).json()["results"]
    assert [result["status"] for result in results] == ["recorded", "rejected", "rejected", "rejected", "recorded"]


@pytest.mark.parametrize("text", [rb"\ud800", rb"\udfff", rb"cra\u0000wler"], ids=["high surrogate", "low surrogate", "NUL"])
async def test_text_that_no_database_can_hold_is_refused(api: Api, text: bytes) -> None:
    """T4: no NUL, no lone surrogates, escaped or not."""
    body = json.dumps(event("bad", key="TEXT")).encode().replace(b"TEXT", text)
    for media, sent in ((LINES, b"%b\n%b"), (BATCH, b"[%b,%b]")):
        results = (await api.send(sent % (json.dumps(event(f"a {media}")).encode(), body), media)).json()["results"]
        assert [result["status"] for result in results] == ["recorded", "rejected"]


async def test_a_batch_is_bounded(api: Api) -> None:
    one = b'{"id":"x"},'
    assert "10000" in problem(await api.send(b"[" + (one * 10_001)[:-1] + b"]", BATCH), 400)
    assert len((await api.send(b"[" + (one * 10_000)[:-1] + b"]", BATCH)).json()["results"]) == 10_000


BAD_CAPS: list[tuple[str, dict[str, Any] | bytes, int, str | None]] = [
    ("not JSON", b"{", 400, None),
    ("NaN", b'{"scope":"org","period":"day","limit_usd":NaN}', 400, None),
    ("not UTF-8", b"\xff", 400, None),
    ("deep", b"[" * 100_000, 400, None),
    ("not an object", b"[]", 422, None),
    ("a negative limit", {"limit_usd": "-1"}, 422, "limit_usd"),
    ("a limit of NaN", {"limit_usd": "NaN"}, 422, "limit_usd"),
    ("a limit of 40 digits", {"limit_usd": DIGITS}, 422, "limit_usd"),
    ("a limit that would round to nothing", {"limit_usd": "0.0000000001"}, 422, "limit_usd"),
    ("a limit in euros", {"limit_usd": "1 EUR"}, 422, "limit_usd"),
    ("a limit that is true", {"limit_usd": True}, 422, "limit_usd"),
    ("no limit", {"limit_usd": None}, 422, "limit_usd"),
    ("another period", {"period": "fortnight"}, 422, "period"),
    ("another action", {"action": "shout"}, 422, "action"),
    ("another scope", {"scope": "galaxy:x"}, 422, "scope"),
    ("a scope of nothing", {"scope": "key:"}, 422, "scope"),
    ("a scope with a NUL", {"scope": "key:a\0b"}, 422, "scope"),
    ("a scope that is too long", {"scope": "key:" + "k" * 129}, 422, "scope"),
    ("a threshold of nothing", {"thresholds": [0]}, 422, "thresholds.0"),
    ("a threshold as text", {"thresholds": ["50"]}, 422, "thresholds.0"),
    ("too many thresholds", {"thresholds": list(range(1, 22))}, 422, "thresholds"),
    ("a misspelt word", {"limit_us": "1"}, 422, "limit_us"),
    ("64 levels of nesting", {"extra": json.loads("[" * 64 + "]" * 64)}, 422, "extra"),
]


async def test_a_bad_cap_is_refused_and_its_field_is_named(api: Api) -> None:
    for what, body, status, field in BAD_CAPS:
        sent = {"scope": "org", "period": "day", "limit_usd": "1.00"} | body if isinstance(body, dict) else body
        answer = await api.ask("PUT", "/v1/orgs/acme/caps/day", sent, headers={"Content-Type": "application/json"})
        assert problem(answer, status, field), what
        if status == 400:
            assert [fault["field"] for fault in answer.json()["errors"]] == ["body"], what
    await api.get("/v1/orgs/acme", 404)


async def test_a_body_that_is_no_json_is_told_why_and_a_fault_is_told_once(api: Api) -> None:
    for body, why in ((b"[" * 100_000, "is nested too deep"), (b"\xff", "is not UTF-8"), (b"{", "is not JSON: ")):
        answer = await api.ask("PUT", "/v1/orgs/acme/caps/day", body, headers={"Content-Type": "application/json"})
        assert problem(answer, 400, "body").startswith(f"the body {why}")
    answer = await api.ask("GET", f"/v1/orgs/{'k' * 129}/caps")
    assert (problem(answer, 422), len(answer.json()["errors"])) == ("org: is not 1 to 128 characters", 1)


async def test_a_bad_reason_is_refused(api: Api) -> None:
    await api.use(event())
    for body in (rb'{"reason":"\ud800"}', rb'{"reason":"a\u0000b"}', b'{"reason":""}', b'{"reason":"%b"}' % (b"x" * 501), b"{}"):
        answer = await api.ask("POST", "/v1/orgs/acme/keys/crawler/pause", body, headers={"Content-Type": "application/json"})
        problem(answer, 422, "reason")
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "active"


async def test_a_name_in_a_path_that_can_not_be_is_refused(api: Api) -> None:
    for path in ("%00", "a%00b", "%ff", "%ED%A0%80", "k" * 129):
        problem(await api.ask("GET", f"/v1/orgs/{path}"), 422, "org")
        problem(await api.ask("PUT", f"/v1/orgs/acme/workspaces/{path}", {}), 422, "workspace")
    await api.get("/v1/orgs/acme", 404)


BAD_QUESTIONS = [
    ("keys?workspace=%00", "workspace"), ("keys?state=asleep", "state"), ("keys?limit=0", "limit"), ("keys?limit=1001", "limit"),
    ("keys?limit=x", "limit"), ("keys?cursor=%00", "cursor"), ("keys?cursor=xyz", "cursor"),
    (f"keys?cursor={encode_cursor(chr(0))}", "cursor"), (f"keys?cursor={encode_cursor(chr(0xD800))}", "cursor"),
    (f"keys?cursor={encode_cursor(1)}", "cursor"), (f"keys?cursor={encode_cursor(['a'])}", "cursor"),
    ("breaches?cap=%00", "cap"), ("breaches?scope=galaxy", "scope"), ("breaches?open=perhaps", "open"),
    (f"breaches?cursor={encode_cursor([10**30, 'a', 1])}", "cursor"), (f"breaches?cursor={encode_cursor([1, 'a'])}", "cursor"),
    (f"breaches?cursor={encode_cursor([True, 'a', 1])}", "cursor"), ("breaches?cursor=" + encode_cursor("x" * 9), "cursor"),
    ("commands?key=%00", "key"), ("commands?delivery=%00", "delivery"), ("commands?delivery=lost", "delivery"),
    ("entries?after=-1", "after"), ("entries?after=99999999999999999999", "after"),
    ("balances?at=yesterday", "at"), ("balances?at=2026-03-08T09:00:00", "at"), ("balances?period=fortnight", "period.0"),
    ("balances?scope=galaxy", "scope.0"), ("balances?untill=2026-03-08T09:00:00Z", "untill"),
    ("report?frm=2026-01-01", "frm"), ("explain?scope=key:crawler&form=2026-01-01", "form"),
    ("explain", "scope"), ("explain?scope=key:%00", "scope"), ("explain?breach=%00/1", "breach"),
]  # fmt: skip


async def test_a_bad_question_is_refused_and_its_field_is_named(api: Api) -> None:
    await api.use(event())
    for path, field in BAD_QUESTIONS:
        problem(await api.ask("GET", f"/v1/orgs/acme/{path}"), 422, field)


async def test_a_parameter_that_is_none_is_refused_by_every_call_that_reads(api: Api) -> None:
    """Else a misspelt filter would be passed over, and what it was to leave out be shown."""
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    read = {path: operations["get"] for path, operations in paths.items() if path.startswith("/v1/") and "get" in operations}
    assert len(read) > 15
    for path, operation in read.items():
        known = [part["name"] for part in operation.get("parameters", ()) if part["in"] == "query"]
        said = problem(await api.ask("GET", re.sub(r"{\w+}", "acme", path), opne="true"), 422, "opne")
        assert said.partition("call, ")[2] == (f"which knows {', '.join(known)}" if known else "which takes none"), path
    problem(await api.ask("DELETE", "/v1/orgs/acme/caps/day", verison="3"), 422, "verison")
    assert "o" * 65 not in problem(await api.ask("GET", "/v1/orgs", **{"o" * 10_000: ""}), 422)


async def test_whoever_sends_usage_may_put_into_the_address_what_it_likes(api: Api) -> None:
    sent = await api.ask("POST", "/v1/usage", event(), headers={"Content-Type": ONE}, source="us")
    assert sent.json()["results"][0]["status"] == "recorded"
    problem(await api.ask("POST", "/v1/webhooks/acme/none", {}, source="us"), 404)
    assert "token for one org" in problem(await api.ask("POST", "/v1/traces", {}, source="us"), 403)
    assert (await api.client.get("/readyz", params={"from": "balancer"})).status_code == 200


async def test_a_time_zone_that_does_not_exist_is_refused_by_name(api: Api) -> None:
    for zone in ("Mars/Olympus", "../../etc/passwd", "", "a\0b", "posixrules" * 6):
        assert "time_zone" in problem(await api.ask("PUT", "/v1/orgs/acme", {"time_zone": zone}), 422, "time_zone")
    await api.get("/v1/orgs/acme", 404)


async def test_an_unknown_path_and_an_unknown_method_are_problem_documents(api: Api) -> None:
    problem(await api.ask("GET", "/v2/usage"), 404)
    problem(await api.ask("PATCH", "/v1/orgs/acme"), 405)
