"""Secrets that people write where they should not (S2): whatever call they are sent to, no table holds them."""

from typing import Any
from urllib.parse import quote

from sqlalchemy import select

from ledger.relay import relay_once
from ledger.store import tables
from tests.api.asking import Api, event
from tests.api.test_trust import CAP, RAIL
from tests.wire.events import SECRET

SAID = {"reason": f"it was {SECRET}, I think"}
LABELS = {"labels": {SECRET: SECRET}}
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("put", "/v1/orgs/{org}"): LABELS,
    ("put", "/v1/orgs/{org}/workspaces/{workspace}"): LABELS,
    ("put", "/v1/orgs/{org}/keys/{key}"): LABELS | {"workspace": SECRET, "credentials": [SECRET + "1"]},
    ("put", "/v1/orgs/{org}/caps/{cap}"): CAP | {"scope": f"key:{SECRET}"},
    ("put", "/v1/orgs/{org}/guardrails/{guardrail}"): RAIL | {"in": ["org", SECRET], "except": [SECRET]},
    ("put", "/v1/orgs/{org}/connections/{connection}"): {"gateway": "http", "keys": {SECRET: SECRET}, "workspaces": {SECRET: SECRET}},
    ("post", "/v1/orgs/{org}/keys/{key}/pause"): SAID,
    ("post", "/v1/orgs/{org}/keys/{key}/resume"): SAID,
    ("post", "/v1/orgs/{org}/keys/{key}/revoke"): SAID,
    ("post", "/v1/orgs/{org}/commands/{command}/confirm"): {"state": "paused", "mark": SECRET},
    ("post", "/v1/orgs/{org}/commands/{command}/approve"): SAID,
    ("post", "/v1/orgs/{org}/commands/{command}/reject"): SAID,
    ("post", "/v1/orgs/{org}/adjustments"): SAID | {"entry": 4, "amount_usd": "0.01"},
    ("post", "/v1/orgs/{org}/shared-costs"): SAID | {"amount_usd": "1.00", "how": "evenly", "over": ["research"]},
}  # in an order in which each finds what it is about


async def names_of(api: Api) -> dict[str, str]:
    """What the paths are about, by now: secrets wherever a name is free."""
    await relay_once(api.service)
    (command, *_) = (await api.get("/v1/orgs/acme/commands"))["commands"] or [{"id": "none yet"}]
    free = dict.fromkeys(("workspace", "cap", "guardrail", "connection"), SECRET)
    return free | {"org": "acme", "key": "crawler", "command": command["id"]}


async def test_a_secret_in_any_text_of_any_call_that_writes_is_in_no_table(api: Api) -> None:
    """S2: and no call that has a body is forgotten here."""
    paths = (await api.client.get("/openapi.json")).json()["paths"]
    told = {(method, path) for path, methods in paths.items() for method, about in methods.items() if "requestBody" in about}
    assert {one for one in told if one[1].startswith("/v1/orgs/")} == set(BODIES)
    await api.use(event("e1"), event("e2"))
    await api.put("/v1/orgs/acme/caps/waits", CAP | {"action": "revoke", "period": "month"}, 201)
    for (method, path), body in BODIES.items():
        names = await names_of(api)
        if path.endswith(("approve", "reject")):
            names["command"] = "waits/1"
        for name, meant in names.items():
            path = path.replace(f"{{{name}}}", quote(meant, safe=""))
        answer = await api.ask(method.upper(), path, body, headers={"Idempotency-Key": SECRET + path})
        assert answer.status_code in (200, 201) or path.endswith("/reject"), (path, answer.text)
    async with api.service.database.reader.connect() as connection:
        held = [str(value) for table in tables.metadata.sorted_tables for row in await connection.execute(select(table)) for value in row]
    assert len(held) > 200 and not [value for value in held if SECRET in value]


async def test_a_reference_that_is_a_secret_itself_is_refused(api: Api) -> None:
    """S2: whoever writes `env:` before the secret, not before its name."""
    for text in (f"env:{SECRET.replace('-', '_')}", f"file:/{SECRET}"):
        for field in ("token", "secret"):
            answer = await api.ask("PUT", "/v1/orgs/acme/connections/or", {"gateway": "openrouter", field: text})
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
            assert SECRET not in answer.text
