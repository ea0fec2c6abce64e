"""Owns the commands about Kafka: topics made, dead letters listed, shown and read again where they lie."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, UnknownTopicOrPartitionError

from ..core.commands import Rejected
from ..kafka import MOST_PUBLISHED_BYTES, Kafka, admin, create_topics, missing_topics, producing
from ..rawrecords import Record, read_from
from ..settings import kafka_of
from ..wire.messages import USAGE_DEAD
from ..wire.records import DeadLetter, decode_dead_letter, read_record
from .common import Format, FormatOption, Wrong, out, run, settings, show

T = TypeVar("T")
topics = typer.Typer(help="Kafka's topics and their settings.", no_args_is_help=True)
dead = typer.Typer(help="Records that could not be booked: why, and where they lie.", no_args_is_help=True)
PLACE = "TOPIC/PARTITION/OFFSET, as `ledger dead list` shows it"


def _kafka() -> Kafka:
    kafka = kafka_of(settings())
    if kafka is None:
        raise Wrong("LEDGER_KAFKA_BOOTSTRAP_SERVERS is not set: this is about Kafka's topics, and without it there are none")
    return kafka


def _asked(work: Callable[[Kafka], Awaitable[T]]) -> T:
    async def asked() -> T:
        kafka = _kafka()
        try:
            return await work(kafka)
        except KafkaError as error:
            raise Wrong(f"Kafka at {kafka.bootstrap}: {error}. Is LEDGER_KAFKA_BOOTSTRAP_SERVERS right, and is it running?") from None

    return run(asked)


@topics.command("create")
def create(
    partitions: Annotated[int, typer.Option(min=1, help="Of each topic: as many consumers can share the work.")] = 8,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition; with 3, two must be in sync.")] = 1,
) -> None:
    """Create the topics that are missing, and set the settings of those that are there. Safe to repeat.

    Partitions and copies of a topic that is there stay as they are, and so do settings that are not ours.
    """
    for name, had in _asked(lambda kafka: create_topics(kafka, partitions, replication)).items():
        out.print(f"{name}  [dim]{'created' if had is None else f'was there, partitions: {had}'}[/]")


async def _letters(kafka: Kafka) -> list[tuple[DeadLetter, str]]:
    """All dead letters, oldest first; one record's only once, however often it was written."""
    found: dict[tuple[str, int, int], tuple[DeadLetter, str]] = {}
    async with admin(kafka) as client:  # a consumer would ask for the topic again and again
        if missing := await missing_topics(client, kafka, [USAGE_DEAD]):
            raise Wrong(f"Kafka has no topic {', '.join(missing)}: run `ledger topics create`, or mend LEDGER_TOPIC_PREFIX")
    consumer = AIOKafkaConsumer(kafka.topic(USAGE_DEAD), **kafka.client(), enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        await consumer.start()
        for partition, end in (await consumer.end_offsets(consumer.assignment())).items():
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(partition, timeout_ms=1000)).get(partition, ()):
                    try:
                        letter, when = decode_dead_letter(record.value or b"")
                    except msgspec.DecodeError:
                        continue
                    found.setdefault((letter.topic, letter.partition, letter.offset), (letter, when))
    finally:
        await consumer.stop()
    return list(found.values())


def _row(letter: DeadLetter, when: str) -> dict[str, Any]:
    place = f"{letter.topic}/{letter.partition}/{letter.offset}"
    return {"place": place, "when": when, **{name: value for name, value in msgspec.structs.asdict(letter).items() if name != "topic"}}


@dead.command("list")
def list_letters(
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None, form: FormatOption = Format.TABLE
) -> None:
    """List dead letters, oldest first."""
    rows = [_row(letter, when) for letter, when in _asked(_letters) if reason in (None, letter.reason)]
    show(rows, form, ("place", "when", "reason", "length", "detail"))


def _of_place(letters: list[tuple[DeadLetter, str]], place: str) -> tuple[DeadLetter, str]:
    for letter, when in letters:
        if f"{letter.topic}/{letter.partition}/{letter.offset}" == place:
            return letter, when
    raise Wrong(f"there is no dead letter {place!r}: say {PLACE}")


@dead.command("show")
def show_letter(place: Annotated[str, typer.Argument(help=PLACE)]) -> None:
    """Show one dead letter, and whether its record still lies in the topic and can be read by now. Its body is not shown."""

    async def work(kafka: Kafka) -> dict[str, Any]:
        letter, when = _of_place(await _letters(kafka), place)
        record = await _record(kafka, letter)
        now = "gone: the topic has let it go" if record is None else _readable(record)
        return {**_row(letter, when), "now": now}

    for name, value in _asked(work).items():
        out.print(f"{name:10} {'' if value is None else value}", markup=False)


def _readable(record: Any) -> str:
    event = read_record(record)
    return f"still unreadable: {event.detail}" if isinstance(event, Rejected) else "can be read by now: `ledger dead replay` sends it again"


async def _record(kafka: Kafka, letter: DeadLetter) -> Record | None:
    """The record that a dead letter is about, where it lies."""
    try:
        found = await read_from(kafka, TopicPartition(letter.topic, letter.partition), letter.offset)
    except (OffsetOutOfRangeError, UnknownTopicOrPartitionError):
        return None
    return found[0] if found and found[0].offset == letter.offset else None


@dead.command("replay")
def replay(
    places: Annotated[list[str] | None, typer.Argument(help=f"Which: {PLACE}. None: all.")] = None,
    reason: Annotated[str | None, typer.Option(help="Only those with this reason.")] = None,
) -> None:
    """Send records again, from where they lie, to the topic they came from. What was booked meanwhile is a duplicate."""

    async def work(kafka: Kafka) -> tuple[int, int, int]:
        letters = await _letters(kafka)
        chosen = [_of_place(letters, place) for place in places] if places else letters
        sent = gone = unreadable = 0
        async with producing(kafka) as producer:
            for letter, _ in chosen:
                if reason not in (None, letter.reason):
                    continue
                record = await _record(kafka, letter)
                if record is None:
                    gone += 1
                elif len(record.value or b"") > MOST_PUBLISHED_BYTES or isinstance(read_record(record), Rejected):
                    unreadable += 1
                else:
                    await producer.send_and_wait(letter.topic, record.value, key=record.key, headers=list(record.headers))
                    sent += 1
        return sent, unreadable, gone

    sent, unreadable, gone = _asked(work)
    out.print(f"sent again {sent}, still unreadable {unreadable}, gone from the topic {gone}")
