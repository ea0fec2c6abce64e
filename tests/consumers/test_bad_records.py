"""Records nobody would want: each has its place, its neighbours are booked, and the consumer goes on, or stops with words."""

import asyncio
import base64
import contextlib
import json
import time
import uuid
from collections.abc import Sequence

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from sqlalchemy import text

from tests.consumers.harness import Event, Stage, TakenBack, events, ledger, transaction
from tests.consumers.test_topics import set_settings

Sent = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]


def event(event_id: str, org: str = "org-0", **envelope: object) -> bytes:
    data = {"org": org, "workspace": "w", "key": "key-0", "cost_usd": "0.01"}
    body = {"specversion": "1.0", "type": "llm.usage.v1", "source": "test", "id": event_id, "time": "2026-11-25T09:00:00Z", "data": data}
    return json.dumps(body | envelope).encode()


async def send(stage: Stage, records: Sequence[Sent], most_bytes: int = 1 << 20, partition: int | None = None) -> None:
    producer = AIOKafkaProducer(**stage.kafka.client(), max_request_size=most_bytes, acks="all")
    await producer.start()
    try:
        for key, value, headers in records:
            while True:
                try:
                    await producer.send_and_wait(stage.kafka.topic("usage"), value, key=key, headers=list(headers), partition=partition)
                    break
                except MessageSizeTooLargeError:  # the broker has not learned from its controller yet that it may be as large
                    await asyncio.sleep(0.1)
    finally:
        await producer.stop()


async def send_unnamed(stage: Stage, values: Sequence[bytes], nameless: int, partition: int) -> None:
    """One batch of records; the name of a header of one of them is not UTF-8, which the client library sends for nobody."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1 << 20)
    for at, value in enumerate(values):
        builder.append(at, int(time.time() * 1000), b"org-0", value, [(Unnamed() if at == nameless else "other", b"x")])
    producer = AIOKafkaProducer(**stage.kafka.client(), acks="all")
    await producer.start()
    try:
        batch = producer.create_batch()
        batch._builder, batch._relative_offset = builder, len(values)
        await (await producer.send_batch(batch, stage.kafka.topic("usage"), partition=partition))
    finally:
        await producer.stop()


class Unnamed(str):
    def encode(self, *_: object) -> bytes:
        return b"ce_\xff\xfe"


async def test_every_bad_record_is_a_dead_letter_and_its_neighbours_are_booked(stage: Stage) -> None:
    """T4, T5: never its body; what is good among it is booked, also in binary mode, in base64, and under a key that disagrees."""
    await set_settings(stage, "usage", {"max.message.bytes": str(16 << 20)})
    structured = [("content-type", b"application/cloudevents+json")]
    binary = [("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_type", b"llm.usage.v1"), ("ce_source", b"test"),
              ("ce_id", b"binary-1"), ("ce_time", b"2026-11-25T09:00:00Z")]  # fmt: skip
    packed = json.loads(event("packed"))
    packed["data_base64"] = base64.b64encode(json.dumps(packed.pop("data")).encode()).decode()
    good: list[Sent] = [
        (b"org-0", json.dumps(packed).encode(), structured),
        (b"org-0", event("a"), structured), (b"somebody-else", event("b"), ()), (None, event("c", org="org-nobody-knows"), ()),
        (b"org-0", b'{"org":"org-0","workspace":"w","key":"key-0","cost_usd":"0.01"}', binary),
    ]  # fmt: skip
    secret = b"what was said"
    bad: list[Sent] = [
        (b"org-0", b"", ()), (b"org-0", None, ()), (b"org-0", b"{" + secret, ()), (b"org-0", event("d"), [("content-type", b"text/plain")]),
        (b"org-0", event("e"), [("content-type", b"\xff\xfe")]), (b"org-0", event("f", specversion="9.0"), ()),
        (b"org-0", event("g", type="llm.usage.v99"), ()), (b"org-0", event("h" * 4096), ()),
        (b"org-0", event("old", time="1999-12-31T23:59:59Z"), ()), (b"org-0", json.dumps({"x": secret.decode() * 800_000}).encode(), ()),
    ]  # fmt: skip
    await send(stage, [*good, *bad, (b"org-0", event("z"), [("other", b"\xff")])], 16 << 20)
    process = stage.start("usage", "relay")
    letters = await stage.until_read("usage.dead", len(bad))
    assert len(letters) == len(bad)
    await stage.until_booked(extra=len(good) + 1)
    assert all(secret.decode() not in json.dumps(letter) for letter in letters)
    assert sorted(letter["data"]["reason"] for letter in letters) == ["before_2000"] + ["malformed"] * (len(bad) - 1)
    async with stage.database.reader.connect() as connection:
        query = "SELECT event_id FROM journal WHERE kind = 'UsageRecorded' ORDER BY event_id"
        rows = list(await connection.scalars(text(query)))
    assert rows == ["a", "b", "binary-1", "c", "packed", "z"]
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://127.0.0.1:{process.port}/metrics/")).text
    assert "ledger_record_key_mismatches_total 1.0" in metrics
    listed = json.loads(await asyncio.to_thread(ledger, stage, "dead", "list", "--format", "json"))
    assert len(listed) == len(bad)
    shown = await asyncio.to_thread(ledger, stage, "dead", "show", listed[0]["place"])
    assert "still unreadable" in shown
    again = await asyncio.to_thread(ledger, stage, "dead", "replay")
    assert "sent again 1, still unreadable 9" in again  # the one before the year 2000 reads well


async def test_a_header_whose_name_is_not_utf_8_is_one_dead_letter_and_its_fetch_is_booked(stage: Stage) -> None:
    """The client library raises for the whole fetch, other partitions included: nothing is lost of them, nothing passed over."""
    await stage.produce(events(1, 400))
    for partition in (1, 4, 4):
        await send_unnamed(stage, [event(uuid.uuid4().hex) for _ in range(5)], 2, partition)
    await send_unnamed(stage, [event("first")], 0, 1)
    await send_unnamed(stage, [event("last"), event("after")], 0, 1)
    stage.start("usage", "relay")
    letters = await stage.until_read("usage.dead", 5)
    assert {letter["data"]["detail"] for letter in letters} == {r"the name of a header is not UTF-8: b'ce_\xff\xfe'"}
    await stage.until_booked(extra=3 * 4 + 1)
    assert len(await stage.read("usage.dead")) == 5
    again = await asyncio.to_thread(ledger, stage, "dead", "replay")
    assert "still unreadable 5" in again


async def test_beside_a_header_that_is_not_utf_8_what_a_transaction_took_back_is_not_booked(stage: Stage) -> None:
    """The fetch that is read without the client library holds it all."""
    topic = stage.kafka.topic("usage")
    await send_unnamed(stage, [event("good"), event("nameless")], 1, 1)
    with contextlib.suppress(TakenBack):
        async with transaction(stage, "regrets") as producer:
            await producer.send_and_wait(topic, event("taken back"), key=b"org-0", partition=1)
            raise TakenBack
    async with transaction(stage, "means it") as producer:
        await producer.send_and_wait(topic, event("meant"), key=b"org-0", partition=1)
    async with transaction(stage, "undecided") as producer:
        await producer.send_and_wait(topic, event("not sent yet"), key=b"org-0", partition=1)
        stage.start("usage", "relay")
        await stage.until_booked(extra=2)
        async with stage.database.reader.connect() as connection:
            rows = list(await connection.scalars(text("SELECT event_id FROM journal WHERE kind = 'UsageRecorded' ORDER BY event_id")))
        assert rows == ["good", "meant"]
    await stage.until_booked(extra=3)
    assert len(await stage.read("usage.dead")) == 1


@pytest.mark.parametrize("key", [b"noisy", None], ids=["by its key", "without a key, so in every partition"])
async def test_one_senders_garbage_stops_nobody(stage: Stage, key: bytes | None) -> None:
    await send(stage, [(key, b"garbage", ())] * 1_500)
    await stage.produce(events(1, 200))
    stage.start("usage", "relay")
    await stage.until_booked()
    await stage.until_published()
    await stage.check()


async def test_when_nobodys_records_can_be_read_the_consumer_stops_with_words(stage: Stage) -> None:
    """Rather than dead-letter everything: nothing is lost, it lies in the topic."""
    made = [Event(f"org-{n % 3}", "", b'{"schema":"of the future"}', None) for n in range(4_000)]
    await stage.produce(made)
    process = stage.start("usage")
    assert await asyncio.to_thread(process.popen.wait, 60) == 1
    assert "could not be read" in process.log()
    process.expects_death = True


async def test_an_org_that_nobody_declared_is_parked_where_orgs_must_be(stage: Stage) -> None:
    """It can be sent again once it is declared; the others are booked."""
    await send(stage, [(b"nobody", event("parked", org="nobody"), ())])
    await stage.produce(events(1, 200))
    stage.start("usage", "relay", LEDGER_DECLARED_ORGS_ONLY="true")
    await stage.until_booked()
    async with stage.database.reader.connect() as connection:
        rows = [tuple(row) for row in await connection.execute(text("SELECT org, reason FROM parked"))]
    assert rows == [("nobody", "unknown_org")]
    assert "nobody" not in await stage.heads()
    assert await stage.read("usage.dead") == []
    await stage.check()
