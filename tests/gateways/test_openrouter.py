"""OpenRouter's Broadcast, trap by trap."""

import json
from typing import Any

import msgspec
import pytest

from ledger.core.commands import RecordUsage, Rejected
from ledger.core.connections import Connection, Gateway
from ledger.gateways.openrouter import parse_openrouter
from ledger.wire.usage import EnvelopeError

from .payloads import END_US, GENERATION, PROMPT, openrouter, openrouter_span

OR = Connection(connection_id="or", gateway=Gateway.OPENROUTER, keys={"Agentic Coding": "coder"})


def one(changes: dict[str, Any] | None = None, **said: Any) -> RecordUsage:
    (event,) = parse_openrouter(openrouter(openrouter_span(changes, **said)), "acme", OR)
    assert isinstance(event, RecordUsage), event
    return event


def refused(changes: dict[str, Any] | None = None, **said: Any) -> Rejected:
    (event,) = parse_openrouter(openrouter(openrouter_span(changes, **said)), "acme", OR)
    assert isinstance(event, Rejected), event
    return event


def test_a_captured_span_becomes_usage_with_its_generation_as_identity() -> None:
    call = one()
    usage = call.usage
    assert (call.source, call.event_id, call.time_us) == ("connection/or", GENERATION, END_US)
    assert (call.cost, call.cost_text) == (69_580, "6.958e-05")
    assert (usage.org, usage.key, usage.workspace, usage.model) == ("acme", "coder", None, "deepseek/deepseek-v4-flash")
    assert usage.provider == "Novita", "the host, not the model's vendor"
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (25, 236, 101)
    assert (usage.member, usage.end_user, usage.session, usage.response_id) == ("user_30TQ", "u-1", "run-17", GENERATION)
    assert usage.started_us == 1_783_220_991_321_000


def test_a_name_that_the_map_does_not_have_is_booked_under_itself_and_guessed_for_nobody() -> None:
    assert one({"trace.metadata.openrouter.api_key_name": "Other"}).usage.key == "Other"
    assert one({"trace.metadata.openrouter.api_key_name": ...}).usage.key == "unknown"


@pytest.mark.parametrize("tokens", [25, "25", 25.0, "25.0"])
def test_numbers_come_as_numbers_or_as_text(tokens: Any) -> None:
    assert one({"gen_ai.usage.input_tokens": tokens}).usage.input_tokens == 25


@pytest.mark.parametrize(
    ("written", "nanos"), [("0.00006958", 69_580), ("0.0000695812345", 69_581), ("1.4E-7", 140), ('"0.00006958"', 69_580), ("0", 0)]
)
def test_costs_are_read_by_their_digits_however_many(written: str, nanos: int) -> None:
    body = openrouter(openrouter_span()).replace(b'{"doubleValue": 6.958e-05}', b'{"doubleValue": ' + written.encode() + b"}")
    (call,) = parse_openrouter(body, "acme", OR)
    assert isinstance(call, RecordUsage) and (call.cost, call.cost_text) == (nanos, written.strip('"'))


def test_the_cost_is_what_was_said_not_unit_price_times_tokens() -> None:
    assert one({"gen_ai.usage.input_tokens.cached": 20, "gen_ai.usage.total_cost": 0.00001}).cost == 10_000
    assert one({"gen_ai.usage.total_cost": ...}).cost is None, "no cost is unpriced, never zero"


def test_two_calls_of_one_trace_are_two_though_a_caller_sets_the_trace_id() -> None:
    body = openrouter(openrouter_span(), openrouter_span({"gen_ai.response.id": "gen-2"}))
    first, second = parse_openrouter(body, "acme", OR)
    assert isinstance(first, RecordUsage) and isinstance(second, RecordUsage) and first.digest != second.digest


def test_only_the_generation_counts_not_its_attempts_at_providers() -> None:
    attempt = openrouter_span({"gen_ai.usage.total_cost": 9.0}, name="Provider Attempt")
    before, call, after = parse_openrouter(openrouter(attempt, openrouter_span(), attempt), "acme", OR)
    assert isinstance(call, RecordUsage) and (before, after) == (None, None)


def test_older_names_of_the_tokens_are_understood() -> None:
    old = {"gen_ai.usage.input_tokens": ..., "gen_ai.usage.output_tokens": ..., "gen_ai.usage.prompt_tokens": 7}
    usage = one(old | {"gen_ai.usage.completion_tokens": "8"}).usage
    assert (usage.input_tokens, usage.output_tokens) == (7, 8)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"resourceSpans": []}'])
def test_a_test_of_the_connection_holds_no_call(body: bytes) -> None:
    assert parse_openrouter(body, "acme", OR) == []


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"resourceSpans": 1}', b"\xff", b'{"resourceSpans": [' * 5000, openrouter(openrouter_span())[:-9]]
)
def test_a_body_that_can_not_be_read_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(EnvelopeError):
        parse_openrouter(body, "acme", OR)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gen_ai.usage.input_tokens": "many"}, "gen_ai.usage.input_tokens"),
        ({"gen_ai.usage.output_tokens": -5}, "gen_ai.usage.output_tokens"),
        ({"gen_ai.usage.output_tokens": 2.5}, "gen_ai.usage.output_tokens"),
        ({"gen_ai.usage.total_cost": "1,5"}, "gen_ai.usage.total_cost"),
        ({"gen_ai.usage.total_cost": -1.0}, "gen_ai.usage.total_cost"),
        ({"gen_ai.usage.total_cost": True}, "gen_ai.usage.total_cost"),
        ({"gen_ai.response.model": "m" * 300}, "gen_ai.response.model"),
        ({"session.id": "a\0b"}, "session.id"),
    ],
)
def test_a_span_with_a_bad_value_is_rejected_by_its_field_and_says_nothing_of_the_value(changes: dict[str, Any], field: str) -> None:
    rejected = refused(changes)
    assert (rejected.field, rejected.event_id) == (field, GENERATION)
    assert str(next(iter(changes.values()))) not in rejected.detail.replace("m-", "")


def test_a_span_with_no_end_or_no_generation_is_rejected_and_its_neighbours_are_not() -> None:
    no_end = openrouter_span(endTimeUnixNano="0")
    nobody = json.loads(openrouter(openrouter_span({"gen_ai.response.id": ...}), no_end, openrouter_span()))
    nobody["resourceSpans"][0]["resource"]["attributes"] = []
    first, second, third = parse_openrouter(json.dumps(nobody).encode(), "acme", OR)
    assert isinstance(first, Rejected) and isinstance(second, Rejected) and isinstance(third, RecordUsage)
    assert (first.field, second.field) == ("gen_ai.response.id", "endTimeUnixNano")


def test_fields_of_a_next_version_are_ignored_and_nothing_that_was_said_is_kept() -> None:
    call = one({"gen_ai.usage.new_tokens": 5, "gen_ai.input.messages": PROMPT}, flags=257, links=[{"traceId": "00"}], newer={"deep": [1]})
    assert PROMPT not in msgspec.json.encode(call).decode()


def test_half_a_character_in_what_was_said_costs_no_call_and_in_a_name_only_its_own() -> None:
    said = openrouter_span({"gen_ai.prompt": "cut \ud83d"})
    named = openrouter_span({"session.id": "cut \ude00", "gen_ai.response.id": "gen-2"})
    calls = parse_openrouter(openrouter(said, named, openrouter_span({"gen_ai.response.id": "gen-3"})), "acme", OR)
    assert [getattr(call, "field", None) for call in calls] == [None, "session.id", None]
