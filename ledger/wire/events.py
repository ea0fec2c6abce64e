"""Owns how usage that came in by another door is written as an event of ours: what `usage.parse_usage` reads back the same."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from ..core.commands import RecordUsage
from ..core.money import Nanos, usd_text
from ..core.window import EPOCH
from .usage import USAGE_TYPE

HandOver = Callable[[Sequence[RecordUsage], str | None], Awaitable[None]]  # usage, and the `traceparent` it came in with


class NotTaken(Exception):
    """Usage could be handed on to nobody just now: nothing was taken, and it may be sent again."""


_encode = msgspec.json.Encoder().encode
_PLAIN = (
    "org", "key", "workspace", "model", "provider", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "audio_tokens", "images", "searches", "byok", "batch", "member", "end_user", "preset", "preset_version",
    "session", "tags", "hold", "response_id",
)  # fmt: skip


def encode_event(command: RecordUsage) -> bytes:
    """A structured CloudEvent. What is nothing is left out; an amount is as its sender wrote it."""
    usage = command.usage
    data: dict[str, Any] = {name: value for name in _PLAIN if (value := getattr(usage, name))}
    data |= _amount("cost_usd", command.cost, command.cost_text) | _amount("upstream_cost_usd", command.upstream, command.upstream_text)
    if usage.preset_version is not None:
        data["preset_version"] = usage.preset_version
    if usage.started_us is not None:
        data["started_at"] = _moment(usage.started_us)
    return _encode(
        {"specversion": "1.0", "type": USAGE_TYPE, "source": command.source, "id": command.event_id, "time": _moment(command.time_us),
         "data": data}
    )  # fmt: skip


def _amount(field: str, nanos: Nanos | None, text: str | None) -> dict[str, str]:
    return {} if nanos is None else {field: text if text is not None else usd_text(nanos)}


def _moment(us: int) -> str:
    return (EPOCH + timedelta(microseconds=us)).isoformat()
