"""A whole ledger on a real broker and a real PostgreSQL: topics and a database of its own, consumers as processes."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from ledger.core.caps import Action, Rule
from ledger.core.commands import Command, SetCap
from ledger.core.money import USD, Nanos, usd_text
from ledger.core.window import Period
from ledger.kafka import Kafka, create_topics
from ledger.metrics import Metrics
from ledger.service import Service
from ledger.store import balances, outbox, reports
from ledger.store.dialect import Database, connect
from ledger.store.replay import verify
from tests.servers.processes import free_port

ROOT = Path(__file__).parents[2]
ORGS = [f"org-{n}" for n in range(6)]
KEYS = 5
LIMIT_USD = 1
PARTITIONS = 6
# consumers that differ, by what they are told in their environment
SCRIPTS = {"DIE_AT": "dying", "CLOCK": "shifted", "STALLED_S": "hasty", "STOP_AT": "stopped"}


class Event(msgspec.Struct):
    """A usage event, and what it must add to the books; nanos None for a record that can't be read."""

    org: str
    key: str
    value: bytes
    nanos: int | None


def events(seed: int, count: int, duplicates: float = 0.05, poison_every: int = 0) -> list[Event]:
    """Usage of the last half hour over all orgs; a share of it again later on, and now and then a record nobody can read."""
    draw = random.Random(seed)
    now = datetime.now(UTC)
    made: list[Event] = []
    for n in range(count):
        if poison_every and n % poison_every == poison_every - 1:
            made.append(Event(draw.choice(ORGS), "", b'{"specversion": not json', None))
        if made and draw.random() < duplicates:
            again = draw.choice(made)
            if again.nanos is not None:
                made.append(again)
        org, key = draw.choice(ORGS), f"key-{draw.randrange(KEYS)}"
        nanos = draw.randrange(1, 20_000_000)
        moment = now - timedelta(seconds=draw.randrange(0, 1800))
        data = {"org": org, "workspace": "w", "key": key, "model": "m", "input_tokens": 10, "output_tokens": 5, "cost_usd": usd_text(nanos)}
        body = {"specversion": "1.0", "type": "llm.usage.v1", "source": "test", "id": f"{seed}-{n}", "time": moment.isoformat()}
        made.append(Event(org, key, msgspec.json.encode({**body, "data": data}), nanos))
    return made


class Stage:
    """What a test has in hand."""

    def __init__(self, kafka: Kafka, database_url: str, directory: Path) -> None:
        self.kafka, self.database_url, self.directory = kafka, database_url, directory
        self.database: Database = connect(database_url)
        self.sent: list[Event] = []
        self.processes: list[Process] = []

    async def order(self, commands: Sequence[Command]) -> None:
        await Service(self.database, Metrics()).record(commands)

    async def cap_all(self, limit_usd: int = LIMIT_USD) -> None:
        """A cap a lifetime long on every key, so that the hour of the day changes nothing."""
        rule = Rule(period=Period.LIFETIME, limit=Nanos(limit_usd * USD), action=Action.PAUSE, thresholds=(50,))
        keys = [f"key-{n}" for n in range(KEYS)]
        await self.order([SetCap(org=org, by="test", cap=key, scope=f"key:{key}", rule=rule) for org in ORGS for key in keys])

    async def produce(self, made: Sequence[Event], scattered: bool = False) -> None:
        """`scattered`: each to any partition, so that an org's events arrive in another order, by several consumers."""
        draw = random.Random(len(made))
        producer = AIOKafkaProducer(**self.kafka.client(), linger_ms=5, acks="all", enable_idempotence=True, request_timeout_ms=10_000)
        await producer.start()
        try:
            topic, places = self.kafka.topic("usage"), [draw.randrange(PARTITIONS) if scattered else None for _ in made]
            answers = [await producer.send(topic, e.value, key=e.org.encode(), partition=p) for e, p in zip(made, places, strict=True)]
            await asyncio.gather(*answers)
        finally:
            await producer.stop()
        self.sent += made

    def start(self, *names: str, **settings: str) -> "Process":
        process = Process(self, names, settings)
        self.processes.append(process)
        return process

    async def count(self) -> int:
        """Usage entries in the journal."""
        return sum([int(balance["requests"]) for balance in (await self.balances()).values()])

    async def balances(self) -> dict[tuple[str, str], dict[str, Any]]:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        async with self.database.snapshot() as connection:
            for head in await reports.orgs(connection, limit=1000):
                scopes = [f"key:key-{n}" for n in range(KEYS)]
                for row in await balances.standing(connection, head, scopes, [Period.LIFETIME], time.time_ns() // 1000):
                    found[head.org, row["scope"][4:]] = row
        return found

    async def heads(self) -> dict[str, int]:
        """By org, the seq of its last entry."""
        async with self.database.snapshot() as connection:
            return {head.org: head.seq for head in await reports.orgs(connection, limit=1000)}

    def expected(self) -> tuple[dict[tuple[str, str], int], int]:
        """By org and key what was produced, each event once; and how many that are."""
        once = {event.value: event for event in self.sent if event.nanos is not None}
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for event in once.values():
            sums[event.org, event.key] += event.nanos or 0
        return sums, len(once)

    async def until_booked(self, timeout_s: float = 90, extra: int = 0) -> None:
        """Until as many entries are there as distinct events were produced, and so many that a test sent by itself."""
        count = self.expected()[1] + extra
        until = time.monotonic() + timeout_s
        while (booked := await self._count_or_none()) != count:
            for process in self.processes:
                process.check()
            assert time.monotonic() < until, f"{booked} of {count} booked after {timeout_s} s\n" + self.logs()
            await asyncio.sleep(0.2)

    async def usage_of(self, org: str) -> int | None:
        """Calls of one org that are booked; None while the database does not say."""
        try:
            async with self.database.snapshot() as connection:
                head = await reports.head(connection, org)
                if head is None:
                    return 0
                (row,) = await balances.standing(connection, head, ["org"], [Period.LIFETIME], time.time_ns() // 1000)
                return int(row["requests"])
        except Exception:
            return None

    async def _count_or_none(self) -> int | None:
        try:
            return await self.count()
        except Exception:
            return None

    async def until_published(self, timeout_s: float = 60) -> None:
        """Until the outbox is empty."""
        until = time.monotonic() + timeout_s
        while True:
            async with self.database.reader.connect() as connection:
                if not await outbox.depth(connection):
                    return
            assert time.monotonic() < until, "the outbox is not empty\n" + self.logs()
            await asyncio.sleep(0.1)

    async def check(self, limit_usd: int = LIMIT_USD) -> None:
        """Every balance equals an independent sum, to the nano; no breach twice; no command lost; the books proved (J1, M7)."""
        sums, _ = self.expected()
        balances = await self.balances()
        assert {at: row["spent_usd"] for at, row in balances.items() if row["requests"]} == {at: usd_text(n) for at, n in sums.items()}
        over = sorted(at for at, nanos in sums.items() if nanos >= limit_usd * USD)
        async with self.database.snapshot() as connection:
            breached: list[tuple[str, str]] = []
            for head in await reports.orgs(connection, limit=1000):
                assert await verify(connection, head.org_id, head.org, lambda _: None) is None
                breached += [(head.org, row["cap"]) for row in await reports.breaches(connection, head)]
        assert sorted(breached) == over
        messages = await self.read("ledger.key-commands")
        commands = {(m["data"]["org"], m["data"]["key"]): m for m in messages if m["type"] == "ledger.key.pause.v1"}
        assert sorted(commands) == over
        breaches = {m["id"] for m in await self.read("ledger.breaches") if m["type"] == "ledger.cap.breached.v1"}
        assert len(breaches) == len(over)
        check_order([(f"{m['data']['org']}/{m['data']['key']}", m["data"]["revision"]) for m in messages])

    async def read(self, topic: str) -> list[dict[str, Any]]:
        """All of a topic, as JSON, each partition in order."""
        return [msgspec.json.decode(record.value) for record in await self.records(topic) if record.value]

    async def records(self, topic: str) -> list[ConsumerRecord[bytes | None, bytes | None]]:
        """All of a topic, each partition in order."""
        consumer = AIOKafkaConsumer(self.kafka.topic(topic), **self.kafka.client(), auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        found: list[ConsumerRecord[bytes | None, bytes | None]] = []
        try:
            for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
                while await consumer.position(partition) < end:
                    found += (await consumer.getmany(partition, timeout_ms=500)).get(partition, [])
        finally:
            await consumer.stop()
        return found

    async def until_read(self, topic: str, count: int, timeout_s: float = 30) -> list[dict[str, Any]]:
        """All of a topic, once so many records are there."""
        until = time.monotonic() + timeout_s
        while len(found := await self.read(topic)) < count:
            assert time.monotonic() < until, f"{len(found)} of {count} in {topic}\n" + self.logs()
            await asyncio.sleep(0.1)
        return found

    def logs(self) -> str:
        return "\n".join(f"--- {' '.join(process.names)}\n{process.log()[-3000:]}" for process in self.processes)


class Process:
    """`python -m consumers …` as a process."""

    def __init__(self, stage: Stage, names: Sequence[str], settings: dict[str, str]) -> None:
        self.names, self.port = names, free_port()
        self.path = stage.directory / f"{'-'.join(names)}-{uuid.uuid4().hex[:6]}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")} | {
            "LEDGER_DATABASE_URL": stage.database_url, "LEDGER_KAFKA_BOOTSTRAP_SERVERS": stage.kafka.bootstrap,
            "LEDGER_TOPIC_PREFIX": stage.kafka.prefix, "LEDGER_METRICS_PORT": str(self.port), **settings,
        }  # fmt: skip
        script = next((f"{name}_consumer.py" for given, name in SCRIPTS.items() if given in settings), None)
        how = ["-m", "consumers"] if script is None else [str(Path(__file__).with_name(script))]
        command = [sys.executable, *how, *names]
        self.expects_death, self.stopped = "DIE_AT" in settings, False
        self.popen = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=self.path.open("wb"), stdout=subprocess.DEVNULL)

    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def check(self) -> None:
        code = self.popen.poll()
        well = code in (None, -signal.SIGKILL) or self.expects_death or (self.stopped and code == 0)
        assert well, f"{self.names} ended with {code}:\n{self.log()[-3000:]}"

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def stop(self, within_s: float = 10) -> int:
        """SIGTERM; its exit code. Raises TimeoutExpired."""
        self.stopped = True
        self.popen.terminate()
        return self.popen.wait(within_s)

    async def until_ready(self, timeout_s: float = 30) -> None:
        until = time.monotonic() + timeout_s
        async with httpx.AsyncClient() as client:
            while True:
                self.check()
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200:
                        return
                assert time.monotonic() < until, f"{self.names} is not ready:\n{self.log()}"
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def staged(
    bootstrap: str, database_url: str, directory: Path, replication: int = 1, **shown: str
) -> AsyncIterator[Stage]:  # fmt: skip
    """Topics of their own, caps on every key; processes end with the block. `shown`: what a cluster asks for, as `Kafka` has it."""
    stage = Stage(Kafka(bootstrap, f"t{uuid.uuid4().hex[:8]}.", **shown), database_url, directory)
    await create_topics(stage.kafka, PARTITIONS, replication)
    try:
        await stage.cap_all()
        yield stage
    finally:
        for process in stage.processes:
            with contextlib.suppress(ProcessLookupError):
                process.signal(signal.SIGCONT)
            process.kill()
        await stage.database.close()


def ledger(stage: Stage, *command: str) -> str:
    environment = os.environ | {
        "LEDGER_DATABASE_URL": stage.database_url, "LEDGER_KAFKA_BOOTSTRAP_SERVERS": stage.kafka.bootstrap,
        "LEDGER_TOPIC_PREFIX": stage.kafka.prefix,
    }  # fmt: skip
    asked = [sys.executable, "-m", "ledger", *command]
    done = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_order(numbered: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Of each name none is left out, and what comes again is not higher than what came (K3); the last number of each."""
    last: dict[str, int] = Counter()
    for name, number in numbered:
        assert number <= last[name] + 1, (name, number, last[name])
        last[name] = max(last[name], number)
    return dict(last)


@contextlib.contextmanager
def sigstopped(process: Process) -> Iterator[None]:
    """The process stands still for the block."""
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


class TakenBack(Exception):
    """The producer changed its mind."""


@contextlib.asynccontextmanager
async def transaction(stage: Stage, name: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**stage.kafka.client(), transactional_id=f"{stage.kafka.prefix}{name}")
    await producer.start()
    try:
        async with producer.transaction():
            yield producer
    finally:
        await producer.stop()
