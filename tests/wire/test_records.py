"""What is read of a Kafka record besides its event."""

from collections.abc import Sequence

import pytest

from ledger.wire.records import record_trace

from .events import raw

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Record:
    """A record as the client library gives it."""

    def __init__(self, value: bytes | None, *headers: tuple[str, bytes]) -> None:
        self.topic, self.partition, self.offset = "usage", 0, 0
        self.key: bytes | None = None
        self.value = value
        self.headers: Sequence[tuple[str, bytes]] = headers


@pytest.mark.parametrize("name", ["ce_traceparent", "ce-traceparent", "CE_Traceparent", "traceparent"])
def test_a_trace_is_read_from_a_header_or_from_the_event(name: str) -> None:
    assert record_trace(Record(raw(), (name, TRACE.encode()))) == TRACE
    assert record_trace(Record(raw(traceparent=TRACE))) == TRACE


def test_a_record_without_a_trace_has_none() -> None:
    assert [record_trace(Record(value, ("other", b"x"))) for value in (raw(), None, b"", b"not json")] == [None] * 4
