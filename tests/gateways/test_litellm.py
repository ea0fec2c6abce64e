"""LiteLLM's callback, trap by trap."""

import json
from typing import Any

import msgspec
import pytest

from ledger.core.commands import RecordUsage, Rejected
from ledger.core.connections import Connection, Gateway
from ledger.gateways.litellm import parse_litellm
from ledger.wire.usage import EnvelopeError

from .payloads import END_US, HASH, PROMPT, entry_of, litellm, litellm_payload, refused, zero_priced

PROXY = Connection(connection_id="proxy", gateway=Gateway.LITELLM)


def one(metadata: dict[str, Any] | None = None, connection: Connection = PROXY, **said: Any) -> RecordUsage:
    (event,) = parse_litellm(litellm(metadata, **said), "acme", connection)
    assert isinstance(event, RecordUsage), event
    return event


def call_of(payload: dict[str, Any]) -> RecordUsage:
    (event,) = parse_litellm(json.dumps(payload).encode(), "acme", PROXY)
    assert isinstance(event, RecordUsage), event
    return event


def test_a_captured_payload_becomes_usage() -> None:
    call = one()
    usage = call.usage
    assert (call.source, call.time_us, call.cost, call.cost_text) == ("connection/proxy", END_US, 13_500, "1.35e-05")
    assert (usage.org, usage.key, usage.workspace, usage.member, usage.end_user) == ("acme", HASH, "team-9", "ann", "customer-7")
    assert (usage.model, usage.provider, usage.session, usage.response_id) == ("gpt-4o-mini", "openai", "t-1", "chatcmpl-1b7")
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.reasoning_tokens) == (10, 4, 20, 7)
    assert usage.tags == {"prod": "true", "ticket": "A-1", "litellm_org": "org-1", "key_alias": "crawler"}
    assert usage.started_us == 1_783_220_991_321_000 and not usage.batch


@pytest.mark.parametrize(
    "body",
    [
        b"[" + litellm() + b"," + litellm(id="2") + b"]",
        litellm() + b"\n" + litellm(id="2") + b"\n",
        b"\r\n" + litellm() + b"\r\n\r\n" + litellm(id="2"),
        json.dumps([litellm_payload(), litellm_payload(id="2")], indent=1).encode(),
    ],
)
def test_a_body_is_an_array_or_lines_and_needs_no_content_type_to_say_so(body: bytes) -> None:
    calls = parse_litellm(body, "acme", PROXY)
    assert [type(call) for call in calls] == [RecordUsage] * 2 and calls[0].digest != calls[1].digest  # type: ignore[union-attr]


def test_one_payload_over_many_lines_is_one() -> None:
    assert len(parse_litellm(json.dumps(litellm_payload(), indent=2).encode(), "acme", PROXY)) == 1


def test_the_connections_maps_say_whose_a_key_and_a_team_are_by_hash_or_by_alias() -> None:
    by_hash = Connection(connection_id="proxy", gateway=Gateway.LITELLM, keys={HASH: "k1"}, workspaces={"team-9": "w1"})
    by_alias = Connection(connection_id="proxy", gateway=Gateway.LITELLM, keys={"crawler": "k2"}, workspaces={"research": "w2"})
    assert (one(connection=by_hash).usage.key, one(connection=by_hash).usage.workspace) == ("k1", "w1")
    assert (one(connection=by_alias).usage.key, one(connection=by_alias).usage.workspace) == ("k2", "w2")


def test_a_call_without_a_key_is_booked_all_the_same() -> None:
    assert one({"user_api_key_hash": None}).usage.key == "crawler"
    assert one({"user_api_key_hash": None, "user_api_key_alias": None, "user_api_key_team_id": None}).usage.key == "unknown"
    assert call_of(litellm_payload() | {"metadata": None}).usage.key == "unknown"


def test_a_model_whose_price_litellm_does_not_know_is_unpriced_not_free() -> None:
    unknown = {"response_cost": 0.0, "cost_breakdown": None}
    assert one(**unknown, response_cost_failure_debug_info={"error_str": "no price"}).cost is None
    assert one(**unknown).cost is None, "a cost of 0 that nothing explains"
    assert one(response_cost=None).cost is None
    assert one(response_cost=0.0, cost_breakdown={"input_cost": 0.0, "output_cost": 0.0}).cost == 0, "a price of 0 is a price"


@pytest.mark.parametrize(
    ("entry", "cost"),
    [
        (entry_of("openai/mystery-9"), None), (entry_of("openai/mystery-9", mode="chat"), None), (None, None),
        (entry_of("d56b5e0a"), 0), (entry_of("openai/free-1", input_cost_per_token=0.0, output_cost_per_token=0.0), 0),
        (entry_of("gemini/gemini-exp-1206", mode="chat", max_tokens=8192, max_input_tokens=2097152), 0),
        (entry_of("ollama/nomic-embed-text", mode="embedding", max_input_tokens=8192), 0),
    ],
)  # fmt: skip
def test_a_zero_is_a_price_where_the_deployment_or_litellms_own_list_has_one(entry: dict[str, Any] | None, cost: int | None) -> None:
    call = one(**zero_priced("mystery-9", entry))
    assert (call.cost, call.usage.model, call.usage.input_tokens) == (cost, "mystery-9", 10)
    assert one(**zero_priced("mystery-9", entry) | {"cache_hit": True}).cost == 0
    assert one(**zero_priced("mystery-9", entry) | {"model_map_information": {"model_map_value": 5}}).cost == 0, "no such shape is known"


def test_a_call_that_the_proxy_turned_away_is_none_and_its_neighbours_are() -> None:
    """A blocked key's first: a call of a key that we have stopped would be a leak (K6)."""
    away = [refused("", "Exception"), refused("401", "KeyNotFoundError"), refused("400", "BadRequestError", custom_llm_provider=None)]
    calls = parse_litellm(b"[" + b",".join([litellm(), *away, litellm(id="z")]) + b"]", "acme", PROXY)
    assert [call.usage.response_id for call in calls if isinstance(call, RecordUsage)] == ["chatcmpl-1b7", "z"]
    assert [call is None for call in calls] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("failure", "cost"),
    [
        (refused("x", "InternalServerError", "openai"), 0), (refused("429", "RateLimitError", "openai"), 0),
        (refused("", "APIConnectionError", response_cost=5.25e-05, prompt_tokens=13, completion_tokens=2), 52_500),
        (refused("400", "GuardrailRaisedException", response_cost=0.001), 1_000_000), (refused("", "Timeout", prompt_tokens=13), 0),
        (refused("", "", error_information=None), 0), (refused("", "", error_information=["x"]), 0),
    ],
)  # fmt: skip
def test_a_failure_of_a_provider_or_one_that_cost_something_is_a_call(failure: bytes, cost: int) -> None:
    (call,) = parse_litellm(failure, "acme", PROXY)
    assert isinstance(call, RecordUsage) and call.cost == cost and call.usage.response_id is None


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("openai/gpt-4o-mini", "openai", "gpt-4o-mini"), ("gpt-4o-mini", "openai", "gpt-4o-mini"),
        ("openrouter/deepseek/deepseek-v4-flash", "openrouter", "deepseek/deepseek-v4-flash"),
        ("deepseek/deepseek-v4-flash", "openrouter", "deepseek/deepseek-v4-flash"), ("nope", None, "nope"), (None, "openai", None),
    ],
)  # fmt: skip
def test_a_model_is_called_as_its_provider_calls_it_whichever_version_tells(model: Any, provider: Any, name: str | None) -> None:
    assert one(model=model, custom_llm_provider=provider).usage.model == name


def test_written_cache_and_images_are_counted_wherever_a_version_tells_of_them() -> None:
    anthropic = {"prompt_tokens": 7100, "prompt_tokens_details": {"cached_tokens": 5000, "cache_write_tokens": 2000, "text_tokens": 100},
                 "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 2000}  # fmt: skip
    for usage in (anthropic, {"prompt_tokens_details": anthropic["prompt_tokens_details"]}):
        used = one({"usage_object": usage}, prompt_tokens=7100).usage
        assert (used.input_tokens, used.cached_input_tokens, used.cache_write_tokens) == (7100, 5000, 2000)
    assert one({"usage_object": {"prompt_tokens_details": {"image_tokens": 0}, "output_image_count": 2}}).usage.images == 2


def test_a_session_is_its_own_where_it_is_told_apart_from_the_trace() -> None:
    assert one(session_id="talk-5").usage.session == "talk-5"
    assert one(session_id="").usage.session == "t-1"


def test_a_cache_hit_costs_nothing_and_a_failure_what_it_says() -> None:
    assert one(cache_hit=True, response_cost=0.0, cost_breakdown=None).cost == 0
    failed = {"status": "failure", "error_str": PROMPT, "id": "b980", "cost_breakdown": None, "prompt_tokens": 0, "completion_tokens": 0}
    assert one(**failed, response_cost=0.0).cost == 0
    assert one(**failed, response_cost=0.25).cost == 250_000_000
    assert one(**failed, response_cost=0.0).usage.response_id is None


def test_retries_share_a_calls_id_and_are_told_apart_and_the_same_again_is_the_same() -> None:
    calls = [one(), one(id="other"), one(model_id="x"), one(status="failure"), one(startTime=1783220991.322), one(litellm_call_id="mine")]
    assert len({call.digest for call in calls}) == 6
    assert one(response_time=9.9, metadata={"new": 1}).digest == one().digest


def test_batch_calls_are_marked() -> None:
    assert one(call_type="aretrieve_batch").usage.batch


def test_nothing_that_was_said_is_kept_and_fields_of_a_next_version_are_ignored() -> None:
    call = one({"user_api_key_budget": {"a": [1]}}, brand_new={"x": PROMPT}, guardrail_information=[{"guardrail_request": PROMPT}])
    assert PROMPT not in msgspec.json.encode(call).decode()


@pytest.mark.parametrize("usage", [None, "text", 5, [], {"prompt_tokens_details": "x"}, {"cache_read_input_tokens": 3}])
def test_a_usage_object_of_another_shape_costs_the_details_only(usage: Any) -> None:
    cached = usage.get("cache_read_input_tokens", 0) if isinstance(usage, dict) else 0
    used = one({"usage_object": usage}).usage
    assert (used.input_tokens, used.cached_input_tokens) == (10, cached)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"prompt_tokens": -1}, "prompt_tokens"), ({"prompt_tokens": "x"}, "prompt_tokens"), ({"prompt_tokens": 1.5}, "prompt_tokens"),
        ({"completion_tokens": 1e30}, "completion_tokens"), ({"endTime": None}, "endTime"), ({"endTime": "soon"}, "endTime"),
        ({"endTime": -5.0}, "endTime"), ({"endTime": {"a": 1}}, "endTime"), ({"response_cost": -1}, "response_cost"),
        ({"response_cost": "1 EUR"}, "response_cost"), ({"response_cost": 1e9}, "response_cost"),
        ({"id": None, "litellm_call_id": None}, "id"),
        ({"model": "m\0"}, "model"), ({"model": 5}, "model"), ({"metadata": 5}, "metadata"),
    ],
)  # fmt: skip
def test_a_payload_with_a_bad_value_is_rejected_by_its_field_between_neighbours_that_are_not(said: dict[str, Any], field: str) -> None:
    bad = json.dumps(litellm_payload() | said)
    first, middle, last = parse_litellm(b"[" + b",".join([litellm(), bad.encode(), litellm(id="z")]) + b"]", "acme", PROXY)
    assert isinstance(first, RecordUsage) and isinstance(last, RecordUsage)
    assert isinstance(middle, Rejected) and middle.field == field, middle


ODD: list[Any] = [7, 2.5, True, "", "x" * 300, "a\0b", [], ["a", 5, None, ["b"]], {"a": {"b": 1}}]
SECONDARY = (
    "trace_id", "call_type", "status", "model_id", "custom_llm_provider", "request_tags", "end_user", "startTime", "model_group",
)  # fmt: skip
ABOUT = (
    "user_api_key_alias", "user_api_key_org_id", "user_api_key_team_id", "user_api_key_team_alias", "user_api_key_user_id",
    "user_api_key_end_user_id", "spend_logs_metadata", "usage_object",
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_secondary_field_of_another_type_costs_no_call(odd: Any) -> None:
    for call in [one(**{name: odd}) for name in SECONDARY] + [one({name: odd}) for name in ABOUT]:
        assert (call.cost, call.usage.key, call.usage.input_tokens) == (13_500, HASH, 10)
    assert one({"usage_object": {"cache_read_input_tokens": -1}}).usage.cached_input_tokens == 0


def test_a_secondary_number_is_read_as_its_text_and_a_lone_tag_as_a_tag() -> None:
    usage = one({"user_api_key_user_id": 12, "user_api_key_team_id": 9}, end_user=7, request_tags="a", id=5).usage
    assert (usage.end_user, usage.member, usage.workspace, usage.response_id) == ("7", "12", "9", "5")
    assert usage.tags is not None and usage.tags["a"] == "true"
    assert one({"user_api_key_hash": 5}).usage.key == "5" and one({"user_api_key_hash": {}}).usage.key == "crawler"


@pytest.mark.parametrize(("said", "name"), [({}, "chatcmpl-1b7"), ({"id": 5}, "5"), ({"id": None}, "b980db26-9512-45cc-b1da-c511a363b83f")])
@pytest.mark.parametrize("wrong", [{"model": 5}, {"prompt_tokens": -1}, {"metadata": 5}])
def test_a_rejected_payload_is_named_as_its_sender_calls_it(said: dict[str, Any], name: str, wrong: dict[str, Any]) -> None:
    (rejected,) = parse_litellm(json.dumps(litellm_payload() | said | wrong).encode(), "acme", PROXY)
    assert isinstance(rejected, Rejected) and rejected.event_id == name


@pytest.mark.parametrize("body", [b"", b"{", b"5 5", b"[1,", b"\xff\xfe", b"[" * 100_000, litellm()[:-1]])
def test_a_body_that_is_not_json_is_refused_as_a_whole_or_line_by_line(body: bytes) -> None:
    try:
        events = parse_litellm(body, "acme", PROXY)
    except EnvelopeError:
        return
    assert events and all(isinstance(event, Rejected) for event in events)


def test_what_is_no_number_costs_no_call_where_it_is_skipped_and_nothing_where_it_is_kept() -> None:
    """Python writes NaN and Infinity, which JSON has not (S7, T4); the digits of the rest are as they were (M1)."""
    said = litellm_payload(messages=[{"logprob": float("-inf")}, "NaN"])
    free = litellm_payload(response_cost=float("nan"))
    cost = litellm_payload(id="z", response_cost=1.2345678901e-05)
    calls = parse_litellm(json.dumps([said, free, cost]).encode(), "acme", PROXY)
    assert [type(call) for call in calls] == [RecordUsage] * 3
    (plain,) = parse_litellm(json.dumps(cost).encode(), "acme", PROXY)
    assert isinstance(plain, RecordUsage) and isinstance(calls[2], RecordUsage) and plain.cost == calls[2].cost
    assert parse_litellm("\n".join(map(json.dumps, [said, free, cost])).encode(), "acme", PROXY)[:2] == calls[:2]


def test_half_a_character_in_what_was_said_costs_no_call_and_in_a_name_only_its_own() -> None:
    """A text that was cut in the middle of a surrogate pair: JSON can write it, and nothing can keep it."""
    said = litellm_payload(messages=["cut \ud83d", "\\ud83d", "\U0001f600"])
    named = litellm_payload(model="cut \ud83d")
    calls = parse_litellm(json.dumps([said, named, litellm_payload(id="z")]).encode(), "acme", PROXY)
    assert [getattr(call, "field", None) for call in calls] == [None, "model", None]
    assert parse_litellm(json.dumps(said).encode(), "acme", PROXY) == calls[:1]
    assert parse_litellm("\n".join(map(json.dumps, [said, named])).encode(), "acme", PROXY) == calls[:2]
