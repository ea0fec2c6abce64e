"""Usage from any door, written as an event of ours and read back: the same command, to the last digit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.core.commands import RecordUsage, Usage
from ledger.core.connections import Connection, Gateway
from ledger.core.money import Nanos, usd_text
from ledger.gateways.litellm import parse_litellm
from ledger.gateways.openrouter import parse_openrouter
from ledger.wire.events import encode_event
from ledger.wire.identity import identity
from ledger.wire.usage import parse_usage
from tests.gateways.payloads import litellm, openrouter, openrouter_span

from .events import good, raw

HERE = Connection(connection_id="c", gateway=Gateway.LITELLM)
names = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
counts = st.integers(0, 10**12)


@given(
    st.fixed_dictionaries({name: counts for name in ("input_tokens", "cached_input_tokens", "output_tokens", "images", "searches")}),
    st.fixed_dictionaries({name: names for name in ("workspace", "model", "provider", "member", "session", "preset", "hold")}),
    st.none() | st.integers(0, 10**15), st.none() | st.integers(0, 10**6), st.none() | st.integers(10**15, 10**16), st.booleans(),
)  # fmt: skip
def test_every_field_comes_back(tokens: Any, texts: Any, cost: int | None, version: int | None, started_us: int | None, flag: bool) -> None:
    said = {"preset_version": version, "started_us": started_us, "byok": flag, "batch": flag, "tags": {"a": "b"}}
    usage = Usage(org="acme", key="k", **tokens, **texts, **said)
    amount = None if cost is None else Nanos(cost)
    sent = RecordUsage(
        source="s", event_id="e", digest=identity("acme", "s", "e"), time_us=1_783_220_994_687_001, cost=amount,
        cost_text=None if amount is None else usd_text(amount), upstream=amount, upstream_text=None if amount is None else usd_text(amount),
        usage=usage,
    )  # fmt: skip
    assert parse_usage(encode_event(sent)) == sent


@pytest.mark.parametrize(
    "command",
    [
        good(raw({"cost_usd": 1.4e-7, "upstream_cost_usd": "0.50", "preset_version": 0, "started_at": "2026-03-08T08:59:59.5Z"})),
        parse_openrouter(openrouter(openrouter_span()), "acme", HERE)[0],
        parse_litellm(litellm(), "acme", HERE)[0],
        parse_litellm(litellm(cache_hit=True), "acme", HERE)[0],
        parse_litellm(litellm(**{"response_cost": None}), "acme", HERE)[0],
    ],
)
def test_what_gateways_send_comes_back(command: Any) -> None:
    assert isinstance(command, RecordUsage)
    assert parse_usage(encode_event(command)) == command
