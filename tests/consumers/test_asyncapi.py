"""What the AsyncAPI document says of where the topics are and how their records look."""

import msgspec

from consumers.asyncapi import Usage, document
from ledger.api.usage import DATA
from ledger.kafka import TOPICS, Kafka


def test_the_document_names_the_cluster_every_topic_and_what_a_record_says_it_is() -> None:
    described = msgspec.json.decode(document(Kafka("one:9092,two:9093", "prefix.")))
    assert sorted(server["host"] for server in described["servers"].values()) == ["one:9092", "two:9093"]
    assert sorted(channel["address"] for channel in described["channels"].values()) == sorted(f"prefix.{topic.name}" for topic in TOPICS)
    assert described["defaultContentType"] == "application/cloudevents+json"
    assert all(message.keys() == {"title", "payload"} for message in described["components"]["messages"].values())


def test_usage_is_described_the_same_for_kafka_and_for_http() -> None:
    assert Usage.model_fields.keys() == DATA["properties"].keys()
