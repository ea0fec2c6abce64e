"""Each vendor's keys through its adapter and the agent, against a real server that behaves like it, on its bad days too."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from ledger.api.app import build_app
from ledger.core.commands import SetConnection, SetKey
from ledger.core.connections import Connection, Gateway
from ledger.core.keys import State
from ledger.store import tokens
from ledger.store.dialect import connect
from tests.servers import litellm, openrouter, webhook
from tests.servers.vendor import Fault, serving
from tests.stage import MINUTE_US, Stage
from tests.test_agent import FAULTS


class Kind(NamedTuple):
    """A vendor: its API, and how a connection to it is declared."""

    api: Callable[[], Any]
    gateway: Gateway
    token: str | None = None
    secret: str | None = None


KINDS = {
    "openrouter": Kind(openrouter.OpenRouterApi, Gateway.OPENROUTER, token=openrouter.TOKEN),
    "litellm": Kind(litellm.LiteLLMApi, Gateway.LITELLM, token=litellm.TOKEN),
    "webhook": Kind(webhook.Receiver, Gateway.WEBHOOK, secret=webhook.SECRET),
}
HASHED = ("openrouter", "litellm")


class Theatre(Stage):
    """A stage whose key `k` has one credential, its hash at the vendor."""

    credential = "k"

    def there(self) -> str:
        """The key's state at the vendor."""
        return self.api.states.get("k", "active") if isinstance(self.api, webhook.Receiver) else self.api.state(self.credential)


@asynccontextmanager
async def theatre(kind: Kind, path: Path) -> AsyncIterator[Theatre]:
    database, api = connect(f"sqlite:///{path}"), kind.api()
    async with serving(api) as vendor:
        stage = Theatre(database, api, vendor)
        stage.environ = {"TOKEN": kind.token or "", "SECRET": kind.secret or ""}
        names = ()
        if not isinstance(api, webhook.Receiver):
            stage.credential = api.add("k")
            names = (stage.credential,)
        way = Connection(
            connection_id="way", gateway=kind.gateway, address=vendor.address, token="env:TOKEN" if kind.token else None,
            secret="env:SECRET" if kind.secret else None,
        )  # fmt: skip
        declare = SetConnection(org="acme", by="will", connection=way)
        await stage.order(declare, SetKey(org="acme", by="will", key="k", workspace="w", credentials=names))
        try:
            yield stage
            await stage.sound()
        finally:
            await stage.agent.close()
            await database.close()


@pytest.fixture
def sqlite_file(sqlite_template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "ledger.db"))


@pytest.fixture
async def stage(request: pytest.FixtureRequest, sqlite_file: Path) -> AsyncIterator[Theatre]:
    async with theatre(KINDS[request.param], sqlite_file) as stage:
        yield stage


each = pytest.mark.parametrize("stage", KINDS, indirect=True)
hashed = pytest.mark.parametrize("stage", HASHED, indirect=True)
by_webhook = pytest.mark.parametrize("stage", ["webhook"], indirect=True)


@each
async def test_a_key_is_paused_resumed_and_revoked(stage: Theatre) -> None:
    for state in (State.PAUSED, State.ACTIVE, State.PAUSED, State.REVOKED):
        await stage.turn(state)
        await stage.run()
        assert stage.there() == state
        assert await stage.confirmed() is state
    assert [state for _, state in stage.api.turned] == ["paused", "active", "paused", "revoked"]


CASES = [
    (kind, fault, call, state)
    for kind in KINDS
    for fault in FAULTS
    for call in ("first", "second") if kind in HASHED or call == "first"
    for state in (State.PAUSED, State.ACTIVE, State.REVOKED) if call == "second" or state is not State.ACTIVE
]  # fmt: skip


@pytest.mark.parametrize(("stage", "fault", "call", "state"), CASES, indirect=["stage"])
async def test_after_any_fault_of_any_call_the_outcome_is_the_same(stage: Theatre, fault: str, call: str, state: State) -> None:
    before = (State.PAUSED,) if state is State.ACTIVE else ()
    for first in before:
        await stage.turn(first)
        await stage.run()
    asked, broken = len(stage.vendor.log), FAULTS[fault]
    stage.vendor.faults.extend([Fault("none")] * (call == "second"))
    stage.vendor.faults.extend([broken] * (2 if broken.kind == "cut" else 1))
    await stage.turn(state)
    await stage.run()
    assert stage.there() == state
    assert await stage.confirmed() is state
    assert [turned for _, turned in stage.api.turned] == [*before, state], "done once, however often it was asked"
    assert len(stage.vendor.log) - asked <= 8
    if state is State.PAUSED:
        await stage.turn(State.ACTIVE)
        await stage.run()
        assert stage.there() == "active", "an unknown outcome was ours (K2)"


def reads(stage: Theatre) -> bool:
    return not isinstance(stage.api, webhook.Receiver)


@each
async def test_an_hour_of_outage_ends_by_itself(stage: Theatre) -> None:
    await stage.vendor.stop()
    await stage.turn(State.PAUSED)
    for _ in range(60):
        await stage.try_once()
        stage.clock.now_us += MINUTE_US
    await stage.vendor.start()
    await stage.run(minutes=2)
    assert stage.there() == "paused"
    assert await stage.confirmed() is State.PAUSED


@each
async def test_a_refused_token_or_signature_is_loud_and_not_tried_for_ever(stage: Theatre) -> None:
    if reads(stage):
        stage.api.token = "another"
    else:
        stage.api.secret = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    await stage.turn(State.PAUSED)
    await stage.run()
    assert (await stage.last(stage.credential))["delivery"] == "failed"
    assert len(stage.vendor.log) == 1


@hashed
async def test_a_persons_pause_there_is_respected(stage: Theatre) -> None:
    stage.api.turn(stage.credential, "paused")
    await stage.turn(State.PAUSED)
    await stage.run()
    assert await stage.confirmed() is State.PAUSED
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.there() == "paused"
    assert (await stage.last(stage.credential))["delivery"] == "left"


@hashed
async def test_a_key_that_a_person_touched_after_our_pause_is_theirs(stage: Theatre) -> None:
    """OpenRouter's `updated_at` tells, and LiteLLM's `settings_updated_at`."""
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.turn(stage.credential, "active")
    stage.api.turn(stage.credential, "paused")
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.there() == "paused"


@pytest.mark.parametrize("stage", ["litellm"], indirect=True)
@pytest.mark.parametrize("odd", [None, "", 7, "just now", "0001-01-01T00:00:00+14:00"])
async def test_a_proxy_that_does_not_tell_when_settings_were_changed_has_our_block_undone(stage: Theatre, odd: Any) -> None:
    stage.api.marks = False
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.keys[stage.credential]["settings_updated_at"] = odd
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.there() == "active"


@pytest.mark.parametrize("stage", ["litellm"], indirect=True)
async def test_spend_that_moves_updated_at_makes_a_block_nobody_elses(stage: Theatre) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    stage.api.keys[stage.credential] |= {"spend": 0.75, "updated_at": "2026-03-08T11:00:00Z"}
    await stage.turn(State.ACTIVE)
    await stage.run()
    assert stage.there() == "active"


@hashed
async def test_the_keys_own_id_is_no_hash_and_is_neither_asked_for_nor_listed(stage: Theatre) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    assert [(row["credential"], row["delivery"]) for row in await stage.commands()] == [(stage.credential, "confirmed")]
    assert all(stage.credential in str(request) for request in stage.vendor.log)


@hashed
async def test_a_key_known_by_its_name_alone_shows_that_nothing_stopped_it_until_its_hash_is_linked(stage: Theatre) -> None:
    """K3: the name is all that comes with OpenRouter's usage; linking the hash of a paused key pauses it."""
    await stage.order(SetKey(org="acme", by="will", key="k", credentials=("Agentic Coding",)))
    await stage.turn(State.PAUSED)
    await stage.run()
    assert [(row["credential"], row["delivery"]) for row in await stage.commands()] == [("k", "unknown")]
    assert stage.vendor.log == []
    await stage.order(SetKey(org="acme", by="will", key="k", credentials=("Agentic Coding", stage.credential)))
    await stage.run()
    assert {row["credential"]: row["delivery"] for row in await stage.commands()} == {"k": "superseded", stage.credential: "confirmed"}
    assert (stage.there(), await stage.confirmed()) == ("paused", State.PAUSED)


@hashed
async def test_a_key_that_no_longer_exists_there(stage: Theatre) -> None:
    await stage.turn(State.PAUSED)
    await stage.run()
    del stage.api.keys[stage.credential]
    await stage.turn(State.ACTIVE)
    await stage.run()
    row = await stage.last(stage.credential)
    assert (row["delivery"], row["attempts"]) == ("unknown", 1)
    assert "any more" in row["error"]
    await stage.turn(State.REVOKED)
    await stage.run()
    assert await stage.confirmed() is State.REVOKED


@by_webhook
async def test_a_message_says_what_to_do_with_one_id_for_all_its_attempts(stage: Theatre) -> None:
    stage.vendor.faults.append(Fault("cut"))
    await stage.turn(State.PAUSED)
    await stage.run()
    assert len(stage.vendor.log) == 2
    assert {request.headers["webhook-id"] for request in stage.vendor.log} == {"acme/1@way:k"}
    ((_, message),) = stage.api.taken.items()
    assert message["type"] == "ledger.key.pause.v1"
    assert message["data"] == {"command": "1@way:k", "org": "acme", "credential": "k", "state": "paused", "revision": 1}


@by_webhook
@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "not base64 at all"])
async def test_a_secret_that_signs_nothing_is_named(stage: Theatre, secret: str) -> None:
    stage.environ["SECRET"] = secret
    await stage.turn(State.PAUSED)
    await stage.run()
    assert (await stage.last())["delivery"] == "failed"
    assert stage.vendor.log == []


@by_webhook
async def test_what_was_only_taken_waits_for_its_confirmation_over_http_and_is_sent_again_without_one(stage: Theatre) -> None:
    stage.api.status = 202
    await stage.turn(State.PAUSED)
    await stage.try_once()
    assert (await stage.last())["delivery"] == "attempted"
    stage.clock.now_us += 6 * MINUTE_US
    await stage.try_once()
    assert (await stage.last())["attempts"] == 2
    async with stage.service.database.writer.begin() as connection:
        token = await tokens.create(connection, tokens.Token("gateway", ("admin",), None, None), stage.clock())
    transport = httpx.ASGITransport(app=build_app(stage.service))
    async with httpx.AsyncClient(transport=transport, base_url="http://ledger", headers={"Authorization": f"Bearer {token}"}) as client:
        answer = await client.post("/v1/orgs/acme/commands/1%40way%3Ak/confirm", json={"state": "paused"})
        assert (answer.status_code, answer.json()["delivery"]) == (200, "confirmed")
        assert (await client.post("/v1/orgs/acme/commands/2%40way%3Ak/confirm", json={"state": "paused"})).status_code == 404
        assert (await client.post("/v1/orgs/acme/commands/nonsense/confirm", json={"state": "paused"})).status_code == 404
    assert await stage.confirmed() is State.PAUSED
    assert not await stage.open()


async def test_two_vendors_of_one_org_each_get_their_own_credential(sqlite_file: Path) -> None:
    async with theatre(KINDS["openrouter"], sqlite_file) as stage, serving(litellm.LiteLLMApi()) as second:
        other = second.api.add("k")  # type: ignore[attr-defined]
        stage.environ["SECOND"] = litellm.TOKEN
        way = Connection(connection_id="proxy", gateway=Gateway.LITELLM, address=second.address, token="env:SECOND")
        await stage.order(SetConnection(org="acme", by="will", connection=way))
        await stage.order(SetKey(org="acme", by="will", key="k", credentials=(stage.credential, other)))
        await stage.turn(State.PAUSED)
        await stage.run()
        assert (stage.there(), second.api.state(other)) == ("paused", "paused")  # type: ignore[attr-defined]
        assert await stage.confirmed() is State.PAUSED
