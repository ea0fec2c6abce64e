"""Owns what everything of ours that speaks to Kafka shares: how it is reached, the topics, and one way of publishing."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError, TopicAlreadyExistsError, for_code
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from .core.commands import RecordUsage
from .wire.events import HandOver, NotTaken, encode_event
from .wire.messages import BREACHES, ENTRIES, KEY_COMMANDS, KEY_STATUS, USAGE, USAGE_DEAD

T = TypeVar("T")
HAND_OVER_S = 15.0
ONE_AWAY_S = 15.0  # longer than brokers take to notice that one is away (broker.session.timeout.ms: 9 s)
_AGAIN_S = 0.25
MOST_TRACE = 128  # characters; a traceparent has 55, and it is repeated on every record
ISOLATION: Literal["read_committed"] = "read_committed"  # what a producer's transaction took back was never sent
MOST_PUBLISHED_BYTES = 1024 * 1024
BATCH_BYTES = 128 * 1024  # of one partition, for which the next waits until the broker has acknowledged it
FEWEST_TOGETHER = 100  # records of one caller, for batches of their own
_WEEK_MS, _MONTH_MS = 7 * 86_400_000, 30 * 86_400_000
_SET_ON_TOPIC = 1  # where a setting comes from, in an answer of the broker


class Kafka(NamedTuple):
    """How a cluster is reached, and what stands before every topic's name."""

    bootstrap: str
    prefix: str = ""
    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def topic(self, name: str) -> str:
        """A topic's full name."""
        return self.prefix + name

    def client(self) -> dict[str, Any]:
        """What aiokafka's clients are given to connect."""
        given: dict[str, Any] = {"bootstrap_servers": self.bootstrap, "security_protocol": self.protocol, "client_id": "ledger"}
        if self.protocol.endswith("SSL"):
            given["ssl_context"] = tls(self.cafile, self.certfile, self.keyfile)
        if self.protocol.startswith("SASL"):
            given |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.username, "sasl_plain_password": self.password}
        return given


def tls(cafile: str | None, certfile: str | None, keyfile: str | None) -> ssl.SSLContext:
    """How a broker's certificate is checked, and what is shown to a broker that asks for one: a certificate, whose key may lie in the
    same file. Raises OSError, of which SSLError is one."""
    context = ssl.create_default_context(cafile=cafile)
    if certfile is not None:
        context.load_cert_chain(certfile, keyfile, password="")  # where a key is encrypted, nobody is asked at a terminal
    return context


class Topic(NamedTuple):
    """A topic and its settings. `split`: whether it takes the number of partitions that is asked for, or a single one."""

    name: str
    about: str
    config: dict[str, str]
    split: bool = True


TOPICS = (
    Topic(USAGE, "usage events in, keyed by org", {"retention.ms": str(_WEEK_MS)}),
    Topic(USAGE_DEAD, "what could not be read: why, and where it lies", {"retention.ms": str(_MONTH_MS)}, split=False),
    Topic(BREACHES, "caps breached, cleared, thresholds reached, keyed by org", {"retention.ms": str(_MONTH_MS)}),
    Topic(KEY_COMMANDS, "pause, resume and revoke, keyed by org/key", {"retention.ms": str(_MONTH_MS)}),
    Topic(KEY_STATUS, "the newest state of each key, keyed by org/key", {"cleanup.policy": "compact"}),
    Topic(ENTRIES, "every journal entry in sequence, keyed by org", {"retention.ms": str(_MONTH_MS)}),
)


@asynccontextmanager
async def admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client for the block. Raises aiokafka.errors.KafkaError where the cluster does not answer."""
    client = AIOKafkaAdminClient(**kafka.client(), request_timeout_ms=10_000)
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def answer(ask: Callable[[], Awaitable[T]]) -> T:
    """What the cluster answers an admin client. That asks a broker at random, of those that were there a while ago: where one is
    away it is asked again, for as long as the others may take to notice. Raises aiokafka.errors.KafkaError."""
    give_up_s = time.monotonic() + ONE_AWAY_S
    while True:
        try:
            return await ask()
        except (NodeNotReadyError, KafkaConnectionError):
            if time.monotonic() >= give_up_s:
                raise
        await asyncio.sleep(_AGAIN_S)


async def missing_topics(client: AIOKafkaAdminClient, kafka: Kafka, names: Iterable[str]) -> list[str]:
    """Which of these topics are not there, by their full names. Raises aiokafka.errors.KafkaError."""
    known = set(await answer(client.list_topics))
    return [name for name in map(kafka.topic, names) if name not in known]


async def create_topics(kafka: Kafka, partitions: int, replication: int) -> dict[str, int | None]:
    """Creates the topics that are not there; of those that are, the settings are set. By name, how many partitions it had already,
    None where it was created.

    Raises aiokafka.errors.KafkaError.
    """
    made: dict[str, int | None] = {}
    async with admin(kafka) as client:
        for topic in TOPICS:
            name = kafka.topic(topic.name)
            config = topic.config | _in_sync(replication)
            new = NewTopic(name, partitions if topic.split else 1, replication, topic_configs=config)
            told: Any = await answer(partial(client.create_topics, [new]))
            _, code, said = told.topic_errors[0]
            if code and code != TopicAlreadyExistsError.errno:
                raise for_code(code)(said)
            made[name] = await answer(partial(_set, client, name, topic.config)) if code else None
    return made


def _in_sync(copies: int) -> dict[str, str]:
    """One copy may be away; more than are there can't be asked for, or nothing could be written."""
    return {"min.insync.replicas": str(copies - 1)} if copies > 2 else {}


async def _set(client: AIOKafkaAdminClient, name: str, config: dict[str, str]) -> int:
    """Sets our settings of a topic that is there, and leaves those that others have set; how many partitions it has.

    To alter replaces all that were ever set, so they are read first.
    """
    (topic,) = await client.describe_topics([name])
    said: list[Any] = await client.describe_configs([_resource(name)])
    ((*_, entries),) = said[0].resources
    theirs = {setting: value for setting, value, _, source, *_ in entries if source == _SET_ON_TOPIC}
    copies = min(len(partition["replicas"]) for partition in topic["partitions"])
    answers: list[Any] = await client.alter_configs([_resource(name, theirs | config | _in_sync(copies))])
    ((code, why, *_),) = answers[0].resources
    if code:
        raise for_code(code)(why)
    return len(topic["partitions"])


def _resource(name: str, config: dict[str, str] | None = None) -> ConfigResource:
    return ConfigResource(ConfigResourceType.TOPIC, name, configs=config)


@asynccontextmanager
async def producing(kafka: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    """An idempotent producer for the block: a record that it acknowledged is on every replica in sync."""
    producer = AIOKafkaProducer(
        **kafka.client(), acks="all", enable_idempotence=True, linger_ms=0, max_request_size=MOST_PUBLISHED_BYTES,
        max_batch_size=BATCH_BYTES, partitioner=partition_of,  # type: ignore[arg-type]  # any callable does
    )  # fmt: skip
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


def partition_of(key: bytes, partitions: Sequence[int], _: Sequence[int]) -> int:
    """Where Kafka's own clients put a key."""
    return partitions[(_hash(key) & 0x7FFF_FFFF) % len(partitions)]


_hash = lru_cache(65_536)(murmur2)  # 20 us for a key, and an org's comes with each of its events


def door(producer: AIOKafkaProducer, kafka: Kafka) -> HandOver:
    """Usage that came in by HTTP on its way to the topic, its trace with it: acknowledged by every replica in sync, or NotTaken."""

    async def hand_over(usage: Sequence[RecordUsage], trace: str | None) -> None:
        records = [(kafka.topic(USAGE), command.usage.org.encode(), encode_event(command)) for command in usage]
        try:
            async with asyncio.timeout(HAND_OVER_S):
                await publish(producer, records, trace if trace is not None and len(trace) <= MOST_TRACE else None)
        except (KafkaError, TimeoutError) as error:
            raise NotTaken(f"Kafka does not take it: {type(error).__name__}") from error

    return hand_over


Record = tuple[str, bytes, bytes]  # topic, key, value
_JSON = [("content-type", b"application/cloudevents+json")]


async def publish(producer: AIOKafkaProducer, records: Sequence[Record], trace: str | None = None) -> None:
    """Publishes structured CloudEvents, in order for each key; returns when all are acknowledged. Raises KafkaError, once none of
    them is under way any more: whoever holds a lock meanwhile may let it go then."""
    headers = _JSON if trace is None else [*_JSON, ("traceparent", trace.encode())]
    send = _together if len(records) >= FEWEST_TOGETHER else _each
    sent: list[asyncio.Future[Any]] = []
    try:
        async for answer in send(producer, records, headers):
            sent.append(answer)
    except KafkaError:
        await asyncio.gather(*sent, return_exceptions=True)
        raise
    await asyncio.gather(*sent, return_exceptions=True)
    for answer in sent:
        answer.result()


async def _each(producer: AIOKafkaProducer, records: Sequence[Record], headers: Sequence[tuple[str, bytes]]) -> AsyncIterator[Any]:
    """Sends records each by itself, to be joined with what others send at the same moment; their answers."""
    for topic, key, value in records:
        yield await producer.send(topic, value, key=key, headers=headers)


async def _together(producer: AIOKafkaProducer, records: Sequence[Record], headers: Sequence[tuple[str, bytes]]) -> AsyncIterator[Any]:
    """Sends records in batches that hold no others, for half the work of sending each by itself; the batches' answers."""
    partitions = {topic: sorted(await producer.partitions_for(topic)) for topic in {topic for topic, _, _ in records}}
    batches: dict[tuple[str, int], BatchBuilder] = {}
    for topic, key, value in records:
        place = topic, partition_of(key, partitions[topic], ())
        batch = batches.get(place)
        if batch is None or batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            if batch is not None:  # it is full
                yield await producer.send_batch(batch, topic, partition=place[1])
            batch = batches[place] = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
    for (topic, partition), batch in batches.items():
        yield await producer.send_batch(batch, topic, partition=partition)
