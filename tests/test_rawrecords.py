"""Records read byte by byte are what the client library reads, and those that it can't parse are read too."""

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from ledger.rawrecords import parse

PLACE = TopicPartition("usage", 3)
some = st.none() | st.binary(max_size=300)
records = st.lists(
    st.tuples(st.integers(0, 2**41), some, some, st.lists(st.tuples(st.text(max_size=9), some), max_size=4)), min_size=1, max_size=9
)


def batch(of: list, codec: int = 0, base: int = 0, producer: int = -1, transaction: bool = False) -> bytes:  # type: ignore[type-arg]
    builder = DefaultRecordBatchBuilder(2, codec, transaction, producer, 0, 0, 1 << 20)
    for at, (moment_ms, key, value, headers) in enumerate(of):
        assert builder.append(at, moment_ms, key, value, headers) is not None
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


@given(first=records, second=records, codec=st.sampled_from([0, 1, 2, 3, 4]), cut=st.integers(1, 60))
def test_what_is_read_is_what_the_library_reads(first: list, second: list, codec: int, cut: int) -> None:  # type: ignore[type-arg]
    batches = [batch(first, codec, 70), batch(second, 0, 70 + len(first))]
    expected = [
        (record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for data in batches for record in DefaultRecordBatch(data)
    ]  # fmt: skip
    read = list(parse(PLACE, b"".join(batches) + batch(first)[:cut]))  # a broker cuts where its limit is
    assert [(record.offset, record.timestamp, record.key, record.value, record.headers) for record in read] == expected
    assert {(record.topic, record.partition) for record in read} == {PLACE}


@given(data=st.binary(max_size=200), at=st.integers(21, 100), bit=st.integers(0, 7))
def test_damage_is_refused(data: bytes, at: int, bit: int) -> None:
    whole = bytearray(batch([(1, b"key", data, [("name", b"text")])]))
    whole[min(at, len(whole) - 1)] ^= 1 << bit
    with pytest.raises(CorruptRecordException):
        list(parse(PLACE, bytes(whole)))


def marker(base: int, producer: int) -> bytes:
    """Where a producer's transaction ends."""
    whole = bytearray(batch([(1, b"\0\0\0\0", b"", [])], 0, base, producer, transaction=True))
    whole[22] |= 0x20
    whole[17:21] = calc_crc32c(whole[21:]).to_bytes(4, "big")
    return bytes(whole)


def test_what_a_transaction_took_back_is_not_there() -> None:
    """Two producers at once: one takes its first transaction back, and stands by its second."""
    data = [
        batch([(1, None, b"plain", [])], 0, 10, producer=7), batch([(1, None, b"taken back", [])], 0, 11, 7, transaction=True),
        batch([(1, None, b"another's", [])], 0, 12, 8, transaction=True), batch([(1, None, b"back too", [])], 0, 13, 7, transaction=True),
        marker(14, 7), batch([(1, None, b"meant", [])], 0, 15, 7, transaction=True), marker(16, 8), marker(17, 7),
    ]  # fmt: skip
    read = [(record.offset, record.value) for record in parse(PLACE, b"".join(data), [(7, 11)])]
    assert read == [(10, b"plain"), (12, b"another's"), (15, b"meant")]
