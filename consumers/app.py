"""Owns how consumers are put together in one process: a broker, a door to the books, and the loops that were named.

FastStream is the shell: it connects, subscribes, and stops in order. Its handlers get raw records, whole batches of them.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from consumers.asyncapi import document
from consumers.entries import publish_once
from consumers.health import serving
from consumers.keys import accept
from consumers.polling import Polling
from consumers.relay import relay_once
from consumers.usage import UsageConsumer
from consumers.watchdog import Watchdog
from ledger.agent import Agent
from ledger.chores import run as run_chores
from ledger.collector import spare_the_collector
from ledger.core.connections import Connection
from ledger.gateways.channels import Channel
from ledger.gateways.gateway import Gateway
from ledger.gauges import showing_gauges
from ledger.kafka import ISOLATION, Kafka, producing
from ledger.loop import Chore, repeat
from ledger.notifier import NOTIFIER_IDLE_S, Notifier
from ledger.pricing import Pricer
from ledger.pulse import pulse_once
from ledger.rollup import RESTS, rollup_once
from ledger.service import Service
from ledger.store.dialect import listen
from ledger.store.schema import why_unready
from ledger.wire.messages import BREACHES, ENTRIES, KEY_COMMANDS, KEY_STATUS, USAGE, USAGE_DEAD

TOPICS_OF = {  # what each consumer reads and writes
    "usage": (USAGE, USAGE_DEAD), "pulse": (), "relay": (BREACHES, KEY_COMMANDS, KEY_STATUS), "keys": (KEY_COMMANDS,),
    "entries": (ENTRIES,),
}  # fmt: skip
FETCH_WAIT_MS = 100
SLOW_S = 5.0
END_S = 9.0  # after the signal, and longer than usage takes to book what it has in hand

log = structlog.get_logger()


class Consumers:
    """The consumers of one process."""

    def __init__(
        self, names: Sequence[str], service: Service, kafka: Kafka, open_gateway: Callable[[Connection], Gateway],
        channels: Sequence[Channel] = (), chores: Sequence[Chore] = (),
    ) -> None:  # fmt: skip
        self.names, self.service, self.kafka = names, service, kafka
        self.broker = KafkaBroker(
            kafka.bootstrap.split(","), security=_security(kafka), logger=None, apply_types=False, client_id="ledger", graceful_timeout=10,
            allow_auto_create_topics=False,
        )  # fmt: skip
        self.app = FastStream(self.broker, logger=None)
        self.fatal: BaseException | None = None
        self._accepted = asyncio.Event()
        self._agent = Agent(service, open_gateway, self._accepted) if "keys" in names else None
        self._chores = chores
        self._notifier = Notifier(service, channels) if channels and "relay" in names else None
        self._usage: UsageConsumer | None = None
        self._watchdog: Watchdog | None = None

    async def run(self, host: str, port: int) -> None:
        """Runs until a signal or a failure that a new start may heal, which is raised."""
        self.app.on_shutdown(self._end_in_time)
        async with AsyncExitStack() as stack:
            producer = await stack.enter_async_context(producing(self.kafka))
            if port:
                registry = self.service.metrics.registry
                await stack.enter_async_context(serving(host, port, registry, document(self.kafka), lambda: self._dead, self._unready))
            if "usage" in self.names:
                self._subscribe_usage(producer)
            if "keys" in self.names:
                self._subscribe_keys()
            await stack.enter_async_context(self._loops(producer))
            if "pulse" in self.names:
                await stack.enter_async_context(showing_gauges(self.service))
            spare_the_collector()
            log.info("consuming", consumers=",".join(self.names))
            await self.app.run()
        if self.fatal is not None:
            raise self.fatal

    @property
    def _dead(self) -> str | None:
        if self._watchdog is not None and self._watchdog.verdict:
            return self._watchdog.verdict
        return None if self.fatal is None else f"{type(self.fatal).__name__}: {self.fatal}"

    async def _unready(self) -> str | None:
        trouble = None if self._usage is None else self._usage.trouble
        return trouble or await why_unready(self.service.database.writer)

    def fail(self, error: BaseException) -> None:
        """Ends the process: what was not acknowledged is taken again by the next start."""
        if self.fatal is None:
            self.fatal = error
            log.error("ending", error=type(error).__name__, why=str(error)[:500])
            self.app.exit()

    async def _end_in_time(self) -> None:
        """A broker that is away keeps whoever has something to send to it or to leave there, for as long as a request lasts. What is not
        acknowledged by then is taken again by the next start, as after any other end."""

        def end() -> None:
            log.warning("ended_unfinished", after_s=END_S)
            os._exit(0 if self.fatal is None else 1)

        asyncio.get_running_loop().call_later(END_S, end)

    def _subscribe(self, topic: str, group: str, handle: Callable[[Sequence[Any], AIOKafkaConsumer], Awaitable[None]], **more: Any) -> Any:
        async def light(raw: Any) -> KafkaAckableMessage:
            return KafkaAckableMessage(
                body=b"", headers={}, raw_message=raw, consumer=subscriber.consumer, message_id="", correlation_id=""
            )  # fmt: skip

        async def undecoded(message: KafkaAckableMessage) -> KafkaAckableMessage:
            return message

        subscriber: Any = self.broker.subscriber(
            self.kafka.topic(topic), batch=True, group_id=group, auto_offset_reset="none", ack_policy=AckPolicy.MANUAL,
            parser=light, decoder=undecoded, fetch_max_wait_ms=FETCH_WAIT_MS, isolation_level=ISOLATION, **more,
        )  # fmt: skip

        polling = Polling(self.kafka, self.service.metrics.gaps)

        async def poll(client: AIOKafkaConsumer) -> Any:
            try:
                return await polling.poll(client)
            except ConsumerStoppedError:
                raise
            except KafkaError as error:
                log.warning("nothing_polled", topic=topic, error=type(error).__name__, why=str(error)[:300])
                raise
            except Exception as error:  # polling on might pass over what was in hand
                self.fail(error)
                raise ConsumerStoppedError from error

        subscriber.get_msg = poll

        @subscriber
        async def handler(message: Any) -> None:
            records = message.raw_message
            message.raw_message = ()  # FastStream's messages form cycles: the records must not wait for the collector
            if subscriber.consumer is not None:
                await handle(records, subscriber.consumer)

        return subscriber

    def _subscribe_usage(self, producer: AIOKafkaProducer) -> None:
        group = self.kafka.topic("ledger-usage")
        consumer = self._usage = UsageConsumer(self.service, self.kafka, producer, self.fail)
        self._watchdog = Watchdog(self.kafka, group, self.kafka.topic(USAGE))

        async def handle(records: Sequence[Any], _: AIOKafkaConsumer) -> None:
            await consumer.take(records)

        subscriber = self._subscribe(USAGE, group, handle, listener=consumer)
        consumer.client = lambda: subscriber.consumer
        consumer.pressed = lambda: self._agent is not None and self._agent.pressed
        self.app.on_shutdown(consumer.stop)

    def _subscribe_keys(self) -> None:
        async def handle(records: Sequence[Any], client: AIOKafkaConsumer) -> None:
            try:
                await accept(self.service, records, self._accepted)
                await client.commit()
            except KafkaError as error:  # after a rebalance, say: they are taken in once more, which changes nothing
                log.warning("offsets_not_committed", topic=KEY_COMMANDS, why=str(error)[:200])
            except Exception as error:
                self.fail(error)

        self._subscribe(KEY_COMMANDS, self.kafka.topic("ledger-keys"), handle)

    @asynccontextmanager
    async def _loops(self, producer: AIOKafkaProducer) -> AsyncIterator[None]:
        service, kafka, never = self.service, self.kafka, asyncio.Event()
        loops: list[Awaitable[None]] = []
        if self._usage is not None and self._watchdog is not None:
            loops += [self._usage.commit_for_ever(), self._watch(self._usage, self._watchdog)]
        if "pulse" in self.names:
            loops += [
                repeat("pulse", lambda: pulse_once(service), never),
                repeat("pricing", Pricer(service).once, never, SLOW_S),
                repeat("rollup", lambda: rollup_once(service), never, SLOW_S, RESTS),
            ]
        if "relay" in self.names:
            loops += [repeat("relay", lambda: relay_once(service, kafka, producer), service.news), self._listen()]
        if self._agent is not None:
            loops += [repeat("agent", self._agent.step, self._accepted), run_chores(service, self._chores)]
        if self._notifier is not None:
            loops.append(repeat("notifier", self._notifier.once, never, NOTIFIER_IDLE_S))
        if "entries" in self.names:
            loops.append(repeat("entries", lambda: publish_once(service, kafka, producer), never))
        tasks = [asyncio.ensure_future(loop) for loop in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            if self._agent is not None:
                await self._agent.close()
            if self._notifier is not None:
                await self._notifier.close()

    async def _listen(self) -> None:
        async def step() -> int:
            await listen(self.service.database, self.service.news)
            return 0

        await repeat("listen", step, asyncio.Event(), SLOW_S)

    async def _watch(self, usage: UsageConsumer, watchdog: Watchdog) -> None:
        def mine() -> set[TopicPartition]:
            client = usage.client()
            return set() if client is None else set(client.assignment())

        try:
            await watchdog.watch(mine, lambda: usage.trouble is not None)
        except Exception as error:
            self.fail(error)


def _security(kafka: Kafka) -> BaseSecurity | None:
    """FastStream's own form of what aiokafka is given."""
    context = kafka.client().get("ssl_context")
    if not kafka.protocol.startswith("SASL"):
        return None if context is None else BaseSecurity(ssl_context=context, use_ssl=True)
    kinds = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kinds[kafka.mechanism](kafka.username or "", kafka.password or "", ssl_context=context, use_ssl=context is not None)
