"""Owns reading records where they lie, byte by byte, for those that the client library can't parse; refuses damaged ones.

A header's name may be any bytes for the broker. The library wants UTF-8 there, and raises for the whole fetch. Read here,
what is not UTF-8 in a name is escaped (`surrogateescape`), and `wire.records` says why the record can't be booked. As for the
library, what a transaction took back or has not sent for good is not there.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException, LeaderNotAvailableError, for_code
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.util import calc_crc32c, decode_varint

from .kafka import Kafka

Record = ConsumerRecord[bytes | None, bytes | None]

MOST_FETCHED_BYTES = 256 * 1024  # about ten milliseconds of reading; a batch that is larger comes whole all the same
_WAIT_MS = 1_000
_COMMITTED = 1
_BATCH = Struct(">qiibIhiqqqhii")  # format 2: base offset, length, epoch, magic, CRC, attributes, … times, producer, … count
_AFTER_LENGTH, _AFTER_CRC = 12, 21
_CODEC, _APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x07, 0x08, 0x10, 0x20
_DECODE = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


async def read_from(kafka: Kafka, place: TopicPartition, offset: int) -> list[Record]:
    """The records that lie at `offset` and behind it, as many as one small fetch gives; none where the partition ends.

    Raises KafkaError: OffsetOutOfRangeError where the topic has let them go, CorruptRecordException where they are damaged.
    """
    client = AIOKafkaClient(**kafka.client())
    try:
        await client.bootstrap()
        await client.set_topics([place.topic])
        leader = client.cluster.leader_for_partition(place)
        if leader is None or leader < 0:
            raise LeaderNotAvailableError(f"{place.topic}/{place.partition}")
        wanted = [(place.topic, [(place.partition, offset, MOST_FETCHED_BYTES)])]
        answer = await client.send(leader, FetchRequest(_WAIT_MS, 1, MOST_FETCHED_BYTES, _COMMITTED, wanted))
    finally:
        await client.close()
    ((_, ((_, code, _, *more, data),)),) = answer.topics
    if code:
        raise for_code(code)(f"{place.topic}/{place.partition} at {offset}")
    aborted = next((part for part in more if isinstance(part, list)), [])  # among numbers, which differ by version
    return [record for record in parse(place, data or b"", aborted) if record.offset >= offset]


def parse(place: TopicPartition, data: bytes, aborted: Sequence[tuple[int, int]] = ()) -> Iterator[Record]:
    """The records of whole batches, as a broker sends them; a last one that is cut off is left out.

    `aborted`: transactions that were taken back, as producer and first offset; each ends at its producer's next marker. Raises
    CorruptRecordException.
    """
    at, taken_back, ahead = 0, set[int](), sorted(aborted, key=lambda transaction: transaction[1], reverse=True)
    while at + _BATCH.size <= len(data):
        base, length, _, magic, crc, attributes, _, first_ms, last_ms, producer, _, _, count = _BATCH.unpack_from(data, at)
        batch, at = data[at : at + _AFTER_LENGTH + length], at + _AFTER_LENGTH + length
        if at > len(data):
            return
        if magic != 2 or calc_crc32c(batch[_AFTER_CRC:]) != crc:
            raise CorruptRecordException(f"{place.topic}/{place.partition}: the batch at {base} is damaged, or of a format before 2")
        while ahead and ahead[-1][1] <= base:
            taken_back.add(ahead.pop()[0])
        if attributes & _CONTROL:
            taken_back.discard(producer)
            continue
        if attributes & _TRANSACTIONAL and producer in taken_back:
            continue
        body = batch[_BATCH.size :]
        if codec := attributes & _CODEC:
            body = _DECODE[codec](body)
        kind = int(bool(attributes & _APPEND_TIME))
        try:
            yield from _records(place, bytearray(body), base, count, (kind, last_ms if kind else first_ms))
        except (IndexError, ValueError) as error:
            raise CorruptRecordException(f"{place.topic}/{place.partition}: the batch at {base} is damaged: {error}") from error


def _records(place: TopicPartition, body: bytearray, base: int, count: int, time: tuple[int, int]) -> Iterator[Record]:
    at = 0
    kind, base_ms = time
    for _ in range(count):
        length, at = decode_varint(body, at)
        end = at + length
        after_ms, at = decode_varint(body, at + 1)  # after a byte of attributes, of which none is in use
        after, at = decode_varint(body, at)
        key, at = _bytes(body, at)
        value, at = _bytes(body, at)
        headers: list[tuple[str, bytes]] = []
        many, at = decode_varint(body, at)
        for _ in range(many):
            name, at = _bytes(body, at)
            text, at = _bytes(body, at)
            headers.append(((name or b"").decode(errors="surrogateescape"), text))  # type: ignore[arg-type]  # null, as the library has it
        if at != end or end > len(body):
            raise ValueError(f"record {after} has not the length that it says")
        moment_ms = base_ms if kind else base_ms + after_ms
        yield ConsumerRecord(
            place.topic, place.partition, base + after, moment_ms, kind, key, value, None, _size(key), _size(value), tuple(headers)
        )  # fmt: skip


def _size(part: bytes | None) -> int:
    return -1 if part is None else len(part)


def _bytes(body: bytearray, at: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(body, at)
    return (None, at) if length < 0 else (bytes(body[at : at + length]), at + length)
