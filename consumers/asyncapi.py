"""Owns the AsyncAPI 3 document of every topic: what comes in, what goes out, and the shape of each message."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from faststream import FastStream
from faststream.kafka import KafkaBroker
from faststream.specification import AsyncAPI
from pydantic import BaseModel, Field

from ledger import __version__
from ledger.core.caps import Action, Enforce, Kind, Waits
from ledger.core.keys import State
from ledger.core.window import Period
from ledger.kafka import TOPICS, Kafka
from ledger.wire.messages import BREACHES, ENTRIES, KEY_COMMANDS, KEY_STATUS, USAGE, USAGE_DEAD
from ledger.wire.records import STRUCTURED

Amount = str


class CloudEvent(BaseModel):
    """CloudEvents 1.0, structured or binary."""

    specversion: Literal["1.0"]
    source: str
    id: str = Field(description="with `source`, the event's identity: seen again, it is the same event")
    time: datetime


class Usage(BaseModel):
    """One call, as its gateway saw it."""

    org: str
    key: str = Field(max_length=128, description="a key's id, or a credential of it")
    workspace: str | None = None
    model: str | None = None
    provider: str | None = None
    input_tokens: int = Field(default=0, ge=0)
    cached_input_tokens: int = Field(default=0, ge=0, description="part of input_tokens")
    cache_write_tokens: int = Field(default=0, ge=0, description="part of input_tokens")
    output_tokens: int = Field(default=0, ge=0)
    reasoning_tokens: int = Field(default=0, ge=0, description="part of output_tokens")
    audio_tokens: int = Field(default=0, ge=0)
    images: int = Field(default=0, ge=0)
    searches: int = Field(default=0, ge=0)
    cost_usd: Amount | None = Field(default=None, description="decimal text in US dollars; missing: priced by the rate card, or unpriced")
    upstream_cost_usd: Amount | None = None
    currency: str | None = Field(default=None, description="USD, or the event is refused")
    byok: bool = False
    batch: bool = Field(default=False, description="priced by the rate card's batch rates")
    member: str | None = None
    end_user: str | None = None
    preset: str | None = None
    preset_version: int | None = None
    session: str | None = None
    tags: dict[str, str] | None = None
    hold: str | None = None
    response_id: str | None = None
    started_at: datetime | None = None


class UsageEvent(CloudEvent):
    """Usage in; the record's key is the org."""

    type: Literal["llm.usage.v1"]
    subject: str | None = None
    data: Usage


class Dead(BaseModel):
    """Why a record could not be booked, and where it lies; never its body."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    digest: str = Field(description="SHA-256 of the value, hex")
    length: int = Field(description="bytes of the value")
    key: str | None


class DeadEvent(CloudEvent):
    """A dead letter."""

    type: Literal["ledger.usage.dead.v1"]
    data: Dead


class CapTold(BaseModel):
    """What is said of a cap: all of it where it was breached, its name and why where it was cleared."""

    org: str
    cap: str
    scope: str
    enforce: Enforce
    ordinal: int | None = Field(default=None, description="with org and cap, the breach's identity; none for a threshold")
    kind: Kind | None = None
    reason: str | None = Field(default=None, description="why it was cleared")
    percent: int | None = Field(default=None, description="of the limit, where a threshold was reached; null: the first unpriced call")
    period: Period | None = None
    start: datetime | None = None
    end: datetime | None = Field(default=None, description="of the window; null: it has none")
    limit_usd: Amount | None = None
    spent_usd: Amount | None = None
    over_usd: Amount | None = None
    entry: int | None = Field(default=None, description="the seq of the entry that crossed it; null: none did")
    action: Action | None = None
    unpriced: int | None = Field(default=None, description="calls in the window whose price is not known")
    waits: Waits | None = Field(default=None, description="what of the action waits for a person")


class LeakTold(BaseModel):
    """A key that still spends though its gateway confirmed that it is stopped."""

    org: str
    key: str
    credential: str
    revision: int
    entry: int
    started: datetime
    confirmed: datetime


class BreachEvent(CloudEvent):
    """A cap was breached or cleared, or a threshold of it reached; a key leaks. `ledger.scope.denied.v1` is for caps on what keys
    share (a model, a preset), which gateways may refuse by themselves."""

    type: Literal[
        "ledger.cap.threshold.v1", "ledger.cap.breached.v1", "ledger.cap.cleared.v1", "ledger.key.leaking.v1", "ledger.scope.denied.v1"
    ]  # fmt: skip
    subject: str = Field(description="the scope, or the key")
    data: CapTold | LeakTold


class Command(BaseModel):
    """What a key should be, and why. A reader ignores a revision lower than one it has seen."""

    org: str
    key: str
    workspace: str
    state: State
    revision: int
    reasons: list[str]
    credentials: list[str]


class KeyEvent(CloudEvent):
    """A key is to be paused, resumed or revoked."""

    type: Literal["ledger.key.pause.v1", "ledger.key.resume.v1", "ledger.key.revoke.v1"]
    subject: str
    data: Command


class EntryEvent(CloudEvent):
    """An entry of an org's journal."""

    type: Literal["ledger.entry.v1"]
    subject: str
    data: dict[str, Any] = Field(description="org, seq, type, and the entry's own fields")


PAYLOADS: dict[str, type[BaseModel]] = {
    USAGE: UsageEvent, USAGE_DEAD: DeadEvent, BREACHES: BreachEvent, KEY_COMMANDS: KeyEvent, KEY_STATUS: KeyEvent, ENTRIES: EntryEvent,
}  # fmt: skip


def document(kafka: Kafka) -> str:
    """The document as JSON. Nothing is connected."""
    broker = KafkaBroker(kafka.bootstrap.split(","), logger=None)
    for topic in TOPICS:
        name, payload = kafka.topic(topic.name), PAYLOADS[topic.name]
        if topic.name == USAGE:

            async def handle(event: UsageEvent) -> None: ...

            broker.subscriber(name, title=name, description=topic.about)(handle)
        else:
            broker.publisher(name, title=name, description=topic.about, schema=payload)
    about = AsyncAPI(title="Spend ledger for LLM usage", version=__version__, description="The topics, and what lies in them.")
    made = msgspec.json.decode(FastStream(broker, specification=about, logger=None).schema.to_specification().to_json())
    made["defaultContentType"] = STRUCTURED
    for message in made["components"]["messages"].values():
        del message["correlationId"]  # a header of FastStream's own, which our records have not
    return msgspec.json.encode(made).decode()
