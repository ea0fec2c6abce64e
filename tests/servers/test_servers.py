"""The servers that the other tests stand on are real, and come back with their data after a stop and after a kill -9."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from tests.servers.kafka import Server, own_kafka
from tests.servers.postgres import own_postgres
from tests.servers.prometheus import Server as Prometheus


async def _produce(server: Server, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=server.bootstrap, enable_idempotence=True, compression_type="lz4") as producer:
        await producer.send_and_wait(topic, value)


async def _consume(server: Server, topic: str, count: int) -> list[bytes | None]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=server.bootstrap, auto_offset_reset="earliest") as consumer:
        return [(await asyncio.wait_for(anext(consumer), 20)).value for _ in range(count)]


def test_a_record_produced_is_a_record_consumed(kafka: Server) -> None:
    kafka.create_topic("said")
    asyncio.run(_produce(kafka, "said", b"hello"))
    assert asyncio.run(_consume(kafka, "said", 1)) == [b"hello"]


@pytest.mark.slow
@pytest.mark.parametrize("end", [Server.stop, Server.kill])
def test_a_kafka_that_was_ended_comes_back_with_its_records_on_its_port(end: Callable[[Server], None]) -> None:
    with own_kafka() as server:
        server.create_topic("kept")
        asyncio.run(_produce(server, "kept", b"before"))
        end(server)
        server.start()
        asyncio.run(_produce(server, "kept", b"after"))
        assert asyncio.run(_consume(server, "kept", 2)) == [b"before", b"after"]


@pytest.mark.slow
def test_three_nodes_lose_nothing_and_go_on_when_one_is_killed() -> None:
    with own_kafka(nodes=3) as server:
        server.create_topic("kept", min_insync_replicas="2")
        asyncio.run(_produce(server, "kept", b"before"))
        server.kill(node=0)
        asyncio.run(_produce(server, "kept", b"without it"))
        server.start(node=0)
        assert asyncio.run(_consume(server, "kept", 2)) == [b"before", b"without it"]


def test_a_postgres_killed_with_minus_9_keeps_what_was_committed() -> None:
    async def run(sql: str) -> list:
        connection = await asyncpg.connect(server.url)
        try:
            return await connection.fetch(sql)
        finally:
            await connection.close()

    with own_postgres() as server:
        asyncio.run(run("CREATE TABLE kept (n int)"))
        asyncio.run(run("INSERT INTO kept VALUES (7)"))
        server.kill()
        with pytest.raises(OSError):
            asyncio.run(run("SELECT 1"))
        server.start()
        server.stop()
        server.start()
        assert asyncio.run(run("SELECT n FROM kept")) == [(7,)]


def test_a_prometheus_answers_in_its_own_words(prometheus: Callable[..., AbstractContextManager[Prometheus]]) -> None:
    with prometheus({"global": {"scrape_interval": "1s"}}) as server:
        assert server.query("1 + 1") == [({}, 2.0)]
        with pytest.raises(ValueError, match=r"parse error.*nonsense\("):
            server.query("nonsense(")
