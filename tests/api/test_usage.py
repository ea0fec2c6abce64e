"""`POST /v1/usage`: the four ways to send an event, and what is answered to each."""

import base64
import gzip
import json

import pytest

from tests.api.asking import BATCH, LINES, ONE, Api, event, moment, problem


async def spent(api: Api, scope: str = "org", **query: str) -> str:
    balances = await api.get("/v1/orgs/acme/balances", scope=scope, **query)
    return balances["balances"][0]["spent_usd"]


async def test_one_event_is_recorded(api: Api) -> None:
    answer = await api.send(json.dumps(event()).encode(), ONE)
    assert answer.status_code == 200
    assert answer.json() == {"results": [{"source": "gateway", "id": "e1", "status": "recorded"}]}
    assert await spent(api) == "1.00"


async def test_a_batch_is_answered_in_its_order(api: Api) -> None:
    """J2: recorded, sent again, and sent again with other content."""
    results = await api.use(event("a"), event("b", "2.00"), event("a"), event("b", "3.00"))
    assert [(result["id"], result["status"]) for result in results] == [
        ("a", "recorded"), ("b", "recorded"), ("a", "duplicate"), ("b", "exists_with_different_content"),
    ]  # fmt: skip
    assert await spent(api) == "3.00"


async def test_lines_are_recorded_and_empty_lines_are_not_events(api: Api) -> None:
    body = b"\n".join(json.dumps(event(name)).encode() for name in "ab") + b"\n\n"
    answer = await api.send(body, LINES)
    assert [result["status"] for result in answer.json()["results"]] == ["recorded", "recorded"]


async def test_data_in_base64_is_the_same_event_as_the_data_that_it_holds(api: Api) -> None:
    """CloudEvents 1.0, JSON format: so the JavaScript SDK sends data that it was given as bytes."""
    packed = event()
    packed["data_base64"] = base64.b64encode(json.dumps(packed.pop("data")).encode()).decode()
    for body, media in ((json.dumps(packed), ONE), (json.dumps([packed]), BATCH), (json.dumps(event()), ONE)):
        answer = await api.send(body.encode(), media)
        assert answer.json()["results"][0]["status"] == ("recorded" if media == ONE and "base64" in body else "duplicate")
    assert await spent(api) == "1.00"


async def test_binary_mode_takes_the_attributes_from_headers(api: Api) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "llm.usage.v1", "ce-source": "gateway%20one", "ce-id": "e1", "ce-time": moment()}
    answer = await api.send(json.dumps(event()["data"]).encode(), "application/json; charset=utf-8", **headers)
    assert answer.json() == {"results": [{"source": "gateway one", "id": "e1", "status": "recorded"}]}


async def test_binary_mode_is_taken_without_a_content_type_as_cloudevents_own_library_sends_it(api: Api) -> None:
    """cloudevents 2.2, `to_binary` of an event that names no datacontenttype; without its headers nothing says what a body is."""
    headers = {"ce-specversion": "1.0", "ce-type": "llm.usage.v1", "ce-source": "py", "ce-id": "b1", "ce-time": moment()}
    body = json.dumps(event()["data"]).encode()
    answer = await api.send(body, "", **headers)
    assert answer.json() == {"results": [{"source": "py", "id": "b1", "status": "recorded"}]}
    problem(await api.send(body, ""), 415)


@pytest.mark.parametrize("body", [b'{"org":"acme","key":"k"},"id":"e2","x":{}', b"", b"{", b"1 2"])
async def test_binary_mode_refuses_a_body_that_is_not_one_json_value(api: Api, body: bytes) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "llm.usage.v1", "ce-source": "s", "ce-id": "e1", "ce-time": moment()}
    problem(await api.send(body, "application/json", **headers), 400)
    await api.get("/v1/orgs/acme", 404)


async def test_the_same_event_is_a_duplicate_however_it_is_sent(api: Api) -> None:
    """J2: structured, batched, as a line, and gzipped."""
    one = json.dumps(event()).encode()
    assert (await api.send(one, ONE)).json()["results"][0]["status"] == "recorded"
    for body, media, headers in ((b"[%b]" % one, BATCH, {}), (one, LINES, {}), (gzip.compress(one), ONE, {"Content-Encoding": "gzip"})):
        assert (await api.send(body, media, **headers)).json()["results"][0]["status"] == "duplicate"


async def test_a_gzip_body_of_several_members_is_read_to_its_end(api: Api) -> None:
    lines = [json.dumps(event(name)).encode() + b"\n" for name in "abc"]
    answer = await api.send(b"".join(map(gzip.compress, lines)), LINES, **{"Content-Encoding": "gzip"})
    assert [result["id"] for result in answer.json()["results"]] == ["a", "b", "c"]


async def test_nothing_to_record_is_an_empty_answer(api: Api) -> None:
    assert (await api.send(b"[]", BATCH)).json() == {"results": []}
    assert (await api.send(b"\n", LINES)).json() == {"results": []}


async def test_a_missing_price_is_told_beside_the_money(api: Api) -> None:
    """M4: unpriced is a state, and a cost of 0 is a price."""
    await api.use(event("a", None), event("b", ...), event("c", 0), event("d", "0.5"))
    (balance,) = (await api.get("/v1/orgs/acme/balances", scope="org"))["balances"]
    assert (balance["spent_usd"], balance["unpriced"], balance["requests"]) == ("0.50", 2, 4)


async def test_an_amount_is_read_by_its_digits_and_kept_as_it_was_sent(api: Api) -> None:
    """M1, M2: no float comes near it."""
    body = json.dumps(event()).replace('"1.00"', "0.1234567890123456789012345678901234567890e0").encode()
    await api.send(body, ONE)
    entries = (await api.get("/v1/orgs/acme/entries"))["entries"]
    (entry,) = (row for row in entries if row["type"] == "UsageRecorded")
    assert entry["cost_usd"] == "0.123456789"
    assert entry["cost_as_sent"] == "0.1234567890123456789012345678901234567890e0"


async def test_byok_is_kept_apart(api: Api) -> None:
    """M5: what the provider charges the customer is not what the gateway charges."""
    await api.use(event(cost="0.05", byok=True, upstream_cost_usd="1.00"))
    (balance,) = (await api.get("/v1/orgs/acme/balances", scope="org"))["balances"]
    assert (balance["spent_usd"], balance["byok_usd"]) == ("0.05", "1.00")


async def test_a_late_event_counts_where_its_time_lies(api: Api) -> None:
    """W2: yesterday's in this month too."""
    await api.use(event(time=moment(days=-1)))
    assert await spent(api) == "0"
    assert await spent(api, at=moment(days=-1)) == "1.00"
    assert await spent(api, period="month") == "1.00"


async def test_unknown_org_key_and_workspace_are_opened_by_usage(api: Api) -> None:
    """S3: usage is a fact."""
    await api.use(event(workspace=...), event("e2", key="other"))
    assert (await api.get("/v1/orgs/acme"))["time_zone"] == "UTC"
    keys = (await api.get("/v1/orgs/acme/keys"))["keys"]
    assert [(key["key"], key["workspace"], key["registered_by"]) for key in keys] == [
        ("crawler", "unassigned", None), ("other", "research", None),
    ]  # fmt: skip


async def test_usage_of_a_paused_key_is_recorded(api: Api) -> None:
    """S3: a fact is never refused for what we want of the key."""
    await api.put("/v1/orgs/acme/caps/day", {"scope": "key:crawler", "period": "day", "limit_usd": "1.00", "action": "pause"}, 201)
    first, second = await api.use(event("a"), event("b"))
    assert first["status"] == second["status"] == "recorded"
    assert (await api.get("/v1/orgs/acme/keys/crawler"))["state"] == "paused"
    assert await spent(api) == "2.00"


async def test_what_was_said_is_not_kept(api: Api, database_url: str) -> None:
    """S7: prompts and completions are skipped, in every table."""
    await api.use(event(prompt="my deepest secret", messages=[{"role": "user", "content": "my deepest secret"}]))
    assert "deepest" not in json.dumps(await api.get("/v1/orgs/acme/entries"))


async def test_a_secret_is_replaced_before_it_is_kept_or_shown(api: Api) -> None:
    """S2: a key sent in place of its name."""
    secret = "sk-or-v1-" + "0123456789abcdef" * 4
    (result,) = await api.use(event(secret, key=secret))
    assert result["status"] == "recorded" and secret not in json.dumps(result)
    (key,) = (await api.get("/v1/orgs/acme/keys"))["keys"]
    assert len(key["key"]) == 64 and secret not in json.dumps(await api.get("/v1/orgs/acme/entries"))


@pytest.mark.parametrize("media", ["application/json", "text/plain", ""])
async def test_a_body_of_an_unknown_kind_is_refused_with_the_kinds_that_are_known(api: Api, media: str) -> None:
    detail = problem(await api.send(json.dumps(event()).encode(), media), 415, "Content-Type")
    assert ONE in detail and BATCH in detail and LINES in detail


async def test_an_unknown_or_broken_encoding_is_refused(api: Api) -> None:
    body = json.dumps(event()).encode()
    problem(await api.send(body, ONE, **{"Content-Encoding": "br"}), 415, "Content-Encoding")
    problem(await api.send(body, ONE, **{"Content-Encoding": "gzip"}), 400)
    problem(await api.send(gzip.compress(body)[:-4], ONE, **{"Content-Encoding": "gzip"}), 400)
    problem(await api.send(gzip.compress(body) + b"rest", ONE, **{"Content-Encoding": "gzip"}), 400)
    problem(await api.send(gzip.compress(b" " * 17_000_000), ONE, **{"Content-Encoding": "gzip"}), 413)
    await api.get("/v1/orgs/acme", 404)
