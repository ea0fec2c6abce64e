"""Owns who spends in the figures of the Kafka pipeline, and the topic that is filled with their usage."""

import asyncio
import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder

from ledger.core.caps import Action, Guardrail, Rule
from ledger.core.commands import Command, SetCap, SetGuardrail, SetOrg
from ledger.core.money import USD, Nanos
from ledger.core.window import Period
from ledger.kafka import Kafka

DUPLICATES, PARTITIONS = 0.05, 8
MODELS = ("openai/gpt-5", "anthropic/claude-opus-4-6", "anthropic/claude-sonnet-5", "google/gemini-3-pro", "openai/gpt-5-mini")
ZONES = ("America/New_York", "Europe/Berlin")
NEVER = Nanos(1_000_000_000 * USD)  # limits that are looked at by every event and reached by none


class Population(NamedTuple):
    """Who spends: (org, workspace, key), how often each, and what stands on them."""

    name: str
    keys: list[tuple[str, str, str]]
    weights: list[float] | None
    orders: list[Command]


def _rule(period: Period) -> Rule:
    return Rule(period=period, limit=NEVER, action=Action.PAUSE, thresholds=(50, 80))


def narrow() -> Population:
    """20 orgs in two zones, 2,880 keys, a cap on every key, workspace and org."""
    keys, orders = list[tuple[str, str, str]](), list[Command]()
    for n in range(20):
        org = f"org-{n:04d}"
        orders.append(SetOrg(org=org, by="bench", time_zone=ZONES[n % 2]))
        orders.append(SetCap(org=org, by="bench", cap="org", scope="org", rule=_rule(Period.MONTH)))
        for w in range(3):
            workspace = f"ws-{n * 3 + w}"
            orders.append(SetCap(org=org, by="bench", cap=workspace, scope=f"workspace:{workspace}", rule=_rule(Period.WEEK)))
            for k in range(48):
                key = f"key-{hashlib.sha256(f'{n}/{w}/{k}'.encode()).hexdigest()[:40]}"
                keys.append((org, workspace, key))
                orders.append(SetCap(org=org, by="bench", cap=key[:20], scope=f"key:{key}", rule=_rule(Period.DAY)))
    return Population("narrow", keys, None, orders)


def wide() -> Population:
    """2,000 orgs, 100,000 keys that nobody has seen yet, under guardrails for every key and workspace."""
    draw = random.Random(7)
    orgs = [f"org-{n:04d}" for n in range(2_000)]
    owners = draw.choices(range(2_000), weights=[1 / (n + 1) ** 0.8 for n in range(2_000)], k=100_000)
    names = [f"key-{hashlib.sha256(f'L{n}'.encode()).hexdigest()[:40]}" for n in range(100_000)]
    keys = [(orgs[owner], f"ws-{owner}-{draw.randrange(5)}", name) for owner, name in zip(owners, names, strict=True)]
    weights = [1 / (n + 1) ** 0.7 for n in range(100_000)]
    draw.shuffle(weights)
    orders: list[Command] = []
    for n, org in enumerate(orgs):
        orders.append(SetOrg(org=org, by="bench", time_zone=ZONES[n % 2]))
        for each, period in (("key", Period.DAY), ("workspace", Period.MONTH)):
            rail = Guardrail(guardrail_id=f"each-{each}", each=each, within=("org",), rule=_rule(period))
            orders.append(SetGuardrail(org=org, by="bench", guardrail=rail))
    return Population("wide", keys, weights, orders)


def records(who: Population, count: int, seed: int, *, timed_ids: bool = False) -> Iterator[tuple[str, bytes]]:
    """(org, CloudEvent) in the order of their time over four hours of today; 5 % come again, mostly soon."""
    draw = random.Random(seed)
    picked = draw.choices(who.keys, weights=who.weights, k=count)
    now_ms = int(time.time() * 1000) - 4 * 3600_000
    again: dict[int, list[tuple[str, bytes]]] = {}
    raw = draw.randbytes(16 * count)
    stamp, second = "", 0
    for n, (org, workspace, key) in enumerate(picked):
        ms = now_ms + n * 4 * 3600_000 // count
        h = raw[16 * n : 16 * n + 16].hex()
        if timed_ids:
            h = f"{ms:012x}" + h[12:]
        if ms // 1000 != second:
            second = ms // 1000
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        identity = f"{h[:8]}-{h[8:12]}-{7 if timed_ids else 4}{h[13:16]}-a{h[17:20]}-{h[20:]}"
        tokens_in, tokens_out = draw.randrange(10, 9000), draw.randrange(5, 3000)
        cost = tokens_in * 125 + tokens_out * 1000
        event = (
            f'{{"specversion":"1.0","id":"{identity}","source":"gw-{n % 3}","type":"llm.usage.v1","time":"{stamp}.{ms % 1000:03d}Z","data":'
            f'{{"org":"{org}","workspace":"{workspace}","key":"{key}","model":"{MODELS[n % 5]}","input_tokens":{tokens_in},'
            f'"output_tokens":{tokens_out},"cost_usd":"{cost // 10**8}.{cost % 10**8:08d}","byok":false}}}}'
        )
        made = (org, event.encode())
        yield made
        if draw.random() < DUPLICATES:
            again.setdefault(n + draw.randrange(1, 50_000 if draw.random() < 0.9 else count), []).append(made)
        yield from again.pop(n, ())
    for late in again.values():
        yield from late


async def produce(kafka: Kafka, topic: str, made: Iterable[tuple[str, bytes]]) -> int:
    """Fills a topic, each org in one partition; how many records."""
    producer = AIOKafkaProducer(**kafka.client(), compression_type="lz4", max_batch_size=65_536, linger_ms=20)
    await producer.start()
    try:
        count, sent = await send_batches(producer, topic, made)
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return count


async def send_batches(producer: AIOKafkaProducer, topic: str, made: Iterable[tuple[str, bytes]]) -> tuple[int, list[asyncio.Future[Any]]]:
    """Sends records in batches of the producer's own, a tenth of the work that sending each by itself is; how many, and their answers."""
    sent: list[asyncio.Future[Any]] = []
    batches: dict[int, BatchBuilder] = {}
    count = 0
    for org, value in made:
        count += 1
        place = _place(org)
        builder = batches.get(place)
        if builder is None:
            builder = batches[place] = producer.create_batch()
        if builder.append(key=org.encode(), value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(builder, topic, partition=place))
            builder = batches[place] = producer.create_batch()
            builder.append(key=org.encode(), value=value, timestamp=None)
    for place, builder in batches.items():
        sent.append(await producer.send_batch(builder, topic, partition=place))
    return count, sent


@cache
def _place(org: str) -> int:
    return (murmur2(org.encode()) & 0x7FFFFFFF) % PARTITIONS
