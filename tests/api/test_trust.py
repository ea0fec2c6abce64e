"""Tokens and their scopes (T1): nothing without one, and nothing of another org, whether it exists or not."""

import asyncio
import re
from hashlib import sha256

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.event import listen

from ledger.api import auth
from ledger.api.reading import MOST_OF_ORG
from ledger.store import tables, tokens
from ledger.store.bulk import insert_rows
from ledger.store.dialect import Database
from tests.api.asking import BATCH, Api, event, problem

READS = ("", "/workspaces", "/workspaces/research", "/keys", "/keys/crawler", "/caps", "/caps/day", "/guardrails", "/guardrails/daily",
         "/balances", "/breaches", "/commands", "/entries", "/explain?scope=key:crawler")  # fmt: skip
CAP = {"scope": "key:crawler", "period": "day", "limit_usd": "1.00", "action": "pause"}
RAIL = {"each": "key", "in": ["org"], "period": "day", "limit_usd": "1.00"}
NAMES = {"workspace": "research", "key": "crawler", "cap": "day", "guardrail": "daily", "command": "1:crawler"}
OPEN = ("/livez", "/readyz")
Operation = tuple[str, str]


async def described(api: Api, org: str) -> list[Operation]:
    """Every operation on an org in the API's own description, so that a new route is tried here too: (method, path)."""
    operations = [one for one in await everything(api, org) if one[1].startswith(f"/v1/orgs/{org}")]
    assert len(operations) > 30
    return operations


async def everything(api: Api, org: str) -> list[Operation]:
    """Every operation in the API's own description, those on orgs on this one."""
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    return [
        (method.upper(), re.sub(r"{(\w+)}", lambda part: NAMES.get(part[1], "x"), path.replace("{org}", org)))
        for path, methods in paths.items()
        for method in methods
    ]


async def ask(api: Api, operation: Operation, by: str) -> httpx.Response:
    method, path = operation
    return await api.ask(method, path, None if method in ("GET", "DELETE") else {}, by=by)


async def furnished(api: Api) -> None:
    """Two orgs with the same names in them, and a token of every kind for the first."""
    for org in ("acme", "other"):
        await api.use(event("e1", org=org), event("e2", org=org, key="elsewhere", workspace="lab"))
        await api.put(f"/v1/orgs/{org}/caps/day", CAP, 201)
        await api.put(f"/v1/orgs/{org}/guardrails/daily", RAIL, 201)
    await api.let_in("ingest", "ingest", org="acme")
    await api.let_in("read", "read", org="acme")
    await api.let_in("boss", "admin", org="acme")
    await api.let_in("lab", "read", org="acme", workspace="lab")
    await api.let_in("reader of all", "read")


async def state_of(api: Api, org: str) -> list[object]:
    return [await api.get(f"/v1/orgs/{org}/{what}") for what in ("entries?limit=1000", "balances", "commands")]


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer ", "Bearer nobody", "Basic YTpi", "Bearer ldg_" + "x" * 43])
async def test_nothing_without_a_known_token(api: Api, given: str | None) -> None:
    """T1: nor a word about what else is wrong with the request, which is not read until then."""
    headers = {"Content-Type": "application/json"} | ({} if given is None else {"Authorization": given})
    asked = [one for one in await everything(api, "acme") if one[1] not in OPEN]
    assert len(asked) == len(await everything(api, "acme")) - len(OPEN)
    for method, path in asked:
        answer = await api.client.request(method, path, headers=headers, params={"no": "parameter"}, content=b"{")
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_path_with_a_slash_too_many_leads_nowhere(api: Api) -> None:
    """T1: to be sent on would send the token to whatever host, and in whatever scheme, this process believes to be asked by."""
    for path in ("/v1/orgs/", "/v1/orgs/acme/", "/v1/usage/", "/v1/orgs/acme/keys/"):
        answer = await api.ask("GET", path, headers={"Host": "elsewhere.example"})
        problem(answer, 404)
        assert "location" not in answer.headers


async def test_health_and_documentation_need_no_token_and_tell_nothing(api: Api) -> None:
    for path in ("/livez", "/readyz", "/docs", "/openapi.json"):
        assert (await api.client.get(path)).status_code == 200


@pytest.mark.parametrize("by", ["ingest", "read", "boss", "lab"])
async def test_another_orgs_token_gets_the_same_answer_whether_that_org_exists_or_not(api: Api, by: str) -> None:
    """T1: one org can neither read, nor write, nor infer."""
    await furnished(api)
    before = await state_of(api, "other")
    lacking = {f"this token may not {scope}: it may {has}" for scope in ("read", "admin") for has in ("ingest", "read")}
    answers: list[list[tuple[object, ...]]] = []
    for org in ("other", "nobody"):
        asked = [await ask(api, operation, by) for operation in await described(api, org)]
        asked += [await api.ask("GET", f"/v1/orgs/{org}{path}", by=by) for path in READS]
        answers.append([(problem(answer, 403), sorted(answer.headers.items())) for answer in asked])
    assert answers[0] == answers[1]
    assert {detail for detail, _ in answers[0]} <= {"this token is for another org"} | lacking
    assert await state_of(api, "other") == before
    problem(await api.ask("GET", "/v1/orgs/nobody"), 404)


async def test_orgs_are_listed_for_those_who_may_read_them(api: Api) -> None:
    await furnished(api)
    assert [row["org"] for row in (await api.get("/v1/orgs", by="reader of all"))["orgs"]] == ["acme", "other"]
    for by in ("read", "boss"):
        listed = await api.get("/v1/orgs", by=by, limit=1)
        assert ([row["org"] for row in listed["orgs"]], listed["cursor"]) == (["acme"], None)
    problem(await api.ask("GET", "/v1/orgs", by="ingest"), 403)


async def test_a_tokens_org_must_be_the_events(api: Api) -> None:
    """T1: and it stands in for one that is missing."""
    await furnished(api)
    before = await state_of(api, "other")
    mine, missing, theirs = await api.use(event("a"), event("b", org=...), event("c", org="other"), by="ingest")
    assert (mine["status"], missing["status"]) == ("recorded", "recorded")
    assert (theirs["status"], theirs["reason"], theirs["field"]) == ("rejected", "wrong_org", "data.org")
    (repeated,) = await api.use(event("e1", org="other"), by="ingest")
    assert repeated["reason"] == "wrong_org", "whether the other org has booked it is not to be inferred"
    assert await state_of(api, "other") == before


async def test_a_token_for_all_orgs_must_say_which(api: Api) -> None:
    (result,) = await api.use(event(org=...))
    assert (result["status"], result["field"]) == ("rejected", "data.org")


async def test_a_token_does_what_its_scopes_say(api: Api) -> None:
    await furnished(api)
    for path in READS:
        assert (await api.ask("GET", f"/v1/orgs/acme{path}", by="read")).status_code == 200
        assert (await api.ask("GET", f"/v1/orgs/acme{path}", by="boss")).status_code == 200
        assert "may not read" in problem(await api.ask("GET", f"/v1/orgs/acme{path}", by="ingest"), 403)
    before = await state_of(api, "acme")
    for by in ("ingest", "read", "lab", "reader of all"):
        for operation in await described(api, "acme"):
            if operation[0] != "GET":
                assert "may not admin" in problem(await ask(api, operation, by), 403), operation
    for by in ("read", "lab", "reader of all"):
        answer = await api.ask("POST", "/v1/usage", [event("x")], by=by, headers={"Content-Type": BATCH})
        assert "may not ingest" in problem(answer, 403)
    assert await state_of(api, "acme") == before


async def test_a_reader_of_a_workspace_of_seventy_thousand_keys_sees_its_breaches(api: Api, database: Database) -> None:
    """A database takes some 32,000 or 65,000 names in one statement (T1)."""
    await api.put("/v1/orgs/acme/caps/day", {"scope": "key:crawler", "period": "day", "limit_usd": "1.00", "action": "pause"}, 201)
    await api.use(event("e1", "2.00"), event("e2", "0.10", key="elsewhere", workspace="lab"))
    async with database.writer.begin() as connection:
        org_id = await connection.scalar(select(tables.orgs.c.org_id).where(tables.orgs.c.org == "acme"))
        more = [(org_id, f"k{n:05}", "research", "active", 0, 0, None, None, False, None, False, 1) for n in range(70_000)]
        await insert_rows(connection, tables.keys, more)
    for home in ("research", "lab"):
        await api.let_in(home, "read", org="acme", workspace=home)
    for path in ("/breaches", "/breaches?scope=key:crawler", "/breaches?open=true"):
        assert [row["cap"] for row in (await api.get(f"/v1/orgs/acme{path}", by="research"))["breaches"]] == ["day"]
    assert (await api.get("/v1/orgs/acme/breaches", by="lab"))["breaches"] == []
    assert len((await api.get("/v1/orgs/acme/balances?limit=100", by="research"))["balances"]) == 101
    assert len((await api.get("/v1/orgs/acme/keys?limit=100", by="research"))["keys"]) == 100
    assert (await api.get("/v1/orgs/acme/report?by=key", by="research"))["total"]["spent_usd"] == "2.00"


async def test_a_reader_of_one_workspace_sees_it_and_its_keys_and_nothing_else(api: Api) -> None:
    """T1: nor infers whether another key exists."""
    await furnished(api)
    assert [key["key"] for key in (await api.get("/v1/orgs/acme/keys", by="lab"))["keys"]] == ["elsewhere"]
    assert [key["key"] for key in (await api.get("/v1/orgs/acme/keys?workspace=research", by="lab"))["keys"]] == ["elsewhere"]
    assert (await api.get("/v1/orgs/acme/keys/elsewhere", by="lab"))["key"] == "elsewhere"
    other, nobody = [await api.ask("GET", f"/v1/orgs/acme/keys/{key}", by="lab") for key in ("crawler", "nobody")]
    assert problem(other, 404).replace("crawler", "nobody") == problem(nobody, 404)
    balances = (await api.get("/v1/orgs/acme/balances", by="lab"))["balances"]
    assert [row["scope"] for row in balances] == ["workspace:lab", "key:elsewhere"]
    breaches = (await api.get("/v1/orgs/acme/breaches", by="lab"))["breaches"]
    assert [row["cap"] for row in breaches] == ["daily/key:elsewhere"]
    for path in ("/balances?scope=org", "/balances?scope=workspace:research", "/balances?scope=key:crawler", "/balances?scope=key:nobody",
                 "/breaches?scope=org", "/breaches?scope=key:crawler", "/entries", "/commands", "/caps", "/guardrails", "/workspaces",
                 "/workspaces/lab", "/explain?scope=key:elsewhere"):  # fmt: skip
        assert problem(await api.ask("GET", f"/v1/orgs/acme{path}", by="lab"), 403) == "this token reads one workspace only"
    assert (await api.get("/v1/orgs/acme/breaches?cap=day", by="lab"))["breaches"] == []


async def test_a_reader_of_one_workspace_does_not_infer_what_the_org_has_left(api: Api) -> None:
    """T1: of the caps that it sees one is the tightest, whatever the org's own leave."""
    await furnished(api)
    await api.put("/v1/orgs/acme/guardrails/daily", RAIL | {"limit_usd": "2.00"})
    await api.put("/v1/orgs/acme/caps/all", CAP | {"scope": "org", "limit_usd": "3.50", "action": "alert"}, 201)
    path = "/v1/orgs/acme/balances?scope=key:elsewhere"
    (whole,), (part,) = [(await api.get(path, by=by))["balances"] for by in ("read", "lab")]
    assert [(cap["cap"], cap["tightest"]) for cap in whole["above"]] == [("daily/key:elsewhere", True), ("all", False)]
    await api.use(event("e3", "0.80"))
    (whole,), (later,) = [(await api.get(path, by=by))["balances"] for by in ("read", "lab")]
    assert [(cap["cap"], cap["tightest"]) for cap in later["above"]] == [("daily/key:elsewhere", True)]
    assert part == later


async def test_one_org_holds_few_connections_however_much_of_it_is_asked_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """T1: by whichever call that reads; the others are for other orgs and for usage."""
    monkeypatch.setattr(auth, "REMEMBERED_S", 600)
    await furnished(api)
    await api.get("/v1/orgs", by="read")
    held, counts = 0, dict[str, int]()
    path = ""

    def count(by: int) -> None:
        nonlocal held
        held += by
        counts[path] = max(counts.get(path, 0), held)

    engine = api.service.database.reader.sync_engine
    listen(engine, "checkout", lambda *_: count(1))
    listen(engine, "checkin", lambda *_: count(-1))
    long = ["/balances?as_of=2026-03-09T00:00:00Z", "/balances?period=hour", "/explain?scope=org&period=day", "/explain?where=key:crawler"]
    asked = [path for method, path in await described(api, "acme") if method == "GET"]
    for path in (*asked, *(f"/v1/orgs/acme{tail}" for tail in (*READS, *long))):
        answers = await asyncio.gather(*(api.ask("GET", path, by="read") for _ in range(12)))
        assert {answer.status_code for answer in answers} & {200, 403, 404, 422}
    few = {path: most for path, most in counts.items() if most}
    assert len(few) > 20 and max(few.values()) <= MOST_OF_ORG
    assert {few[f"/v1/orgs/acme{tail}"] for tail in long} == {1}, "what reads through the journal is made one after the other"


async def test_a_token_is_stored_hashed(api: Api) -> None:
    """T1, S2."""
    async with api.service.database.reader.connect() as connection:
        (row,) = await connection.execute(select(tables.tokens))
    assert row.digest == sha256(api.tokens["admin"].encode()).digest()
    assert not any(api.tokens["admin"] in str(value) for value in row)


async def test_a_revoked_token_is_refused_within_seconds(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.let_in("will", "read")
    await api.get("/v1/orgs", by="will")
    async with api.service.database.writer.begin() as connection:
        assert await tokens.revoke(connection, "will", 1) == 1
    monkeypatch.setattr(auth.time, "monotonic", lambda now=auth.time.monotonic(): now + auth.REMEMBERED_S + 0.01)
    problem(await api.ask("GET", "/v1/orgs", by="will"), 401)
