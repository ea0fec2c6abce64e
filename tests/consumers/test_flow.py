"""Usage through Kafka into PostgreSQL and out again as key commands, in one process or several."""

import asyncio
import re
import time
from collections import defaultdict

import httpx
import msgspec
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ledger.core.commands import RecordUsage, Status
from ledger.kafka import door, producing
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.wire.usage import parse_usage
from tests.consumers.described import check_described
from tests.consumers.harness import PARTITIONS, Process, Stage, events
from tests.consumers.test_bad_records import event, send

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def exemplars(port: int) -> list[tuple[str, str]]:
    """The exemplars of a scrape: (metric, trace)."""
    async with httpx.AsyncClient(headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics/")).text
    found = [(family.name, s.exemplar) for family in text_string_to_metric_families(text) for s in family.samples]
    return [(name, exemplar.labels["trace_id"]) for name, exemplar in found if exemplar is not None]


async def test_the_trace_of_a_record_is_an_exemplar_of_the_time_of_its_batch(stage: Stage) -> None:
    process = stage.start("usage")
    await process.until_ready()
    attributes = (b"1.0", b"llm.usage.v1", b"test", b"binary", b"2026-11-25T09:00:00Z", TRACEPARENT.replace("4bf9", "0000").encode())
    names = ("ce_specversion", "ce_type", "ce_source", "ce_id", "ce_time", "ce_traceparent")
    binary = [("content-type", b"application/json"), *zip(names, attributes, strict=True)]
    records = [(event("plain"), ()), (event("structured", traceparent=TRACEPARENT), ()), (b'{"org":"org-0","key":"key-0"}', binary)]
    seen: list[list[tuple[str, str]]] = []
    for booked, (value, headers) in enumerate(records, 1):
        await send(stage, [(b"org-0", value, headers)])
        await stage.until_booked(extra=booked)
        seen.append(await exemplars(process.port))
    assert seen[0] == []
    assert seen[1] == [("ledger_batch_seconds", TRACE)]
    assert ("ledger_batch_seconds", TRACE.replace("4bf9", "0000")) in seen[2]


async def test_the_trace_of_a_request_is_an_exemplar_where_its_usage_is_booked(stage: Stage) -> None:
    process = stage.start("usage")
    await process.until_ready()
    service = Service(stage.database, Metrics())
    async with producing(stage.kafka) as producer:
        service.hand_over = door(producer, stage.kafka)
        for booked, trace in enumerate(("x" * 1000, TRACEPARENT), 1):
            usage = parse_usage(event(f"by-http-{booked}"), None)
            assert isinstance(usage, RecordUsage)
            assert [result.status for result in await service.receive([usage], usage.usage.org, trace)] == [Status.ACCEPTED]
            await stage.until_booked(extra=booked)
    assert ("ledger_batch_seconds", TRACE) in await exemplars(process.port)


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


async def test_a_partitions_lag_is_shown_by_the_consumer_that_has_it_and_by_no_other(stage: Stage) -> None:
    """Also where nothing comes in. What one that lost it last saw would stay, and an alert with it."""
    first = stage.start("usage")
    assert len(await until_lags(first, PARTITIONS)) == PARTITIONS
    second = stage.start("usage")
    shown = await until_lags(second, PARTITIONS // 2), await until_lags(first, PARTITIONS // 2)
    assert shown[0] | shown[1] == {str(n) for n in range(PARTITIONS)}


async def until_lags(process: Process, count: int) -> set[str]:
    """The partitions whose lag a consumer shows, once they are so many; they are idle, so it is none."""
    lags: dict[str, str] = {}
    until = time.monotonic() + 90
    await process.until_ready(60)
    async with httpx.AsyncClient() as client:
        while len(lags) != count:
            assert time.monotonic() < until, lags
            await asyncio.sleep(0.1)
            text = (await client.get(f"http://127.0.0.1:{process.port}/metrics/")).text
            lags = dict(re.findall(r'^ledger_lag_\w+\{partition="(\d)",topic="usage"\} (.+)$', text, re.M))
    assert set(lags.values()) == {"0.0"}
    return set(lags)
