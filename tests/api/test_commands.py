"""What waits for a person, over HTTP and on the command line (K4)."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from ledger.__main__ import build
from tests.api.asking import Api
from tests.store.events import usage

REVOKE = {"scope": "key:k", "period": "day", "limit_usd": "5.00", "action": "revoke"}
RAIL = {"each": "key", "in": ["org"], "period": "day", "limit_usd": "1.00", "action": "pause"}


async def breached(api: Api) -> None:
    await api.ask("PUT", "/v1/orgs/acme/caps/day", REVOKE)
    await api.service.record([usage("e1", 5)])


async def test_a_breach_that_would_revoke_is_shown_approved_and_done(api: Api) -> None:
    await breached(api)
    answer = (await api.ask("GET", "/v1/orgs/acme/commands")).json()
    assert [(row["cap"], row["ordinal"], row["waits"], row["verdict"]) for row in answer["waiting"]] == [("day", 1, "revoke", None)]
    done = await api.ask("POST", "/v1/orgs/acme/commands/day%2F1/approve", {"reason": "stolen"})
    assert (done.status_code, done.json()["verdict"], done.json()["judged_by"]) == (200, "approved", "admin")
    key = (await api.ask("GET", "/v1/orgs/acme/keys/k")).json()
    assert (key["state"], key["leaking"]) == ("revoked", False)
    assert (await api.ask("GET", "/v1/orgs/acme/commands")).json()["waiting"] == []
    again = await api.ask("POST", "/v1/orgs/acme/commands/day%2F1/reject", {"reason": "oh"})
    assert again.status_code == 409


async def test_what_the_brake_holds_is_rejected_and_the_key_goes_on(api: Api) -> None:
    await api.ask("PUT", "/v1/orgs/acme", {"brake": 0})
    await api.ask("PUT", "/v1/orgs/acme/guardrails/each", RAIL)
    await api.service.record([usage("e1", 5)])
    (waiting,) = (await api.ask("GET", "/v1/orgs/acme/commands")).json()["waiting"]
    assert (waiting["cap"], waiting["waits"]) == ("each/key:k", "all")
    name = quote("each/key:k/1", safe="")
    done = await api.ask("POST", f"/v1/orgs/acme/commands/{name}/reject", {"reason": "a bad price"})
    assert done.json()["verdict"] == "rejected"
    assert (await api.ask("GET", "/v1/orgs/acme/keys/k")).json()["state"] == "active"


async def test_what_waits_is_listed_in_pages_of_its_own(api: Api) -> None:
    await api.ask("PUT", "/v1/orgs/acme", {"brake": 0})
    await api.ask("PUT", "/v1/orgs/acme/guardrails/each", RAIL)
    await api.service.record([usage(f"e{n}", 5, key=f"k{n}") for n in range(5)])
    whole = await api.get("/v1/orgs/acme/commands")
    assert (len(whole["waiting"]), whole["waiting_cursor"]) == (5, None)
    assert await api.pages("/v1/orgs/acme/commands", "waiting", 2, "waiting_cursor") == whole["waiting"]
    await api.get("/v1/orgs/acme/commands", 422, waiting_cursor="abc")


@pytest.mark.parametrize("name", ["day%2F2", "day", "%2F1", "day%2Fx", "other%2F1", "day%2F99999999999999999999"])
async def test_what_nobody_asked_for_can_not_be_judged(api: Api, name: str) -> None:
    await breached(api)
    answer = await api.ask("POST", f"/v1/orgs/acme/commands/{name}/approve", {"reason": "so"})
    assert answer.status_code == 404


@pytest.mark.parametrize("brake", [-1, 10**9, "many", 1.5])
async def test_a_brake_that_is_no_number_is_refused_by_name(api: Api, brake: object) -> None:
    answer = await api.ask("PUT", "/v1/orgs/acme", {"brake": brake})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "brake"


def test_the_command_line_lists_approves_and_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEDGER_DATABASE_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "org: {id: acme, brake: 1}\nworkspaces: {w: }\nkeys: {k: {workspace: w}, k2: {workspace: w}}\n"
        "caps:\n  nothing: {scope: key:k, period: day, limit_usd: '0', action: revoke}\n"
        "  second: {scope: key:k2, period: day, limit_usd: '0', action: pause}\n"
    )
    run = CliRunner()
    app = build()
    assert run.invoke(app, ["migrate"]).exit_code == 0
    assert run.invoke(app, ["apply", str(policy), "--yes"]).exit_code == 0
    listed = json.loads(run.invoke(app, ["commands", "list", "--waiting", "--format", "json"]).stdout)
    assert {row["waits"]: row["state"].partition(" ")[0] for row in listed} == {"nothing/1": "to", "second/1": "held"}
    assert run.invoke(app, ["commands", "approve", "nothing/1", "--reason", "stolen"]).exit_code == 0
    assert run.invoke(app, ["commands", "reject", "second/1", "--reason", "not now"]).exit_code == 0
    assert run.invoke(app, ["commands", "approve", "second/1", "--reason", "oh"]).exit_code == 1
    assert run.invoke(app, ["commands", "approve", "nothing", "--reason", "oh"]).exit_code == 1
    keys = json.loads(run.invoke(app, ["get", "keys", "--format", "json"]).stdout)
    assert {row["key"]: row["state"] for row in keys} == {"k": "revoked", "k2": "active"}
