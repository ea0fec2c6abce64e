"""Messages held against what the AsyncAPI document says of their topic."""

from collections.abc import Iterable
from typing import Any

import jsonschema_rs
import msgspec

from consumers.asyncapi import document
from ledger.kafka import Kafka


def check_described(topic: str, messages: Iterable[dict[str, Any]]) -> set[str]:
    """Every field is named and is as the document says; the types of messages that were held against it."""
    described = msgspec.json.decode(document(Kafka("nowhere:9092")))
    for schema in described["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False  # a reader must take more; we must not send what we don't describe
    (message,) = described["channels"][topic]["messages"].values()
    payload = described["components"]["messages"][message["$ref"].rpartition("/")[2]]["payload"]
    validator = jsonschema_rs.validator_for({**payload, "components": described["components"]}, validate_formats=True)
    types: set[str] = set()
    for found in messages:
        faults = [f"{list(fault.instance_path)}: {fault.message}" for fault in validator.iter_errors(found)]
        assert not faults, (topic, found, faults)
        types.add(found["type"])
    return types
