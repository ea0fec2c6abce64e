"""Connections over HTTP and in the policy file (S8): declared, versioned, replayed; no secret ever in them (S2)."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ledger.api.app import build_app
from ledger.cli.policy import PolicyError, read_policies
from ledger.core.commands import SetConnection
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import reports, tokens
from ledger.store.dialect import Database
from ledger.store.replay import replay, verify
from tests.wire.events import SECRET

PLACE = "/v1/orgs/acme/connections/or"
OPENROUTER = {
    "gateway": "openrouter", "token": "env:OPENROUTER_KEY", "secret": "file:/run/secrets/or", "address": "https://openrouter.ai/",
    "keys": {"Agentic Coding": "crawler"}, "workspaces": {"0df9e665": "research"}, "adopt_keys": True,
}  # fmt: skip


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with database.writer.begin() as connection:
        await tokens.create(connection, tokens.Token("will", ("admin",), None, None), 1, "operator-token-0001")
        await tokens.create(connection, tokens.Token("acme", ("admin",), "acme", None), 1, "acme-token-00000001")
    transport = httpx.ASGITransport(build_app(Service(database, Metrics())))
    async with httpx.AsyncClient(transport=transport, base_url="http://t", headers=as_("operator-token-0001")) as client:
        yield client


def as_(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_connection_is_declared_read_changed_and_removed(client: httpx.AsyncClient) -> None:
    made = await client.put(PLACE, json=OPENROUTER)
    assert (made.status_code, made.headers["etag"]) == (201, '"2"')
    shown = made.json()
    assert shown == OPENROUTER | {
        "connection": "or",
        "direction": "both",
        "counts": True,
        "version": 2,
        "address": "https://openrouter.ai",
        "silent_since": None,
    }
    assert (await client.put(PLACE, json=OPENROUTER)).headers["etag"] == '"2"', "the same again changes nothing"
    stale = await client.put(PLACE, json={"gateway": "litellm"}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    changed = await client.put(PLACE, json=OPENROUTER | {"counts": False}, headers={"If-Match": '"2"'})
    assert (changed.status_code, changed.json()["counts"], changed.json()["version"]) == (200, False, 3)
    listed = (await client.get("/v1/orgs/acme/connections")).json()
    assert [row["connection"] for row in listed["connections"]] == ["or"]
    assert (await client.delete(PLACE)).status_code == 204
    assert (await client.get(PLACE)).status_code == (await client.delete(PLACE)).status_code == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token", SECRET), ("secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("token", "env:"), ("token", "env:A B"),
        ("token", "file:relative"), ("token", "env:LEDGER_ADMIN_TOKEN"), ("address", "ftp://x"), ("address", "https://u:p@host/"),
        ("address", f"https://host/?key={SECRET}"), ("address", f"https://host/{SECRET}"), ("address", "https://"), ("address", "http://[x"),
        ("gateway", "portkey"), ("direction", "sideways"), ("counts", "often"), ("keys", {"": "x"}), ("tokn", "env:X"),
    ],
)  # fmt: skip
async def test_what_is_not_a_reference_is_refused_by_field_and_never_repeated(client: httpx.AsyncClient, field: str, value: Any) -> None:
    refused = await client.put(PLACE, json=OPENROUTER | {field: value})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"].startswith(field)
    assert SECRET not in refused.text and "whsec" not in refused.text
    assert (await client.get(PLACE)).status_code == 404


async def test_a_secret_that_a_gateway_calls_a_key_by_is_kept_as_its_hash_only(client: httpx.AsyncClient) -> None:
    made = await client.put(PLACE, json=OPENROUTER | {"keys": {SECRET: "crawler"}})
    (name,) = made.json()["keys"]
    assert len(name) == 64 and SECRET not in made.text


async def test_an_orgs_own_admin_sets_maps_but_nothing_that_reaches_out_with_this_machines_secrets(client: httpx.AsyncClient) -> None:
    own = as_("acme-token-00000001")
    assert (await client.put(PLACE, json=OPENROUTER, headers=own)).status_code == 403
    assert (await client.put(PLACE, json={"gateway": "litellm", "keys": {"a": "b"}}, headers=own)).status_code == 201
    assert (await client.put(PLACE, json=OPENROUTER)).status_code == 200
    assert (await client.put(PLACE, json={"gateway": "litellm"}, headers=own)).status_code == 403, "nor takes away what the operator set"
    assert (await client.delete(PLACE, headers=own)).status_code == 403
    assert (await client.put("/v1/orgs/acme/connections/own", json={"gateway": "litellm"}, headers=own)).status_code == 201
    assert (await client.delete("/v1/orgs/acme/connections/own", headers=own)).status_code == 204
    assert (await client.get("/v1/orgs/other/connections", headers=own)).status_code == 403


async def test_the_policy_file_declares_connections_and_names_what_it_refuses() -> None:
    text = "org: {id: acme}\nconnections:\n  or: {gateway: openrouter, token: %s, counts: true, adopt_keys: true}\n"
    (policy,) = read_policies(text % "env:OPENROUTER_KEY")
    orders = policy.orders((), (), ("old",), {}, by="will", prune=True)
    (order,) = [order for order in orders if isinstance(order, SetConnection)]
    assert (order.connection.gateway, order.connection.token) == ("openrouter", "env:OPENROUTER_KEY")
    assert orders[-1].connection == "old"  # type: ignore[union-attr]
    with pytest.raises(PolicyError, match=r"connections\.or\.token: is not a reference") as error:
        read_policies(text % SECRET)
    assert SECRET not in str(error.value)


async def test_connections_are_loaded_saved_and_replayed_the_same(database: Database) -> None:
    (policy,) = read_policies("org: {id: acme}\nconnections:\n  or: {gateway: openrouter, keys: {b: x, a: y}, counts: false}\n")
    service = Service(database, Metrics())
    await service.record(policy.orders((), (), (), {}, by="will", prune=False))
    other = Service(database, Metrics())  # cold books: loaded, not remembered
    assert [result.seq for result in await other.record(policy.orders((), (), (), {}, by="will", prune=False))] == [None, None]
    async with database.snapshot() as connection:
        head = await reports.head(connection, "acme")
        assert head is not None and head.seq == 2
        before = await reports.connections(connection, head)
        assert await verify(connection, head.org_id, "acme", lambda _: None) is None
    async with database.writer.begin() as connection:
        await replay(connection, head.org_id, "acme", lambda _: None)
    async with database.snapshot() as connection:
        assert await reports.connections(connection, head) == before
