"""A real Apache Kafka 4 for the tests: one named by the environment, else Docker's, else Maven Central's jars on this machine's Java."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from tests.servers.processes import Container, Process, docker, docker_answers, free_port, home_for

POM = Path(__file__).parent / "kafka" / "pom.xml"
JARS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledger-tests" / "kafka"
IMAGE = "apache/kafka:4.1.1"
CLUSTER = "bGVkZ2VyLXRlc3RzLTAwMQ"  # base64 of sixteen bytes, as Kafka wants it
START_S = 60


class NoKafka(Exception):
    """None could be had; the message says what was tried."""


class Guard(NamedTuple):
    """How a cluster is kept from strangers: its listeners' protocol, settings beside the usual ones, and what aiokafka's clients show."""

    protocol: str
    settings: Mapping[str, object]
    client: Mapping[str, Any]


OPEN = Guard("PLAINTEXT", {}, {})


@dataclass
class Server:
    """A running cluster. `bootstrap` is what clients are given; `how` says where it came from; `nodes` can be stopped and killed (none
    where the environment named the server: then `own_kafka` is for tests that must stop one)."""

    bootstrap: str
    how: str
    nodes: list[Process | Container] = field(default_factory=list)
    client: Mapping[str, Any] = field(default_factory=dict)

    def start(self, node: int = 0) -> None:
        """Brings the node back with its data on its port; returns when the whole cluster answers."""
        self.nodes[node].start()
        asyncio.run(self._ready())

    def stop(self, node: int = 0) -> None:
        self.nodes[node].stop()

    def kill(self, node: int = 0) -> None:
        self.nodes[node].kill()

    def create_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """A topic on every node, settings by Kafka's names with underscores for dots (`min_insync_replicas="2"`)."""
        asyncio.run(self._create(name, partitions, {key.replace("_", "."): value for key, value in settings.items()}))

    async def alter_topic(self, name: str, **settings: str) -> None:
        """Sets a topic's settings, and unsets all others."""
        changes = {key.replace("_", "."): value for key, value in settings.items()}
        async with self._admin() as admin:
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=changes)])

    @contextlib.asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=10_000, **self.client)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    async def _create(self, name: str, partitions: int, settings: dict[str, str]) -> None:
        async with self._admin() as admin:
            answer = await admin.create_topics([NewTopic(name, partitions, max(1, len(self.nodes)), topic_configs=settings)])
        for _, code, said in answer.topic_errors:
            if code:
                raise for_code(code)(said)

    async def _ready(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                async with self._admin() as admin:
                    if len((await admin.describe_cluster())["brokers"]) >= max(1, len(self.nodes)):
                        return
            except (KafkaError, OSError) as error:
                for node in self.nodes:
                    if node.ended():
                        raise RuntimeError(f"Kafka ended while it started: {node.log()}") from error
            if time.monotonic() > until:
                raise TimeoutError(f"Kafka did not answer on {self.bootstrap} within {START_S} s")
            await asyncio.sleep(0.2)


@contextlib.contextmanager
def running_kafka() -> Iterator[Server]:
    """The first server that can be had, in the order of this module's docstring. Raises NoKafka."""
    if bootstrap := os.environ.get("LEDGER_TEST_KAFKA_BOOTSTRAP"):
        yield Server(bootstrap, "the environment's LEDGER_TEST_KAFKA_BOOTSTRAP")
    else:
        with own_kafka() as server:
            yield server


@contextlib.contextmanager
def own_kafka(nodes: int = 1, guard: Guard = OPEN) -> Iterator[Server]:
    """A cluster for the caller alone, to stop and kill as it likes: one node, or three with replication 3 and min in-sync 2.
    Raises NoKafka."""
    ports = [(free_port(), free_port()) for _ in range(nodes)]
    if docker_answers():
        how, cluster = f"Docker, {IMAGE}", _in_docker(ports, guard)
    elif installed():
        how, cluster = f"the jars in {JARS}", _local(ports, guard)
    else:
        raise NoKafka("no Kafka: LEDGER_TEST_KAFKA_BOOTSTRAP is unset, no Docker daemon answers, and `make servers` has not installed it")
    with cluster as running:
        server = Server(",".join(f"127.0.0.1:{port}" for port, _ in ports), how, running, guard.client)
        for node in running:
            node.start()
        asyncio.run(server._ready())
        yield server


def installed() -> bool:
    """Whether install.sh put the jars of this very pom.xml here, and there is a Java to run them."""
    copied = JARS / "pom.xml"
    return shutil.which("java") is not None and copied.exists() and copied.read_bytes() == POM.read_bytes()


def _settings(node: int, nodes: int, listen: dict[str, str], advertise: dict[str, str], voters: str, guard: Guard) -> dict[str, object]:
    copies, in_sync = min(3, nodes), max(1, min(3, nodes) - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "listeners": ",".join(f"{name}://{address}" for name, address in listen.items()),
        "advertised.listeners": ",".join(f"{name}://{address}" for name, address in advertise.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INSIDE",
        "listener.security.protocol.map": ",".join(f"{name}:{guard.protocol if name != 'CONTROLLER' else 'PLAINTEXT'}" for name in listen),
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # A node that was killed may come back at once: the controller forgets the one before it sooner than by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
        **guard.settings,
    }


@contextlib.contextmanager
def _local(ports: list[tuple[int, int]], guard: Guard) -> Iterator[list[Process | Container]]:
    voters = ",".join(f"{node}@127.0.0.1:{control}" for node, (_, control) in enumerate(ports, 1))
    with contextlib.ExitStack() as homes:
        running: list[Process | Container] = []
        for node, (port, control) in enumerate(ports, 1):
            home = homes.enter_context(home_for("kafka"))
            listen = {"INSIDE": f"127.0.0.1:{port}", "CONTROLLER": f"127.0.0.1:{control}"}
            settings = {**_settings(node, len(ports), listen, listen, voters, guard), "log.dirs": home / "data"}
            (home / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            java = ["java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-cp", f"{JARS}/*"]
            format_ = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", "server.properties"]
            subprocess.run(format_, check=True, capture_output=True, cwd=home)
            running.append(homes.enter_context(Process([*java, "kafka.Kafka", "server.properties"], home)))
        yield running


@contextlib.contextmanager
def _in_docker(ports: list[tuple[int, int]], guard: Guard) -> Iterator[list[Process | Container]]:
    network = f"ledger-test-{uuid.uuid4().hex[:8]}"
    voters = ",".join(f"{node}@{network}-{node}:9093" for node in range(1, len(ports) + 1))
    running: list[Process | Container] = []
    docker("network", "create", network)
    try:
        for node, (port, _) in enumerate(ports, 1):
            name = f"{network}-{node}"
            listen = {"INSIDE": ":19092", "OUTSIDE": f":{port}", "CONTROLLER": ":9093"}
            advertise = {"INSIDE": f"{name}:19092", "OUTSIDE": f"127.0.0.1:{port}"}
            settings = {**_settings(node, len(ports), listen, advertise, voters, guard), "log.dirs": "/tmp/kafka-logs"}
            given = [f"-eKAFKA_{key.replace('.', '_').upper()}={value}" for key, value in settings.items()]
            given += [f"-eCLUSTER_ID={CLUSTER}", "-eKAFKA_HEAP_OPTS=-Xms256m -Xmx512m"]
            docker("create", "--name", name, "--network", network, f"-p127.0.0.1:{port}:{port}", *given, IMAGE)
            running.append(Container(name))
        yield running
    finally:
        for node in running:
            assert isinstance(node, Container)
            node.remove()
        docker("network", "rm", network)
