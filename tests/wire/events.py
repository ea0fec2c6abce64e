"""Usage events for the tests of the wire: a good one, and ways to spoil it."""

import json
from typing import Any

from ledger.core.commands import RecordUsage, Rejected
from ledger.wire.usage import parse_usage

SECRET = "sk-or-v1-" + "0123456789abcdef" * 4
NOW_US = 1_772_960_400_000_000  # 2026-03-08T09:00Z, the good event's time
PROMPT = "Dear diary, my doctor said"

TEXT_FIELDS = (
    "org",
    "key",
    "workspace",
    "model",
    "provider",
    "member",
    "end_user",
    "preset",
    "session",
    "hold",
    "response_id",
)


def event(data: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    """A good event, but for what is given; a value of `...` leaves that out."""
    whole = {
        "specversion": "1.0",
        "type": "llm.usage.v1",
        "source": "gateway",
        "id": "e1",
        "time": "2026-03-08T09:00:00Z",
        "data": {"org": "acme", "key": "crawler", "workspace": "research", "cost_usd": "1.25"} | (data or {}),
    } | attributes
    if isinstance(whole["data"], dict):
        whole["data"] = {name: value for name, value in whole["data"].items() if value is not ...}
    return {name: value for name, value in whole.items() if value is not ...}


def raw(data: dict[str, Any] | None = None, **attributes: Any) -> bytes:
    """`event` as JSON."""
    return json.dumps(event(data, **attributes)).encode()


def with_cost(written: str) -> bytes:
    """A good event whose cost is written exactly so."""
    return raw({"cost_usd": "COST"}).replace(b'"COST"', written.encode())


def good(body: bytes) -> RecordUsage:
    command = parse_usage(body)
    assert isinstance(command, RecordUsage), command
    return command


def bad(body: bytes) -> Rejected:
    rejected = parse_usage(body)
    assert isinstance(rejected, Rejected), rejected
    return rejected
