"""Owns what the world is told of an entry: CloudEvents for the topics, made from the entry alone, with a stable id (C6).

What is observed only is told to nobody (C1). Replay sends nothing: only `record` calls this.
"""

from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from ..core import entries as e
from ..core.caps import Enforce
from ..core.keys import State
from ..core.money import usd_text
from .times import moment_text

USAGE, USAGE_DEAD = "usage", "usage.dead"
BREACHES, KEY_COMMANDS, KEY_STATUS, ENTRIES = "ledger.breaches", "ledger.key-commands", "ledger.key-status", "ledger.entries"
TOLD_IN = {KEY_COMMANDS: (KEY_COMMANDS, KEY_STATUS)}  # topics of what has more than its own: a command is its key's newest state
_VERB = {State.ACTIVE: "resume", State.PAUSED: "pause", State.REVOKED: "revoke"}


class Message(NamedTuple):
    """One record for a topic; `key` keeps what belongs together in order."""

    seq: int
    topic: str
    key: str
    payload: str


def messages_of(org: str, entry: e.Entry) -> list[Message]:
    """The messages that an entry brings about; most bring none."""
    if isinstance(entry, e.KeyStateChanged):
        return [_key_message(org, entry)]
    if isinstance(entry, e.CapBreached | e.CapCleared | e.ThresholdReached) and entry.enforce is Enforce.ON:
        kind = {e.CapBreached: "breached", e.CapCleared: "cleared", e.ThresholdReached: "threshold"}[type(entry)]
        payload = _event(org, entry, f"ledger.cap.{kind}.v1", entry.scope, cap_data(entry))
        return [Message(entry.seq, BREACHES, org, payload)]
    if isinstance(entry, e.KeyLeaking):
        data = {
            "key": entry.key, "credential": entry.credential, "revision": entry.revision, "entry": entry.entry,
            "started": moment_text(entry.started_us), "confirmed": moment_text(entry.confirmed_us),
        }  # fmt: skip
        return [Message(entry.seq, BREACHES, org, _event(org, entry, "ledger.key.leaking.v1", f"key:{entry.key}", data))]
    return []


def _event(org: str, entry: e.AnyFact, kind: str, subject: str, data: dict[str, Any]) -> str:
    envelope = {
        "specversion": "1.0", "type": kind, "source": f"ledger/{quote(org, safe='')}", "id": f"{quote(org, safe='')}/{entry.seq}",
        "time": moment_text(entry.recorded_us), "subject": subject, "data": {"org": org, **data},
    }  # fmt: skip
    return msgspec.json.encode(envelope).decode()


def cap_data(entry: e.CapBreached | e.CapCleared | e.ThresholdReached) -> dict[str, Any]:
    """What a message says of a cap (C7)."""
    data: dict[str, Any] = {"cap": entry.cap_id, "scope": entry.scope, "enforce": entry.enforce}
    if isinstance(entry, e.CapCleared):
        return data | {"ordinal": entry.ordinal, "kind": entry.kind, "reason": entry.reason}
    data |= {
        "period": entry.period, "start": moment_text(entry.start_us), "end": moment_text(entry.end_us),
        "limit_usd": usd_text(entry.limit), "spent_usd": usd_text(entry.spent), "entry": entry.entry,
    }  # fmt: skip
    if isinstance(entry, e.ThresholdReached):
        return data | {"percent": entry.percent}
    return data | {
        "ordinal": entry.ordinal, "kind": entry.kind, "over_usd": usd_text(max(entry.spent - entry.limit, 0)),
        "action": entry.action, "unpriced": entry.unpriced, "waits": entry.waits,
    }  # fmt: skip


def _key_message(org: str, entry: e.KeyStateChanged) -> Message:
    verb = _VERB[entry.state]
    data = {
        "key": entry.key, "workspace": entry.workspace, "state": entry.state, "revision": entry.revision,
        "reasons": entry.reasons, "credentials": entry.credentials,
    }  # fmt: skip
    at = f"{quote(org, safe='')}/{quote(entry.key, safe='')}"
    payload = _event(org, entry, f"ledger.key.{verb}.v1", f"key:{entry.key}", data)
    return Message(entry.seq, KEY_COMMANDS, at, payload)


def command_id(connection: str, credential: str, revision: int) -> str:
    """What a command for one credential at one connection is called, by those who confirm it."""
    return f"{revision}@{connection}:{credential}" if connection else f"{revision}:{credential}"


class KeyCommand(msgspec.Struct, frozen=True):
    """The data of a key command, as a reader of `ledger.key-commands` sees it."""

    org: str
    key: str
    state: State
    revision: int
    reasons: tuple[str, ...]
    credentials: tuple[str, ...]


class _Envelope(msgspec.Struct, frozen=True):
    data: KeyCommand


_decode_command = msgspec.json.Decoder(_Envelope).decode


def parse_key_command(payload: str | bytes) -> KeyCommand:
    """A key command from its message. Raises msgspec.DecodeError for anything else."""
    return _decode_command(payload).data
