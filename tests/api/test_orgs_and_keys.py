"""Orgs, workspaces and keys over HTTP, and what a person does to a key."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.asking import Api, event, problem

DAY_CAP = {"scope": "key:crawler", "period": "day", "limit_usd": "1.00", "action": "pause"}


async def test_an_org_is_opened_shown_and_changed(api: Api) -> None:
    opened = await api.put("/v1/orgs/acme", {"time_zone": "America/New_York"}, 201)
    assert (opened["org"], opened["time_zone"], opened["enforce"], opened["seq"]) == ("acme", "America/New_York", "on", 1)
    assert await api.get("/v1/orgs/acme") == opened
    changed = await api.put("/v1/orgs/acme", {"time_zone": "America/New_York", "enforce": "observe"})
    assert (changed["enforce"], changed["seq"]) == ("observe", 2)
    assert (await api.put("/v1/orgs/acme", {"time_zone": "America/New_York", "enforce": "observe"}))["seq"] == 2


async def test_a_put_says_the_whole_thing(api: Api) -> None:
    await api.put("/v1/orgs/acme", {"time_zone": "America/New_York", "enforce": "observe"}, 201)
    assert await api.put("/v1/orgs/acme", {}) == await api.get("/v1/orgs/acme")
    assert (await api.get("/v1/orgs/acme"))["time_zone"] == "UTC"


async def test_who_changed_what_from_what_to_what_is_in_the_journal(api: Api) -> None:
    """T3."""
    await api.put("/v1/orgs/acme/caps/day", DAY_CAP, 201)
    await api.let_in("will", "admin", org="acme")
    await api.put("/v1/orgs/acme/caps/day", DAY_CAP | {"limit_usd": "2.00"}, by="will")
    (_, changed) = [row for row in (await api.get("/v1/orgs/acme/entries"))["entries"] if row["type"] == "CapSet"]
    assert (changed["by"], changed["was"]["limit_usd"], changed["cap"]["limit_usd"]) == ("will", "1.00", "2.00")


@pytest.mark.parametrize(
    ("path", "first", "second"),
    [
        ("/v1/orgs/acme", {"time_zone": "Asia/Tokyo"}, {"time_zone": "Asia/Seoul"}),
        ("/v1/orgs/acme/keys/crawler", {"workspace": "a"}, {"workspace": "b"}),
        ("/v1/orgs/acme/caps/day", DAY_CAP, DAY_CAP | {"limit_usd": "2.00"}),
        ("/v1/orgs/acme/guardrails/daily", {"each": "key", "in": ["org"], "period": "day", "limit_usd": "1"},
         {"each": "key", "in": ["org"], "period": "day", "limit_usd": "2"}),
    ],
)  # fmt: skip
async def test_a_lost_update_is_refused(api: Api, path: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    """If-Match against the ETag, If-None-Match against making it twice."""
    made = await api.ask("PUT", path, first, headers={"If-None-Match": "*"})
    assert made.status_code == 201
    old = made.headers["ETag"]
    problem(await api.ask("PUT", path, second, headers={"If-None-Match": "*"}), 412)
    changed = await api.ask("PUT", path, second, headers={"If-Match": old})
    assert changed.status_code == 200 and changed.headers["ETag"] != old
    assert changed.headers["ETag"] == (await api.ask("GET", path)).headers["ETag"]
    problem(await api.ask("PUT", path, first, headers={"If-Match": old}), 412)
    for nonsense in ('"x"', "²", '"99999999999999999999"'):
        problem(await api.ask("PUT", path, first, headers={"If-Match": nonsense.encode("latin-1")}), 412, "If-Match")
    assert (await api.ask("PUT", path, second, headers={"If-Match": "*"})).status_code == 200
    if path != "/v1/orgs/acme":
        problem(await api.ask("DELETE", path, headers={"If-Match": old}), 412)
        assert (await api.ask("DELETE", path, headers={"If-Match": changed.headers["ETag"]})).status_code == 204


async def test_a_workspace_is_opened_closed_and_opened_again(api: Api) -> None:
    assert (await api.put("/v1/orgs/acme/workspaces/lab", {}, 201))["deleted"] is False
    assert (await api.put("/v1/orgs/acme/workspaces/lab", {}))["version"] == (await api.get("/v1/orgs/acme/workspaces/lab"))["version"]
    assert (await api.ask("DELETE", "/v1/orgs/acme/workspaces/lab")).status_code == 204
    problem(await api.ask("DELETE", "/v1/orgs/acme/workspaces/lab"), 404)
    assert (await api.get("/v1/orgs/acme/workspaces"))["workspaces"] == []
    assert [row["workspace"] for row in (await api.get("/v1/orgs/acme/workspaces", deleted="true"))["workspaces"]] == ["lab"]
    await api.put("/v1/orgs/acme/workspaces/lab", {}, 201)


async def test_a_workspace_with_keys_is_not_closed(api: Api) -> None:
    await api.use(event())
    assert "1 keys" in problem(await api.ask("DELETE", "/v1/orgs/acme/workspaces/research"), 409)


async def test_a_key_that_moves_leaves_its_past_where_it_was_spent(api: Api) -> None:
    """S4."""
    await api.use(event("a"))
    await api.put("/v1/orgs/acme/keys/crawler", {"workspace": "lab"})
    await api.use(event("b", "5.00"))
    balances = await api.get("/v1/orgs/acme/balances", scope=["workspace:research", "workspace:lab", "key:crawler"])
    assert [row["spent_usd"] for row in balances["balances"]] == ["1.00", "5.00", "6.00"]


async def test_a_rotated_credential_is_the_same_key_and_not_a_fresh_budget(api: Api) -> None:
    """S1."""
    await api.put("/v1/orgs/acme/keys/crawler", {"workspace": "research", "credentials": ["hash-1"]}, 201)
    await api.use(event("a", key="hash-1"))
    await api.put("/v1/orgs/acme/keys/crawler", {"credentials": ["hash-1", "hash-2"]})
    await api.use(event("b", key="hash-2"))
    (balance,) = (await api.get("/v1/orgs/acme/balances", scope="key:crawler"))["balances"]
    assert (balance["spent_usd"], balance["requests"]) == ("2.00", 2)
    problem(await api.ask("PUT", "/v1/orgs/acme/keys/other", {"credentials": ["hash-2"]}), 409)


async def test_a_person_pauses_and_resumes_a_key(api: Api) -> None:
    """K2."""
    await api.use(event())
    paused = await api.post("/v1/orgs/acme/keys/crawler/pause", {"reason": "looks odd"})
    assert (paused["state"], paused["held"], paused["revision"]) == ("paused", "admin: looks odd", 1)
    assert (await api.post("/v1/orgs/acme/keys/crawler/pause", {"reason": "again"}))["revision"] == 1
    assert (await api.post("/v1/orgs/acme/keys/crawler/resume", {"reason": "it was fine"}))["state"] == "active"


async def test_a_person_may_name_a_key_by_its_credential_and_is_answered_with_the_key(api: Api) -> None:
    """S1: what was done is not answered with "there is no such key"; also where the credential is a key that registered itself."""
    await api.use(event("e1", "1.00", key="hash-0"))
    await api.put("/v1/orgs/acme/keys/crawler", {"credentials": ["hash-0", "hash-1"]}, 201)
    for verb, state in (("pause", "paused"), ("resume", "active"), ("revoke", "revoked")):
        for name in ("hash-0", "hash-1", "crawler"):
            done = await api.post(f"/v1/orgs/acme/keys/{name}/{verb}", {"reason": "looks odd"})
            assert (done["key"], done["state"]) == ("crawler", state)
    problem(await api.ask("POST", "/v1/orgs/acme/keys/hash-2/pause", {"reason": "looks odd"}), 404)


async def test_a_persons_resume_does_not_lift_a_breach(api: Api) -> None:
    """K2: a person's resume lifts a person's pause, nothing else."""
    await api.put("/v1/orgs/acme/caps/day", DAY_CAP, 201)
    await api.use(event())
    await api.post("/v1/orgs/acme/keys/crawler/pause", {"reason": "looks odd"})
    resumed = await api.post("/v1/orgs/acme/keys/crawler/resume", {"reason": "it was fine"})
    assert (resumed["state"], resumed["held"], resumed["reasons"]) == ("paused", None, ["cap:day"])


async def test_revoked_is_final(api: Api) -> None:
    """K1."""
    await api.use(event())
    assert (await api.post("/v1/orgs/acme/keys/crawler/revoke", {"reason": "leaked"}))["state"] == "revoked"
    problem(await api.ask("POST", "/v1/orgs/acme/keys/crawler/resume", {"reason": "please"}), 409)
    problem(await api.ask("POST", "/v1/orgs/acme/keys/crawler/pause", {"reason": "please"}), 409)
    assert (await api.post("/v1/orgs/acme/keys/crawler/revoke", {"reason": "again"}))["revision"] == 1


async def test_a_deleted_key_leaves_the_lists_and_keeps_its_spend(api: Api) -> None:
    """S4."""
    await api.use(event())
    assert (await api.ask("DELETE", "/v1/orgs/acme/keys/crawler")).status_code == 204
    assert (await api.get("/v1/orgs/acme/keys"))["keys"] == []
    assert [key["key"] for key in (await api.get("/v1/orgs/acme/keys", deleted="true"))["keys"]] == ["crawler"]
    assert (await api.get("/v1/orgs/acme/balances", scope="key:crawler"))["balances"][0]["spent_usd"] == "1.00"


async def test_keys_are_listed_in_pages_and_by_state_and_workspace(api: Api) -> None:
    await api.use(*(event(f"e{n}", key=f"k{n}", workspace="odd" if n % 2 else "even") for n in range(7)))
    await api.post("/v1/orgs/acme/keys/k3/pause", {"reason": "odd"})
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = await api.get("/v1/orgs/acme/keys", limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [key["key"] for key in page["keys"]]
        cursor, pages = page["cursor"], pages + 1
    assert (seen, pages) == ([f"k{n}" for n in range(7)], 3)
    assert [key["key"] for key in (await api.get("/v1/orgs/acme/keys", state="paused"))["keys"]] == ["k3"]
    assert [key["key"] for key in (await api.get("/v1/orgs/acme/keys", workspace="odd"))["keys"]] == ["k1", "k3", "k5"]


async def test_orgs_and_workspaces_are_listed_in_pages(api: Api) -> None:
    for name in ("a", "b", "c"):
        await api.put(f"/v1/orgs/{name}", {}, 201)
        await api.put(f"/v1/orgs/a/workspaces/{name}", {}, 201)
    for path, what, one in (("/v1/orgs", "orgs", "org"), ("/v1/orgs/a/workspaces", "workspaces", "workspace")):
        first = await api.get(path, limit=2)
        rest = await api.get(path, limit=2, cursor=first["cursor"])
        assert [row[one] for row in first[what] + rest[what]] == ["a", "b", "c"] and rest["cursor"] is None


@pytest.mark.parametrize("name", ["a/b", "a b", "a%b", "ключ", "a?b#c", "..", "a\tb", "a\u00a0b", "𝒦" * 128])
async def test_whatever_usage_names_can_be_asked_for(api: Api, name: str) -> None:
    """S1: ids are the caller's own strings."""
    assert (await api.use(event(key=name, workspace=name)))[0]["status"] == "recorded"
    path = quote(name, safe="").replace(".", "%2E")
    assert (await api.get(f"/v1/orgs/acme/keys/{path}"))["key"] == name
    assert (await api.get(f"/v1/orgs/acme/workspaces/{path}"))["workspace"] == name
    await api.put(f"/v1/orgs/acme/caps/{quote('cap')}", {"scope": f"key:{name}", "period": "day", "limit_usd": "0", "action": "pause"}, 201)
    assert (await api.get(f"/v1/orgs/acme/keys/{path}"))["state"] == "paused"
    assert (await api.get("/v1/orgs/acme/balances", scope=f"key:{name}"))["balances"][0]["requests"] == 1
    assert (await api.get("/v1/orgs/acme/explain", scope=f"key:{name}"))["facts"]["state"] == "paused"


async def test_an_alias_is_as_its_older_key_is(api: Api) -> None:
    """S3: a gateway that asks by the name it knows must not be told to serve a key that is stopped."""
    await api.put("/v1/orgs/acme/keys/crawler", {"workspace": "lab"}, 201)
    await api.use(event(key="hash-9", workspace="lab"))
    await api.put("/v1/orgs/acme/keys/crawler", {"credentials": ["hash-9"]})
    await api.ask("POST", "/v1/orgs/acme/keys/crawler/pause", {"reason": "a look"})
    older, alias = [await api.get(f"/v1/orgs/acme/keys/{name}") for name in ("crawler", "hash-9")]
    assert alias["alias_of"] == "crawler" and older["state"] == "paused"
    assert all(alias[name] == older[name] for name in ("state", "reasons", "wanted", "confirmed", "revision", "changed_at", "held"))
    assert (await api.get("/v1/orgs/acme/explain", scope="key:hash-9"))["facts"]["key"] == "crawler"
    assert (await api.get("/v1/orgs/acme/keys", state="active"))["keys"] == []
    assert [key["key"] for key in (await api.get("/v1/orgs/acme/keys", state="paused"))["keys"]] == ["crawler"]


async def test_what_is_not_there_is_not_found(api: Api) -> None:
    for path in ("", "/keys", "/keys/k", "/workspaces", "/caps", "/guardrails", "/balances", "/breaches", "/commands", "/entries"):
        problem(await api.ask("GET", f"/v1/orgs/nobody{path}"), 404)
    await api.put("/v1/orgs/acme", {}, 201)
    for path in ("keys/k", "workspaces/w", "caps/c", "guardrails/g", "explain?scope=key:k", "explain?breach=c/1", "explain?breach=c/²"):
        problem(await api.ask("GET", f"/v1/orgs/acme/{path}"), 404)
    for path in ("keys/k", "workspaces/w", "caps/c", "guardrails/g"):
        problem(await api.ask("DELETE", f"/v1/orgs/acme/{path}"), 404)
    problem(await api.ask("POST", "/v1/orgs/acme/keys/k/pause", {"reason": "x"}), 404)
