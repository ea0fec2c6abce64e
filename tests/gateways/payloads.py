"""What gateways really send, in the shapes that were captured from them."""

import json
from typing import Any

PROMPT = "Dear diary, my doctor said"
GENERATION = "gen-1783220991-afTJPipoXDClAMTywVu2"
END_US = 1_783_220_994_687_000
HASH = "f01d52606dc8f0a8303a7b5cc3fa07109c2e346cec7c0a16b40de462992ce943"

_OPENROUTER: dict[str, Any] = {
    "gen_ai.response.id": GENERATION, "gen_ai.request.model": "deepseek/deepseek-v4-flash",
    "gen_ai.response.model": "deepseek/deepseek-v4-flash", "gen_ai.provider.name": "deepseek", "gen_ai.usage.input_tokens": 25,
    "gen_ai.usage.output_tokens": 236, "gen_ai.usage.total_tokens": 261,
    "gen_ai.usage.input_tokens.cached": 0, "gen_ai.usage.output_tokens.reasoning": 101, "gen_ai.usage.input_cost": 0.0000035,
    "gen_ai.usage.output_cost": 0.00006608, "gen_ai.usage.total_cost": 0.00006958, "user.id": "u-1", "session.id": "run-17",
    "trace.metadata.openrouter.api_key_name": "Agentic Coding", "trace.metadata.openrouter.provider_name": "Novita",
    "trace.metadata.openrouter.provider_slug": "novita/fp8", "trace.metadata.openrouter.entity_id": "user_30TQ",
    "trace.metadata.openrouter.creator_user_id": "user_30TQ", "trace.metadata.openrouter.input_unit_price": 1.4e-7,
    "trace.metadata.openrouter.output_unit_price": 2.8e-7, "gen_ai.prompt": PROMPT, "gen_ai.completion": PROMPT,
}  # fmt: skip


def value_of(value: Any) -> dict[str, Any]:
    """A value as OTLP/JSON writes it: 64-bit numbers as text."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": value_of(value)} for name, value in values.items() if value is not ...]


def openrouter_span(changes: dict[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    """OpenRouter's span of one call, but for what is given; a value of `...` leaves that out."""
    return {
        "traceId": "8ebcf0a15806fbd08fd19acea5a0c443", "spanId": "8ebcf0a15806fbd0", "name": "LLM Generation", "kind": 3,
        "startTimeUnixNano": "1783220991321000000", "endTimeUnixNano": "1783220994687000000", "status": {"code": 1},
        "attributes": attributes(_OPENROUTER | (changes or {})),
    } | said  # fmt: skip


def openrouter(*spans: dict[str, Any]) -> bytes:
    """One delivery of OpenRouter's Broadcast."""
    about = {"attributes": attributes({"service.name": "openrouter", "openrouter.trace.id": GENERATION})}
    scopes = [{"scope": {"name": "openrouter", "version": "1"}, "spans": list(spans)}]
    return json.dumps({"resourceSpans": [{"resource": about, "scopeSpans": scopes}]}).encode()


# Captured from version 1.106, shortened; `messages`, `response` and `model_parameters` ride along.
_LITELLM: dict[str, Any] = {
    "id": "chatcmpl-1b7", "trace_id": "t-1", "litellm_call_id": "b980db26-9512-45cc-b1da-c511a363b83f", "call_type": "acompletion",
    "stream": False, "response_cost": 1.35e-05, "cost_breakdown": {"input_cost": 4.5e-06, "output_cost": 9e-06, "total_cost": 1.35e-05},
    "response_cost_failure_debug_info": None, "status": "success", "custom_llm_provider": "openai", "saved_cache_cost": 0.0,
    "total_tokens": 30, "prompt_tokens": 10, "completion_tokens": 20, "startTime": 1783220991.321, "endTime": 1783220994.687,
    "completionStartTime": 1783220992.0, "response_time": 3.36, "model": "gpt-4o-mini", "model_id": "cb41", "model_group": "mini",
    "api_base": "https://api.openai.com", "cache_hit": False, "cache_key": None, "request_tags": ["prod"], "end_user": "customer-7",
    "requester_ip_address": "127.0.0.1", "messages": [{"role": "user", "content": PROMPT}], "response": {"choices": [PROMPT]},
    "model_parameters": {"temperature": 0, "tools": [{"function": {"name": PROMPT}}]}, "error_str": None, "hidden_params": {"a": 1},
    "metadata": {
        "user_api_key_hash": HASH, "user_api_key_alias": "crawler", "user_api_key_team_id": "team-9", "user_api_key_org_id": "org-1",
        "user_api_key_user_id": "ann", "user_api_key_team_alias": "research", "user_api_key_end_user_id": None,
        "spend_logs_metadata": {"ticket": "A-1", "deep": {"a": 1}}, "requester_metadata": {"x": 1}, "prompt_management_metadata": None,
        "usage_object": {"prompt_tokens": 10, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": None},
                         "completion_tokens_details": {"reasoning_tokens": 7}},
    },
}  # fmt: skip


def litellm_payload(metadata: dict[str, Any] | None = None, **said: Any) -> dict[str, Any]:
    """LiteLLM's payload of one call, but for what is given; a value of `...` leaves that out."""
    whole = _LITELLM | {"metadata": _LITELLM["metadata"] | (metadata or {})} | said
    return {name: value for name, value in whole.items() if value is not ...}


def litellm(metadata: dict[str, Any] | None = None, **said: Any) -> bytes:
    """`litellm_payload` as a body of its own."""
    return json.dumps(litellm_payload(metadata, **said)).encode()


def zero_priced(model: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """What 1.108 sends of a call that came to 0, beside the model it asked for: its breakdown, and its price list's entry."""
    parts = ("input_cost", "output_cost", "total_cost", "tool_usage_cost", "original_cost", "margin_total_amount")
    return {
        "model": f"openai/{model}", "model_id": "d56b5e0a", "response_cost": 0.0, "cost_breakdown": dict.fromkeys(parts, 0.0),
        "response_cost_failure_debug_info": None, "zero_cost_diagnostic": None, "cache_hit": None,
        "model_map_information": {"model_map_key": f"openai/{model}", "model_map_value": entry},
    }  # fmt: skip


def entry_of(key: str, **said: Any) -> dict[str, Any]:
    """An entry of LiteLLM's price list, as it stands in a payload."""
    return {
        "key": key, "max_tokens": None, "max_input_tokens": None, "max_output_tokens": None, "input_cost_per_token": 0,
        "output_cost_per_token": 0, "litellm_provider": "openai", "mode": None, "supported_openai_params": ["n", "tools"],
    } | said  # fmt: skip


def refused(code: str, kind: str, provider: str = "", **said: Any) -> bytes:
    """What 1.108 sends of a call that failed."""
    error = {"error_code": code, "error_class": kind, "llm_provider": provider, "traceback": PROMPT, "error_message": PROMPT}
    about = {"usage_object": {}, "user_api_key_team_id": None, "user_api_key_team_alias": None}
    failed = {"id": "b980db26-9512-45cc-b1da-c511a363b83f", "status": "failure", "response_cost": 0.0, "cost_breakdown": None,
              "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "error_str": PROMPT}  # fmt: skip
    return litellm(about, **failed | {"error_information": error} | said)
