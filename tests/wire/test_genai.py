"""What instrumentations really send, held against the calls that were made: one entry a call, its tokens and no other's."""

from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ledger.core.commands import RecordUsage, Rejected
from ledger.core.connections import Connection, Gateway
from ledger.gateways.inward import PROTOBUF, parse_delivery
from tests.wire import senders as s

ACCOUNT = Connection(connection_id="spans", gateway=Gateway.OTLP)


def calls(*spans: dict[str, Any], scope: str = "instrumentation") -> list[RecordUsage]:
    found = parse_delivery(s.export(*spans, scope=scope), "acme", ACCOUNT)
    return [call for call in found if isinstance(call, RecordUsage)]


def tokens(call: RecordUsage) -> tuple[int, int, int, int, int]:
    """Input, of it cached and written; output, of it reasoning."""
    u = call.usage
    return u.input_tokens, u.cached_input_tokens, u.cache_write_tokens, u.output_tokens, u.reasoning_tokens


TOLD, CLAUDE = (1033, 333, 0, 233, 83), (1326, 742, 442, 242, 0)


@pytest.mark.parametrize(
    ("said", "scope", "used", "model", "provider"),
    [
        (s.OFFICIAL, "", (1033, 0, 0, 233, 0), s.GPT, "openai"), (s.TRACELOOP, "", TOLD, s.GPT, "openai"),
        (s.TRACELOOP_OLD, "", (1033, 333, 0, 233, 0), s.GPT, "OpenAI"), (s.TRACELOOP_ANTHROPIC, "", CLAUDE, s.CLAUDE, "anthropic"),
        (s.ANTHROPIC_SDK, "com.anthropic.sdk.python", CLAUDE, s.CLAUDE, "anthropic"), (s.OPENINFERENCE, "", TOLD, s.GPT, "openai"),
        (s.OPENINFERENCE_EMBEDDING, "", (1051, 0, 0, 0, 0), "text-embedding-3-small", "openai"),
        (s.OPENINFERENCE_ANTHROPIC, "", CLAUDE, s.CLAUDE, "anthropic"), (s.PYDANTIC, "pydantic-ai", TOLD, s.GPT, "openai"),
        (s.PYDANTIC_OLD_ANTHROPIC, "pydantic-ai", CLAUDE, s.CLAUDE, "anthropic"), (s.OPENLIT, "", TOLD, s.GPT, "openai"),
        (s.OPENLIT_ANTHROPIC, "openlit.instrumentation.anthropic", CLAUDE, s.CLAUDE, "anthropic"),
        (s.LITELLM, "litellm", (1033, 0, 0, 233, 0), s.GPT, "openai"), (s.GOOGLE, "", TOLD, "gemini-2.5-flash-001", "gemini"),
        (s.VERCEL, "ai", TOLD, s.GPT, "openai"), (s.VERCEL_EMBEDDING, "ai", (1051, 0, 0, 0, 0), "text-embedding-3-small", "openai"),
        (s.CLOUDFLARE, "", (1033, 0, 0, 233, 0), s.GPT, "openai"), (s.RIG, "", (1033, 333, 0, 233, 0), s.GPT, "openai"),
        (s.ENVOY, "", TOLD, s.GPT, None), (s.LANGSMITH, "langsmith", (1033, 0, 0, 233, 0), s.GPT, "openai"),
    ],
)  # fmt: skip
def test_each_instrumentation_is_booked_as_its_call_was(
    said: dict[str, Any], scope: str, used: tuple[int, ...], model: str, provider: str
) -> None:
    (call,) = calls(s.span(said), scope=scope)
    assert (tokens(call), call.usage.model, call.usage.provider, call.usage.key) == (used, model, provider, "checkout")
    assert call.usage.response_id == said.get("gen_ai.response.id")


@pytest.mark.parametrize("said", [s.BIFROST, s.BIFROST_OLD])
def test_a_gateways_own_key_is_the_key_and_a_persons_word_goes_first(said: dict[str, Any]) -> None:
    """S1: all that passes a gateway has the gateway's name of service."""
    (call,) = calls(s.span(said))
    assert (call.usage.key, tokens(call), call.cost) == ("vk-crawler", TOLD, 309_000)
    assert calls(s.span(said | {"ledger.key": "crawler"}))[0].usage.key == "crawler"


@pytest.mark.parametrize("said", [s.TRACELOOP, s.TRACELOOP_OLD, s.OPENLIT, s.LITELLM, s.VERCEL])
def test_the_requests_user_is_the_end_user(said: dict[str, Any]) -> None:
    assert calls(s.span(said))[0].usage.end_user == "user-7"


@pytest.mark.parametrize(("fresh", "scope"), [(142, "of its own"), (5000, "openlit.instrumentation.anthropic")])
def test_cached_tokens_that_a_sender_leaves_outside_of_input_are_added_to_it(fresh: int, scope: str) -> None:
    (call,) = calls(s.span(s.OPENLIT_ANTHROPIC | {"gen_ai.usage.input_tokens": fresh}), scope=scope)
    assert tokens(call) == (fresh + 742 + 442, 742, 442, 242, 0)


def test_a_call_is_no_larger_than_one_may_be_when_tokens_outside_of_input_are_added_to_it() -> None:
    """T4: each of the counts is within the bound of one."""
    said = s.OPENLIT_ANTHROPIC | {"gen_ai.usage.input_tokens": 10**12}
    for scope, count in (("openlit.instrumentation.anthropic", 0), ("of its own", 1)):
        assert len(calls(s.span(said), scope=scope)) == count
    (refused,) = parse_delivery(s.export(s.span(said), scope="openlit.instrumentation.anthropic"), "acme", ACCOUNT)
    assert isinstance(refused, Rejected) and refused.field == "gen_ai.usage.input_tokens"


def test_a_cost_that_is_empty_hides_none_that_is_said() -> None:
    said = s.OFFICIAL | {"ledger.cost_usd": "", "gen_ai.usage.total_cost": "0.25"}
    assert calls(s.span(said))[0].cost == 250_000_000


def test_a_null_in_json_is_nothing_as_protobufs_mapping_has_it() -> None:
    """S3: a JavaScript's NaN is written as null, and the parent of a first span may be."""
    span: dict[str, Any] = s.span(s.OFFICIAL) | {"parentSpanId": None, "name": None, "startTimeUnixNano": None, "status": {"code": None}}
    span["attributes"].append({"key": "gen_ai.usage.total_cost", "value": {"doubleValue": None}})
    (call,) = calls(span)
    assert (call.cost, call.usage.started_us) == (None, None)
    assert call.usage.input_tokens > 0


@pytest.mark.parametrize(
    ("said", "cost"), [(s.PYDANTIC, 288_675), (s.LITELLM, 309_000), (s.PYDANTIC | {"ledger.cost_usd": "0.5"}, 500_000_000)]
)
def test_a_cost_that_is_said_is_booked_and_a_persons_own_goes_first(said: dict[str, Any], cost: int) -> None:
    assert calls(s.span(said))[0].cost == cost


def test_no_cost_in_a_librarys_price_list_is_no_price_and_a_gateways_is_one() -> None:
    assert [call.cost for call in calls(s.span(s.OPENLIT), s.span(s.OFFICIAL | {"gen_ai.usage.total_cost": 0}, 2))] == [None, 0]


@pytest.mark.parametrize(
    "said",
    [
        s.PYDANTIC_OLD_AGENT, s.TRACELOOP | {"gen_ai.operation.name": "invoke_agent"},
        s.VERCEL_SUM, s.LANGFUSE | {"langfuse.observation.type": "agent"},
        s.VERCEL_EMBEDDING | {"ai.operationId": "ai.embed"}, s.VERCEL_EMBEDDING | {"ai.operationId": 7},
        s.TRACELOOP | {"gen_ai.operation.name": "plan"}, s.LANGSMITH_CHAIN,
        s.OPENINFERENCE | {"openinference.span.kind": "AGENT"}, s.OPENINFERENCE | {"openinference.span.kind": "CHAIN"},
    ],
)  # fmt: skip
def test_what_sums_up_calls_is_none(said: dict[str, Any]) -> None:
    assert not calls(s.span(said))


@pytest.mark.parametrize("said", [s.ENVOY_COUNTED, s.BIFROST_COUNTED])
def test_tokens_that_were_counted_before_a_call_are_not_used_by_one(said: dict[str, Any]) -> None:
    """S3: vendors count for nothing, and Claude Code asks for it all the time."""
    assert not calls(s.span(said))


@pytest.mark.parametrize("operation", ["image_generation", "speech", "transcription", "translation", "rerank"])
def test_a_call_that_a_gateway_answers_without_tokens_is_unpriced(operation: str) -> None:
    """M4: Envoy AI Gateway says no more of these than that they were answered."""
    said = s.ENVOY_IMAGE | {"gen_ai.operation.name": operation}
    (call,) = calls(s.span(said, status={"code": 1}))
    assert (call.cost, call.usage.model) == (None, "gpt-image-1")
    assert not calls(s.span(said, status={"code": 2}))


@pytest.mark.parametrize("outer", [s.PYDANTIC_ANTHROPIC, s.OPENINFERENCE_ANTHROPIC])
def test_a_call_inside_a_call_is_told_by_the_outer_one(outer: dict[str, Any]) -> None:
    (call,) = calls(s.span(s.ANTHROPIC_SDK, 2, parent=1), s.span(outer, 1))
    assert call.usage.session == outer.get("gen_ai.conversation.id") and tokens(call) == CLAUDE


def test_a_call_inside_one_that_says_nothing_of_usage_is_told_itself() -> None:
    found = calls(s.span(s.ANTHROPIC_SDK, 2, parent=1), s.span(s.UNTOLD, 1))
    assert [call.usage.input_tokens for call in found] == [1326, 0]


def test_two_instrumentations_of_one_call_have_one_identity_in_whatever_bodies_they_come() -> None:
    (one,), (other,) = calls(s.span(s.ANTHROPIC_SDK, 1)), calls(s.span(s.TRACELOOP_ANTHROPIC, 2, traceId="cd" * 16))
    assert one.digest == other.digest and one.event_id == s.ANTHROPIC_ID


@pytest.mark.parametrize("response", [..., "", "chatcmpl-123", "x" * 1000])
def test_a_response_id_that_may_come_again_does_not_make_two_calls_one(response: Any) -> None:
    one, other = calls(*(s.span(s.OFFICIAL | {"gen_ai.response.id": response}, place) for place in (1, 2)))
    assert one.digest != other.digest


@pytest.mark.parametrize("said", [s.UNTOLD, s.OPENINFERENCE_UNTOLD, s.OPENINFERENCE_EMBEDDING_UNTOLD, s.LANGFUSE, s.LANGSMITH_UNTOLD])
def test_a_call_whose_usage_was_not_told_is_one_without_a_price(said: dict[str, Any]) -> None:
    """M4: a stream that was not asked for its usage; embeddings whose library tells none."""
    (call,) = calls(s.span(said))
    assert (call.cost, call.usage.input_tokens, call.usage.model) == (None, 0, said.get("embedding.model_name", s.GPT))


@pytest.mark.parametrize("said", [s.TRACELOOP, s.UNTOLD])
def test_what_wraps_a_call_and_knows_nothing_of_it_is_none(said: dict[str, Any]) -> None:
    (call,) = calls(s.span(said, 2, parent=1), s.span(s.OPENINFERENCE_UNTOLD, 1))
    assert call.usage.response_id == s.OPENAI_ID


@pytest.mark.parametrize("said", [s.OPENINFERENCE_SOUND, s.PYDANTIC_SOUND, s.BIFROST])
def test_audio_is_the_input_that_was_sound(said: dict[str, Any]) -> None:
    """M3: the rate card's price of audio is that of input."""
    (call,) = calls(s.span(said))
    assert tokens(call) == TOLD and call.usage.audio_tokens == 21


@pytest.mark.parametrize("code", [2, "STATUS_CODE_ERROR"])
@pytest.mark.parametrize("said", [s.LITELLM_FAILED, s.OPENINFERENCE_UNTOLD])
def test_a_call_that_failed_and_used_nothing_is_none(said: dict[str, Any], code: int | str) -> None:
    assert not calls(s.span(said, status={"code": code, "message": "no such model"}))


def test_protobuf_says_the_same_of_scope_parent_and_failure() -> None:
    message = ExportTraceServiceRequest()
    scope = message.resource_spans.add().scope_spans.add()
    scope.scope.name = "openlit.instrumentation.anthropic"
    for place, (said, code) in enumerate(((s.OPENLIT_ANTHROPIC, 0), (s.ANTHROPIC_SDK, 0), (s.LITELLM_FAILED, 2)), 1):
        span = scope.spans.add(trace_id=b"\1" * 16, span_id=bytes([place] * 8), end_time_unix_nano=s.END_US * 1000)
        span.parent_span_id, span.status.code = (b"\1" * 8 if place == 2 else b""), code  # type: ignore[assignment]
        span.attributes.add(key="user.id").value.array_value.values.add(string_value="no text")
        for name, value in said.items():
            if isinstance(value, int):
                span.attributes.add(key=name).value.int_value = value
            elif isinstance(value, str):
                span.attributes.add(key=name).value.string_value = value
    (call,) = filter(None, parse_delivery(message.SerializeToString(), "acme", ACCOUNT, PROTOBUF))
    assert not isinstance(call, Rejected) and tokens(call) == CLAUDE and call.usage.end_user is None
