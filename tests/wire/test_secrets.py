"""S2: a secret is never stored, nor told back. S7: what was said is nobody's business."""

import json
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.commands import RecordUsage, Rejected
from ledger.wire.identity import identity
from ledger.wire.secrets import redact
from ledger.wire.usage import EnvelopeError, parse_usage, split_events

from .events import PROMPT, SECRET, TEXT_FIELDS, event, raw

HASHED = sha256(SECRET.encode()).hexdigest()
SECRETS = (
    SECRET,
    "sk-proj-" + "Ab1_" * 12,
    "sk-ant-api03-" + "x9" * 20,
    "AKIA" + "ABCDEFGH12345678",
    "AIza" + "a1" * 18,
    "ghp_" + "a1" * 18,
    "github_pat_" + "a1" * 15,
    "xoxb-" + "12345-" * 4,
    "hf_" + "a1" * 17,
    "gsk_" + "a1" * 20,
    "xai-" + "a1" * 20,
    "glpat-" + "a1" * 12,
    "ldg_" + "a1" * 20,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
)


def shown(answer: RecordUsage | Rejected) -> str:
    """Everything an answer holds, as it would be stored or logged."""
    return msgspec.json.encode(answer).decode() + repr(answer)


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_replaced_by_its_hash(secret: str) -> None:
    assert redact(secret) == sha256(secret.encode()).hexdigest()
    answer = parse_usage(raw({"key": secret}))
    assert secret not in shown(answer)
    assert isinstance(answer, RecordUsage) and answer.usage.key == redact(secret)


@pytest.mark.parametrize(
    "name",
    ["research/sk-crawler", "ask-me", "task-force-of-the-north-west-2026", "gen-1783220991-afTJPipo", "agent-07"],
)
def test_an_honest_name_is_left_alone(name: str) -> None:
    assert redact(name) == name


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_secrets_are_replaced_in_every_text_field(field: str) -> None:
    answer = parse_usage(raw({field: f"my {SECRET}"}))
    assert isinstance(answer, RecordUsage)
    assert getattr(answer.usage, field) == f"my {HASHED}"
    assert SECRET not in shown(answer)


@pytest.mark.parametrize("where", [{"source": SECRET}, {"id": SECRET}])
def test_secrets_are_replaced_in_the_attributes_and_the_identity_is_of_what_is_stored(where: dict[str, str]) -> None:
    answer = parse_usage(raw(**where))
    assert isinstance(answer, RecordUsage)
    assert SECRET not in shown(answer)
    assert answer.digest == identity("acme", answer.source, answer.event_id)


def test_secrets_are_replaced_in_tags_and_their_names() -> None:
    answer = parse_usage(raw({"tags": {SECRET: SECRET}}))
    assert isinstance(answer, RecordUsage)
    assert answer.usage.tags == {HASHED: HASHED}


@pytest.mark.parametrize("field", [*TEXT_FIELDS, "source", "id"])
def test_a_secret_hidden_by_escapes_is_found(field: str) -> None:
    hidden = "".join(f"\\u{ord(character):04x}" for character in SECRET)
    where = {field: "HERE"}
    body = (raw(**where) if field in ("source", "id") else raw(where)).replace(b"HERE", hidden.encode())
    answer = parse_usage(body)
    assert isinstance(answer, RecordUsage)
    assert SECRET not in shown(answer)


SPOILED: list[dict[str, Any]] = [
    {"data": {"key": 5}},
    {"data": {"cost_usd": "-1"}},
    {"data": {"cost_usd": SECRET}},
    {"data": {"cost_usd": {"prompt": PROMPT}}},
    {"data": {"currency": SECRET}},
    {"data": {"currency": PROMPT}},
    {"data": {"model": [SECRET]}},
    {"data": {"tags": {SECRET: 1}}},
    {"data": {"tags": {PROMPT: PROMPT * 90}}},
    {"data": {"key": SECRET * 9}},
    {"data": PROMPT},
    {"type": SECRET},
    {"type": PROMPT},
    {"specversion": SECRET},
    {"time": SECRET},
    {"time": PROMPT},
    {"source": SECRET + "\0"},
    {"id": SECRET + "\0"},
    {"source": "\0"},
    {"id": f"\0{SECRET}"},
    {"source": SECRET, "data": {"key": "\0"}},
    {"id": SECRET, "time": None},
    {"id": f"{SECRET}\0", "time": None},
    {"source": SECRET * 9},
    {"data": {"session": f"{SECRET}\0"}},
    {"data": {"tags": {"a": f"{PROMPT}\0"}}},
]


@pytest.mark.parametrize("spoiled", SPOILED, ids=lambda spoiled: str(spoiled).replace(SECRET, "SECRET").replace(PROMPT, "PROMPT")[:50])
def test_a_rejection_tells_no_secret_nothing_that_was_said_and_nothing_a_database_refuses(
    spoiled: dict[str, Any],
) -> None:
    """S2, S7, T5: it may be logged and kept as a dead letter."""
    whole = event() | {name: value for name, value in spoiled.items() if name != "data"}
    data = spoiled.get("data", {})
    whole["data"] = {**whole["data"], "prompt": PROMPT, **data} if isinstance(data, dict) else data
    answer = parse_usage(json.dumps(whole).encode())
    assert isinstance(answer, Rejected)
    assert SECRET[:20] not in shown(answer)
    assert PROMPT[:10] not in shown(answer)
    told = [part for part in (answer.detail, answer.field, answer.source, answer.event_id) if part is not None]
    assert not any("\0" in part for part in told)


@given(
    st.integers(0, 500),
    st.binary(max_size=2),
    st.sampled_from(("prompt", "completion", "messages", "response", "model_parameters")),
)
def test_what_was_said_is_in_no_answer_however_the_event_is_spoiled(at: int, put: bytes, name: str) -> None:
    """S7: skipped while decoding."""
    body = json.dumps(event({name: [{"role": "user", "content": PROMPT}]}) | {name: PROMPT}).encode()
    answer = parse_usage(body[:at] + put + body[at + 1 :])
    assert PROMPT[:10] not in shown(answer)


@given(st.integers(0, 500))
def test_a_body_that_breaks_off_tells_nothing_of_what_was_said(at: int) -> None:
    """S7, T4."""
    body = b"[" + raw({"prompt": PROMPT})
    assert PROMPT[:10] not in shown(parse_usage(body[1:at]))
    with pytest.raises(EnvelopeError) as caught:
        split_events(body[:at], "application/json")
    assert PROMPT[:10] not in str(caught.value)
