"""What is read of a Kafka record besides its event."""

import json
from collections.abc import Sequence

import pytest

from ledger.wire.records import read_record, record_trace

from .events import event, raw

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


def test_an_event_has_one_identity_in_both_of_kafkas_modes() -> None:
    """J2: headers there are text as it is, with no percent-encoding as HTTP's have."""
    whole = event(id="bin 100%25", source="gateway%20é")
    names = ("specversion", "type", "source", "id", "time")
    headers = [("content-type", b"application/json"), *((f"ce_{name}", whole[name].encode()) for name in names)]
    assert read_record(Record(json.dumps(whole["data"]).encode(), *headers)) == read_record(Record(json.dumps(whole).encode()))
