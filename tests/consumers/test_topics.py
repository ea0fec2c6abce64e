"""`ledger topics create`, on a cluster where they are not there and on one where they are."""

import asyncio

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from ledger.__main__ import build
from ledger.kafka import BATCH_BYTES, FEWEST_TOGETHER, admin, partition_of, producing, publish
from ledger.wire.messages import KEY_COMMANDS, KEY_STATUS
from tests.consumers.harness import Stage, events, ledger

JAVA_HASHES = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}  # Kafka's UtilsTest


async def set_settings(stage: Stage, topic: str, config: dict[str, str]) -> None:
    async with admin(stage.kafka) as client:
        said = await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stage.kafka.topic(topic), configs=config)])
    assert [resource[0] for response in said for resource in response.resources] == [0], said


async def settings(stage: Stage, topic: str) -> dict[str, str]:
    """All that hold, whoever has set them."""
    async with admin(stage.kafka) as client:
        (said,) = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, stage.kafka.topic(topic))])
    return {name: value for name, value, *_ in said.resources[0][4]}


async def test_topics_that_are_there_keep_what_others_have_set(stage: Stage) -> None:
    """Another retention is set back to ours; what is not ours stays."""
    await set_settings(stage, "usage", {"max.message.bytes": "9000000", "min.insync.replicas": "1", "retention.ms": "1000"})
    for _ in range(2):
        said = await asyncio.to_thread(ledger, stage, "topics", "create", "--partitions", "12")
        assert said.count("was there, partitions: 6") == 5 and "was there, partitions: 1" in said
    found = await settings(stage, "usage")
    assert (found["max.message.bytes"], found["min.insync.replicas"], found["retention.ms"]) == ("9000000", "1", "604800000")
    assert (await settings(stage, "ledger.key-status"))["cleanup.policy"] == "compact"


async def test_topics_of_one_copy_can_be_written_though_three_are_asked_for(stage: Stage) -> None:
    """More copies in sync than there are would refuse every record."""
    await asyncio.to_thread(ledger, stage, "topics", "create", "--replication", "3")
    assert (await settings(stage, "usage"))["min.insync.replicas"] == "1"
    await stage.produce(events(1, 10))


async def test_a_consumer_whose_topics_are_not_there_says_so_and_what_to_do(stage: Stage) -> None:
    """Rather than wait for ever for what a wrong prefix will never bring."""
    process = stage.start("usage", "relay", LEDGER_TOPIC_PREFIX="elsewhere.")
    assert await asyncio.to_thread(process.popen.wait, 60) == 1
    process.expects_death = True
    assert "elsewhere.ledger.breaches, elsewhere.ledger.key-commands" in process.log() and "elsewhere.usage" in process.log()
    assert "run `ledger topics create`" in process.log()


async def test_dead_letters_of_a_cluster_without_the_topics_are_told_in_one_line_and_at_once(stage: Stage) -> None:
    environment = {"LEDGER_KAFKA_BOOTSTRAP_SERVERS": stage.kafka.bootstrap, "LEDGER_TOPIC_PREFIX": "nowhere."}
    found = await asyncio.to_thread(CliRunner().invoke, build(), ["dead", "list"], env=environment)
    assert found.exit_code == 1 and found.stderr.startswith("error Kafka has no topic nowhere.usage.dead: run `ledger topics create`")
    assert len(found.stderr.splitlines()) == 1


def test_a_key_lies_where_kafkas_own_clients_would_put_it() -> None:
    """Readers that join topics by key count on it, and so does a key's order across versions."""
    for count in (1, 6, 12):
        found = {key: partition_of(key, range(count), range(count)) for key in JAVA_HASHES}
        assert found == {key: (hashed & 0x7FFF_FFFF) % count for key, hashed in JAVA_HASHES.items()}


async def test_many_records_at_once_are_each_where_its_key_lies_and_in_order(stage: Stage) -> None:
    """So many that they are sent in batches of their own, several to a partition; and so few that they are not (K3)."""
    keys = [f"org-{n}/key".encode() for n in range(3)]
    several = 3 * BATCH_BYTES // 1_000
    for began, count in ((0, several), (several, FEWEST_TOGETHER - 1)):
        places = [(stage.kafka.topic(name), keys[n % 3], n) for n in range(began, began + count) for name in (KEY_COMMANDS, KEY_STATUS)]
        async with producing(stage.kafka) as producer:
            await publish(producer, [(topic, key, f"{n:01000}".encode()) for topic, key, n in places])
    for topic in (KEY_COMMANDS, KEY_STATUS):
        found = await stage.records(topic)
        assert {record.partition for record in found if record.key == keys[0]} == {partition_of(keys[0], range(6), ())}
        assert {record.headers for record in found} == {(("content-type", b"application/cloudevents+json"),)}
        for n, key in enumerate(keys):
            told = [int(record.value or b"") for record in found if record.key == key]
            assert told == list(range(n, several + FEWEST_TOGETHER - 1, 3)), key
