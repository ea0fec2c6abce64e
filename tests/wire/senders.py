"""Spans as instrumentations really sent them, each of a call whose tokens are known; what has nothing to do with usage left out."""

import json
from typing import Any

from tests.gateways.payloads import END_US, attributes

OPENAI_ID, ANTHROPIC_ID = "chatcmpl-D0000000000000000000000000033", "msg_010000000000000000000042"
GPT, CLAUDE = "gpt-4o-mini-2024-07-18", "claude-sonnet-4-5-20250929"
_ASKED = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini"}
_OPENAI = _ASKED | {"gen_ai.response.model": GPT, "gen_ai.response.id": OPENAI_ID}
_ANTHROPIC = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.request.model": "claude-sonnet-4-5",
    "gen_ai.response.model": CLAUDE, "gen_ai.response.id": ANTHROPIC_ID,
}  # fmt: skip


def _used(incoming: int, outgoing: int) -> dict[str, int]:
    return {"gen_ai.usage.input_tokens": incoming, "gen_ai.usage.output_tokens": outgoing}


# opentelemetry-instrumentation-openai-v2 2.4b0
OFFICIAL = _OPENAI | _used(1033, 233)
# The same, of a stream without `stream_options`: no usage was told.
UNTOLD = _OPENAI
# opentelemetry-instrumentation-openai 0.62.4 and 0.40.14, -anthropic 0.62.4
TRACELOOP = _OPENAI | _used(1033, 233) | {
    "gen_ai.user": "user-7", "gen_ai.is_streaming": False, "gen_ai.usage.total_tokens": 1266,
    "gen_ai.usage.cache_read.input_tokens": 333, "gen_ai.usage.reasoning_tokens": 83,
}  # fmt: skip
TRACELOOP_OLD: dict[str, Any] = {
    "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-4o-mini", "llm.user": "user-7", "llm.is_streaming": False,
    "gen_ai.response.model": GPT, "gen_ai.response.id": OPENAI_ID, "llm.usage.total_tokens": 1266,
    "gen_ai.usage.prompt_tokens": 1033, "gen_ai.usage.completion_tokens": 233, "gen_ai.usage.cache_read_input_tokens": 333,
}  # fmt: skip
TRACELOOP_ANTHROPIC = _ANTHROPIC | _used(1326, 242) | {
    "gen_ai.usage.total_tokens": 1568, "gen_ai.usage.cache_read.input_tokens": 742, "gen_ai.usage.cache_creation.input_tokens": 442,
}  # fmt: skip
# anthropic 2.14.0 itself, as soon as a tracer provider is registered
ANTHROPIC_SDK = _ANTHROPIC | _used(1326, 242) | {
    "gen_ai.usage.cache_read.input_tokens": 742, "gen_ai.usage.cache_write.input_tokens": 442,
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 442,
}  # fmt: skip
# openinference-instrumentation-openai 0.1.66, -anthropic 3.1.0, -langchain 0.1.80
OPENINFERENCE: dict[str, Any] = {
    "llm.system": "openai", "llm.model_name": GPT, "llm.token_count.prompt": 1033, "llm.token_count.completion": 233,
    "llm.token_count.total": 1266, "llm.token_count.prompt_details.cache_read": 333,
    "llm.token_count.completion_details.reasoning": 83, "openinference.span.kind": "LLM",
}  # fmt: skip
OPENINFERENCE_EMBEDDING: dict[str, Any] = {
    "llm.system": "openai", "llm.token_count.prompt": 1051, "llm.token_count.total": 1051,
    "embedding.model_name": "text-embedding-3-small", "openinference.span.kind": "EMBEDDING",
}  # fmt: skip
# langsmith 0.15.1, langchain-openai 1.7.4: a call, a stream of which nothing was told, and the chain around the first
LANGSMITH = _used(1033, 233) | {
    "langsmith.span.kind": "llm", "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": GPT,
    "gen_ai.usage.total_tokens": 1266,
}  # fmt: skip
LANGSMITH_UNTOLD = {name: said for name, said in LANGSMITH.items() if "usage" not in name}
LANGSMITH_CHAIN = LANGSMITH | {"langsmith.span.kind": "chain", "gen_ai.operation.name": "chain", "gen_ai.system": "langchain"}
# The same of a stream without `stream_options`, and from JavaScript (4.2.7) of each stream and of embeddings
OPENINFERENCE_UNTOLD: dict[str, Any] = {
    "llm.system": "openai", "llm.model_name": GPT, "llm.finish_reason": "stop", "openinference.span.kind": "LLM",
}  # fmt: skip
OPENINFERENCE_EMBEDDING_UNTOLD: dict[str, Any] = {
    "llm.system": "openai", "embedding.model_name": "text-embedding-3-small", "openinference.span.kind": "EMBEDDING",
}  # fmt: skip
# @arizeai/openinference-instrumentation-langchain 4, of a call with sound
OPENINFERENCE_SOUND: dict[str, Any] = {
    "llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": 1033, "llm.token_count.completion": 233, "llm.token_count.total": 1266,
    "llm.token_count.prompt_details.cache_read": 333, "llm.token_count.prompt_details.audio": 21, "openinference.span.kind": "LLM",
    "llm.token_count.completion_details.reasoning": 83, "llm.token_count.completion_details.audio": 17, "llm.finish_reason": "stop",
}  # fmt: skip
OPENINFERENCE_ANTHROPIC: dict[str, Any] = {
    "llm.provider": "anthropic", "llm.system": "anthropic", "llm.model_name": CLAUDE, "llm.token_count.prompt": 1326,
    "llm.token_count.completion": 242, "llm.token_count.prompt_details.cache_read": 742,
    "llm.token_count.prompt_details.cache_write": 442, "openinference.span.kind": "LLM",
}  # fmt: skip
# pydantic-ai 2.68.0, and 1.0.5, whose agent has no operation
PYDANTIC = _OPENAI | _used(1033, 233) | {
    "gen_ai.system": "openai", "gen_ai.conversation.id": "run-17", "gen_ai.usage.cache_read.input_tokens": 333,
    "gen_ai.usage.details.reasoning_tokens": 83, "gen_ai.usage.details.cache_read_tokens": 333, "operation.cost": 0.000288675,
}  # fmt: skip
PYDANTIC_ANTHROPIC = TRACELOOP_ANTHROPIC | {"gen_ai.conversation.id": "run-17", "operation.cost": 0.00648735}
PYDANTIC_OLD_ANTHROPIC = _ANTHROPIC | _used(1326, 242) | {
    "gen_ai.system": "anthropic", "gen_ai.usage.details.cache_creation_input_tokens": 442,
    "gen_ai.usage.details.cache_read_input_tokens": 742, "gen_ai.usage.details.input_tokens": 142, "operation.cost": 0.00648735,
}  # fmt: skip
PYDANTIC_OLD_AGENT = {"model_name": "gpt-4o-mini", "agent_name": "a", "gen_ai.usage.details.reasoning_tokens": 248} | _used(2148, 548)
PYDANTIC_SOUND = PYDANTIC | {
    "gen_ai.usage.details.audio_tokens": 17, "gen_ai.usage.details.input_audio_tokens": 21, "gen_ai.usage.details.output_audio_tokens": 17,
}  # fmt: skip
# openlit 1.45.0, of models that its price list does not have
OPENLIT = TRACELOOP | {
    "gen_ai.request.user": "user-7",
    "gen_ai.user": ...,
    "gen_ai.usage.cost": 0,
    "gen_ai.usage.cache_creation.input_tokens": 0,
}
OPENLIT_ANTHROPIC = TRACELOOP_ANTHROPIC | _used(142, 242) | {"gen_ai.usage.cost": 0, "gen_ai.usage.total_tokens": ...}
# litellm 1.110.2, callback `otel`
LITELLM = _OPENAI | _used(1033, 233) | {"gen_ai.system": "openai", "llm.user": "user-7", "gen_ai.cost.total_cost": 0.000309}
LITELLM_FAILED = _ASKED | {"gen_ai.response.id": "bbfeaf60-ae13-42ec-a888-0b8acf4e6bd8"}
# opentelemetry-instrumentation-google-genai 1.3b0
GOOGLE: dict[str, Any] = _used(1033, 233) | {
    "gen_ai.operation.name": "generate_content", "gen_ai.provider.name": "gemini", "gen_ai.request.model": "gemini-2.5-flash",
    "gen_ai.response.model": "gemini-2.5-flash-001", "gen_ai.response.id": "vd2taKyPKbPy-8YPu5m-4Ao",
    "gen_ai.usage.cache_read.input_tokens": 333, "gen_ai.usage.reasoning.output_tokens": 83,
}  # fmt: skip
# Vercel's ai 6.0.326 with @ai-sdk/openai 3.0.141, each call inside a span that sums up
VERCEL: dict[str, Any] = _used(1033, 233) | {
    "ai.operationId": "ai.streamText.doStream", "ai.model.provider": "openai.responses", "ai.model.id": "gpt-4o-mini",
    "gen_ai.system": "openai.responses", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": GPT,
    "gen_ai.response.id": OPENAI_ID, "ai.response.id": OPENAI_ID, "ai.usage.inputTokens": 1033,
    "ai.usage.inputTokenDetails.noCacheTokens": 700, "ai.usage.inputTokenDetails.cacheReadTokens": 333, "ai.usage.outputTokens": 233,
    "ai.usage.outputTokenDetails.reasoningTokens": 83, "ai.usage.totalTokens": 1266, "ai.usage.reasoningTokens": 83,
    "ai.usage.cachedInputTokens": 333, "ai.telemetry.metadata.userId": "user-7", "ai.telemetry.metadata.sessionId": "run-17",
}  # fmt: skip
VERCEL_SUM: dict[str, Any] = {
    "ai.operationId": "ai.streamText", "ai.model.provider": "openai.responses", "ai.model.id": "gpt-4o-mini",
    "ai.usage.inputTokens": 2066, "ai.usage.outputTokens": 466, "ai.usage.cachedInputTokens": 666, "ai.usage.reasoningTokens": 166,
}  # fmt: skip
VERCEL_EMBEDDING: dict[str, Any] = {
    "ai.operationId": "ai.embed.doEmbed", "ai.model.provider": "openai.embedding", "ai.model.id": "text-embedding-3-small",
    "ai.usage.tokens": 1051,
}  # fmt: skip


# Gateways, by their sources. Envoy AI Gateway 1.1, AI_GATEWAY_TRACING_SEMCONV=gen_ai; it counts tokens for clients that ask, too
ENVOY = _ASKED | _used(1033, 233) | {
    "gen_ai.provider.name": ..., "gen_ai.response.model": GPT, "gen_ai.response.id": OPENAI_ID,
    "gen_ai.usage.cache_read.input_tokens": 333, "gen_ai.usage.reasoning.output_tokens": 83,
}  # fmt: skip
ENVOY_COUNTED = {"gen_ai.operation.name": "tokenize", "gen_ai.request.model": "claude-sonnet-4-5", "gen_ai.usage.input_tokens": 1326}
ENVOY_IMAGE = {"gen_ai.operation.name": "image_generation", "gen_ai.request.model": "gpt-image-1"}
# Bifrost's plugin `otel`, of late and as it named things before
BIFROST = _OPENAI | _used(1033, 233) | {
    "bifrost.virtual_key.id": "vk-crawler", "bifrost.virtual_key.name": "Crawler", "bifrost.provider.name": "openai",
    "gen_ai.request.user": "user-7", "gen_ai.usage.total_tokens": 1266, "gen_ai.usage.cost": 0.000309, "bifrost.cost.input": 0.0002,
    "gen_ai.usage.cache_read.input_tokens": 333, "gen_ai.usage.reasoning.output_tokens": 83,
    "gen_ai.usage.prompt_token_details.audio_tokens": 21,
}  # fmt: skip
BIFROST_OLD: dict[str, Any] = {
    "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.response.model": GPT, "gen_ai.response.id": OPENAI_ID,
    "gen_ai.virtual_key_id": "vk-crawler", "gen_ai.usage.prompt_tokens": 1033, "gen_ai.usage.completion_tokens": 233,
    "gen_ai.usage.prompt_token_details.cached_read_tokens": 333, "gen_ai.usage.cost": 0.000309,
    "gen_ai.usage.completion_token_details.reasoning_tokens": 83,
}  # fmt: skip
BIFROST_COUNTED = ENVOY_COUNTED | {"gen_ai.operation.name": "count_tokens", "gen_ai.usage.cost": 0}
# Cloudflare AI Gateway
CLOUDFLARE: dict[str, Any] = _used(1033, 233) | {
    "gen_ai.request.model": GPT, "gen_ai.model.provider": "openai", "gen_ai.usage.cost": 0.000309, "gen_ai.prompt_json": "[]",
}  # fmt: skip
# langfuse 5.0.4
LANGFUSE: dict[str, Any] = {
    "langfuse.observation.type": "generation", "langfuse.observation.model.name": GPT,
    "langfuse.observation.usage_details": '{"input": 700, "output": 233, "input_cached_tokens": 333}',
}  # fmt: skip
# rig, from Rust
RIG = _ASKED | _used(1033, 233) | {"gen_ai.response.model": GPT, "gen_ai.response.id": OPENAI_ID, "gen_ai.usage.cached_tokens": 333}


def span(said: dict[str, Any], place: int = 1, parent: int | None = None, **more: Any) -> dict[str, Any]:
    """A span in OTLP/JSON, told from others by its place, inside the one of another place."""
    inside = {} if parent is None else {"parentSpanId": f"{parent:016x}"}
    return {
        "traceId": "ab" * 16, "spanId": f"{place:016x}", "name": "chat", "attributes": attributes(said),
        "startTimeUnixNano": str(END_US * 1000 - 5), "endTimeUnixNano": str(END_US * 1000),
    } | inside | more  # fmt: skip


def export(*spans: dict[str, Any], scope: str = "instrumentation") -> bytes:
    """A body of the service `checkout`."""
    about = {"attributes": attributes({"service.name": "checkout"})}
    scopes = [{"scope": {"name": scope}, "spans": list(spans)}]
    return json.dumps({"resourceSpans": [{"resource": about, "scopeSpans": scopes}]}).encode()
