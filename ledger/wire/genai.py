"""Owns what spans of calls to models say, and under which names: the conventions changed often, and each instrumentation has
names of its own. Tells calls from what only sums them up, and what a call used and cost from what was said of it.

A cost that a library worked out by its own price list is taken as said, but 0 of it is what such a list answers of a model that
it does not have: no price (M4). Cached tokens are inside input (M3); where a sender leaves them outside they are added.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ..core.money import Nanos
from .fields import Refused, amount_of, count_of, text_of

INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt", "ai.usage.tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
CACHED = (
    "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.input_tokens.cached", "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_input_tokens", "llm.token_count.prompt_details.cache_read", "ai.usage.cachedInputTokens",
    "gen_ai.usage.cached_tokens", "gen_ai.usage.prompt_token_details.cached_read_tokens",
    "gen_ai.usage.input_token_details.cached_read_tokens",
)  # fmt: skip
WRITTEN = (
    "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.input_tokens.cache_write",
    "gen_ai.usage.cache_creation_input_tokens", "gen_ai.usage.details.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write", "ai.usage.inputTokenDetails.cacheWriteTokens",
    "gen_ai.usage.prompt_token_details.cached_write_tokens", "gen_ai.usage.input_token_details.cached_write_tokens",
)  # fmt: skip
REASONING = (
    "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.output_tokens.reasoning", "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens", "llm.token_count.completion_details.reasoning", "ai.usage.reasoningTokens",
    "gen_ai.usage.completion_token_details.reasoning_tokens", "gen_ai.usage.output_token_details.reasoning_tokens",
)  # fmt: skip
AUDIO = (  # of input, as the rate card has it
    "gen_ai.usage.details.input_audio_tokens", "llm.token_count.prompt_details.audio",
    "gen_ai.usage.prompt_token_details.audio_tokens", "gen_ai.usage.input_token_details.audio_tokens",
)  # fmt: skip
MODEL = (
    "gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "embedding.model_name", "ai.model.id",
    "langfuse.observation.model.name",
)  # fmt: skip
PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider", "gen_ai.model.provider")
COST = ("ledger.cost_usd", "gen_ai.usage.total_cost")
ESTIMATE = ("gen_ai.usage.cost", "operation.cost", "gen_ai.cost.total_cost", "llm.cost.total")
KEY, WORKSPACE, MEMBER, PRESET = "ledger.key", "ledger.workspace", "ledger.member", "ledger.preset"
USER = (
    "user.id", "enduser.id", "gen_ai.user", "gen_ai.request.user", "llm.user",  # the last three: the request's `user`
    "ai.telemetry.metadata.userId",
)  # fmt: skip
SESSION = ("session.id", "gen_ai.conversation.id", "ai.telemetry.metadata.sessionId")
RESPONSE, OPERATION, SERVICE = "gen_ai.response.id", "gen_ai.operation.name", "service.name"
VIRTUAL = ("bifrost.virtual_key.id", "gen_ai.virtual_key_id")  # a gateway's own key: its service is the same for all
KIND, RUN = "openinference.span.kind", "langsmith.span.kind"
AGENT, STEP, OBSERVED = "agent_name", "ai.operationId", "langfuse.observation.type"
OPENROUTER = "trace.metadata.openrouter."  # what OpenRouter says of a call beyond the conventions
OPENROUTER_TRACE = "openrouter.trace.id"

WANTED = frozenset(
    {*INPUT, *OUTPUT, *CACHED, *WRITTEN, *REASONING, *AUDIO, *MODEL, *PROVIDER, *COST, *ESTIMATE, KEY, WORKSPACE, MEMBER, PRESET, *USER,
     *SESSION, RESPONSE, OPERATION, SERVICE, *VIRTUAL, KIND, RUN, AGENT, STEP, OBSERVED, OPENROUTER_TRACE,
     *(OPENROUTER + name for name in ("api_key_name", "provider_name", "entity_id", "creator_user_id", "is_byok"))}
)  # fmt: skip

_SUMS = frozenset({"create_agent", "invoke_agent", "invoke_workflow", "plan", "execute_tool"})  # their totals are their calls' again
_COUNTS = frozenset({"tokenize", "count_tokens"})  # says what a call would take, for nothing
_MODELS = frozenset({"LLM", "EMBEDDING", "llm", "embedding"})  # OpenInference's and LangSmith's kinds of span that are calls to a model
_GENERATING = frozenset({"generation", "embedding"})  # Langfuse's, whose own count of tokens is not one of input and output
_DOES = ".do"  # Vercel's AI SDK: `ai.generateText` sums up what each `ai.generateText.doGenerate` in it used
_ANSWERING = frozenset({"chat", "text_completion", "generate_content"})
_TOKENLESS = frozenset({"image_generation", "speech", "transcription", "translation", "rerank"})  # nothing shows but that it was answered
_OUTSIDE = "openlit.instrumentation.anthropic"  # passes on Anthropic's own count of input, which is of what is new
_UNIQUE = 20  # a response id as long is drawn at random; `chatcmpl-123` of a server at home comes again


class Span(msgspec.Struct, gc=False):
    """One span, as far as usage goes. Attributes are the span's own over its resource's; numbers as they were written."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    end_ns: Any
    start_ns: Any
    attributes: dict[str, Any]
    scope: str = ""
    failed: bool = False


def first(attributes: dict[str, Any], names: Iterable[str]) -> Any:
    """The value of the first name that is there: conventions change, and old names stay in use."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value != "":
            return value
    return None


def is_call(span: Span) -> bool:
    """Whether a span is a call to a model, and not a part of an agent that sums up its calls.

    One that was answered and says nothing of tokens is a call too: a stream whose usage nobody asked for. What it cost is not
    known, and that has to show (M4). OpenInference has no response ids, LangSmith none of streams: what did not fail was answered.
    """
    a = span.attributes
    operation, kind = a.get(OPERATION), a.get(KIND) or a.get(RUN)
    if operation in _SUMS or operation in _COUNTS or (kind is not None and kind not in _MODELS) or _DOES not in str(a.get(STEP, _DOES)):
        return False
    if not says_usage(span):
        if operation in _TOKENLESS:
            return not span.failed and first(a, MODEL) is not None
        answered = bool(kind or a.get(RESPONSE) or a.get(OBSERVED) in _GENERATING)
        return answered and not span.failed and (operation is None or operation in _ANSWERING)
    return operation is not None or AGENT not in a or first(a, MODEL) is not None


def says_usage(span: Span) -> bool:
    """Whether a span says what was used, or what that cost."""
    a = span.attributes
    if a.get(INPUT[0]) or a.get(OUTPUT[0]):  # most are told by these alone
        return True
    return any(first(a, names) is not None for names in (INPUT, OUTPUT, COST, ESTIMATE))


def calls_of(spans: Iterable[Any]) -> list[Any]:
    """The calls among the spans of one body, None in the places of others, what is no span left as it is. A call inside a call is
    the same one, told by the client's library and again by what wraps it: the outer one knows more, unless it says neither what was
    used nor what answered."""
    found = [span if not isinstance(span, Span) or is_call(span) else None for span in spans]
    if not any(isinstance(span, Span) and span.parent_id for span in found):
        return found
    calls = [span for span in found if isinstance(span, Span)]
    outer = {(span.trace_id, span.span_id) for span in calls if says_usage(span)}
    wrapping = {(span.trace_id, span.parent_id) for span in calls} - outer

    def is_another(span: Any) -> bool:
        if not isinstance(span, Span):
            return False
        blank = (span.trace_id, span.span_id) in wrapping and not span.attributes.get(RESPONSE)
        return blank or (span.trace_id, span.parent_id) in outer

    return [None if is_another(span) else span for span in found]


def provider_of(span: Span) -> Any:
    """Who served the call. Vercel's AI SDK adds which of its interfaces: `openai.responses`."""
    a = span.attributes
    provider = a.get(OPENROUTER + "provider_name") or first(a, PROVIDER)
    return provider.partition(".")[0] if STEP in a and isinstance(provider, str) else provider


def id_of(span: Span) -> str:
    """What tells a call from all others (J2): the response's id where it is one that nobody else draws, since two
    instrumentations have a span each for one call; else the span's own. Raises Refused."""
    response = response_of(span)
    if response is not None and len(response) >= _UNIQUE:
        return response
    if not span.trace_id.strip("0") or not span.span_id.strip("0"):
        raise Refused("spanId", "is missing: without it a span sent again could not be told")
    return f"{span.trace_id}/{span.span_id}"


def response_of(span: Span) -> str | None:
    """The provider's id of its response; None for one that can't be kept."""
    try:
        return text_of(RESPONSE, span.attributes.get(RESPONSE))
    except Refused:
        return None


def input_of(span: Span) -> tuple[int, int, int]:
    """Tokens of input, and those of them that were cached and written to the cache. Raises Refused."""
    a = span.attributes
    whole, cached, written = (count_of(names[0], first(a, names)) for names in (INPUT, CACHED, WRITTEN))
    if cached + written > whole or (span.scope == _OUTSIDE and cached + written):
        whole = count_of(INPUT[0], whole + cached + written)
    return whole, cached, written


def cost_of(span: Span) -> tuple[Nanos | None, str | None]:
    """What a span says the call cost, and the text of it. Raises Refused."""
    a = span.attributes
    for names, least in ((COST, 0), (ESTIMATE, 1)):
        for name in names:
            if name in a:
                cost, text = amount_of(name, a[name])
                if cost is not None and cost >= least:
                    return cost, text
    return None, None
