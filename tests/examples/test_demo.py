"""The demo itself, on a faster clock, with its final balances checked to the nano against what the agents were charged."""

import argparse
import socket
from collections import defaultdict
from pathlib import Path

import pytest

from examples import demo
from examples.demo import in_use, show, staged
from examples.fleet import ORG, RUNAWAY, fleet, trace
from examples.watch import Watch
from ledger.core.money import usd_text
from ledger.store import reports
from ledger.store.dialect import connect
from ledger.store.replay import verify
from tests.servers.postgres import free_port


@pytest.mark.slow
async def test_the_runaway_key_is_stopped_and_every_balance_is_exact(tmp_path: Path) -> None:
    """K5, C3, C4, M7: one key stops and comes back at midnight; 47 go on; the books equal the agents' own sums."""
    path = tmp_path / "demo.db"
    async with staged(f"127.0.0.1:{free_port()}", free_port(), path, speed=125) as stage:
        with Watch() as watch:
            await show(stage, watch)
        assert stage.story.refused.keys() == {RUNAWAY}
        assert stage.story.pause_ms is not None and stage.story.pause_ms < 5000  # a loaded machine; `make bench` measures it
        answer = await stage.client.get(f"/v1/orgs/{ORG}/balances", params={"period": "lifetime", "limit": 200})
        spent = {row["scope"]: row["spent_usd"] for row in answer.json()["balances"]}
        expected: defaultdict[str, int] = defaultdict(int)
        for call in trace():
            expected[call.agent.name] += call.nanos
        for agent in fleet():
            if agent.name != RUNAWAY:
                assert spent[f"key:{agent.name}"] == usd_text(expected[agent.name])
        assert spent[f"key:{RUNAWAY}"] == usd_text(stage.story.accepted_nanos[RUNAWAY])
        assert spent["org"] == usd_text(sum(stage.story.accepted_nanos.values()))
        key = (await stage.client.get(f"/v1/orgs/{ORG}/keys/{RUNAWAY}")).json()
        assert (key["state"], key["confirmed"], key["revision"]) == ("active", "active", 2)
        breaches = (await stage.client.get(f"/v1/orgs/{ORG}/breaches")).json()["breaches"]
        assert [(breach["cap"], breach["reason"]) for breach in breaches] == [(f"daily/key:{RUNAWAY}", "window_ended")]
    database = connect(f"sqlite:///{path}")
    async with database.snapshot() as connection:
        head = await reports.head(connection, ORG)
        assert head is not None
        assert await verify(connection, head.org_id, ORG, lambda _: None) is None
    await database.close()


async def test_a_show_that_ends_with_itself_does_not_say_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def no_show(*_: object) -> None:
        pass

    monkeypatch.setattr(demo, "show", no_show)
    asked = {"listen": f"127.0.0.1:{free_port()}", "gateway_port": free_port(), "database": tmp_path / "demo.db", "speed": 100.0}
    await demo.main(argparse.Namespace(**asked, exit=True))
    assert "goes on" not in capsys.readouterr().out


def test_a_second_show_says_what_is_in_use_and_touches_nothing_of_the_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        taken = first.getsockname()[1]
        assert in_use(f"127.0.0.1:{taken}", free_port()) == f"127.0.0.1:{taken}"
        assert in_use(f"127.0.0.1:{free_port()}", taken) == f"127.0.0.1:{taken}"
    assert in_use(f"127.0.0.1:{free_port()}", free_port()) is None
