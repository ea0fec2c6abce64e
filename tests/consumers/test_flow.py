"""Usage through Kafka into PostgreSQL and out again as key commands, in one process or several."""

from collections import defaultdict

import httpx
import msgspec

from tests.consumers.described import check_described
from tests.consumers.harness import Stage, events


async def test_usage_is_booked_once_and_caps_are_published_once(stage: Stage) -> None:
    """J5, C3: duplicates and records that can't be read among it; a graceful stop within ten seconds."""
    await stage.produce(events(1, 6_000, poison_every=1_000))
    process = stage.start("usage", "pulse", "relay", "keys")
    await stage.until_booked()
    await stage.until_published()
    await stage.check()
    letters = await stage.until_read("usage.dead", 6)
    assert [letter["data"]["reason"] for letter in letters] == ["malformed"] * 6
    assert all("not json" not in str(letter) for letter in letters)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{process.port}") as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert (await client.get("/asyncapi.json")).json()["asyncapi"] == "3.0.0"
        metrics = (await client.get("/metrics/")).text
    assert 'ledger_dead_letters_total{reason="malformed"} 6.0' in metrics
    assert process.stop() == 0


async def test_what_flows_is_what_the_asyncapi_document_describes(stage: Stage) -> None:
    """Every topic, every message; of the entries, each org's journal from its first one on, in sequence."""
    await stage.produce(events(1, 4_000, poison_every=2_000))
    stage.start("usage", "pulse", "relay", "keys", "entries")
    await stage.until_booked()
    await stage.until_published()
    heads = await stage.heads()
    entries = await stage.until_read("ledger.entries", sum(heads.values()))
    seqs: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        seqs[entry["data"]["org"]].append(entry["data"]["seq"])
    assert seqs == {org: list(range(1, last + 1)) for org, last in heads.items()}
    sent = [msgspec.json.decode(event.value) for event in stage.sent if event.nanos is not None]
    keys = {"ledger.key.pause.v1"}
    assert check_described("usage", sent) == {"llm.usage.v1"}
    assert check_described("usage.dead", await stage.until_read("usage.dead", 2)) == {"ledger.usage.dead.v1"}
    assert check_described("ledger.breaches", await stage.read("ledger.breaches")) == {"ledger.cap.threshold.v1", "ledger.cap.breached.v1"}
    assert check_described("ledger.key-commands", await stage.read("ledger.key-commands")) == keys
    assert check_described("ledger.key-status", await stage.read("ledger.key-status")) == keys
    assert check_described("ledger.entries", entries) == {"ledger.entry.v1"}
