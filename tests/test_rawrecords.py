"""Records read byte by byte are what the client library reads, and those that it can't parse are read too."""

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from ledger.rawrecords import parse

PLACE = TopicPartition("usage", 3)
some = st.none() | st.binary(max_size=300)
records = st.lists(
    st.tuples(st.integers(0, 2**41), some, some, st.lists(st.tuples(st.text(max_size=9), some), max_size=4)), min_size=1, max_size=9
)


def batch(of: list, codec: int = 0, base: int = 0) -> bytes:  # type: ignore[type-arg]
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
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
