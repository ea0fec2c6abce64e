"""Usage through Kafka into PostgreSQL and out again as key commands, in one process or several."""

import httpx

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
