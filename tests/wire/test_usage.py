"""Reading usage events: any bytes give `RecordUsage` or `Rejected`, never an exception (T4)."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.core.batch import Found
from ledger.core.books import Books
from ledger.core.commands import RecordUsage, Rejected
from ledger.core.execute import execute
from ledger.core.needs import needs
from ledger.wire.usage import EnvelopeError, join_binary, parse_usage, split_events, trace_of

from .events import NOW_US, PROMPT, SECRET, TEXT_FIELDS, bad, event, good, raw


def test_a_good_event_becomes_a_command_with_every_field_in_its_place() -> None:
    said = {
        "model": "m",
        "provider": "p",
        "input_tokens": 25,
        "cached_input_tokens": 3,
        "cache_write_tokens": 2,
        "output_tokens": 9,
        "reasoning_tokens": 4,
        "audio_tokens": 1,
        "images": 2,
        "searches": 3,
        "upstream_cost_usd": 0.5,
        "byok": True,
        "member": "ann",
        "end_user": "u",
        "preset": "x",
        "preset_version": 7,
        "session": "s",
        "tags": {"team": "a"},
        "hold": "h",
        "response_id": "r",
    }
    command = good(raw(said | {"started_at": "2026-03-08T08:59:59.5Z"}))
    assert (command.cost, command.cost_text, command.upstream, command.upstream_text) == (
        1_250_000_000,
        "1.25",
        500_000_000,
        "0.5",
    )
    assert (command.source, command.event_id, command.time_us) == ("gateway", "e1", NOW_US)
    usage = command.usage
    assert (usage.org, usage.key, usage.workspace, usage.started_us) == (
        "acme",
        "crawler",
        "research",
        NOW_US - 500_000,
    )
    assert {name: getattr(usage, name) for name in said if name != "upstream_cost_usd"} == {
        name: value for name, value in said.items() if name != "upstream_cost_usd"
    }


@pytest.mark.parametrize("body", [b"", b" ", b"{", b"nonsense", b"\xff\xfe", b"{'a': 1}", b"\xef\xbb\xbf{}", raw() + b"x", b'{"a":NaN}'])
def test_what_is_not_json_is_rejected(body: bytes) -> None:
    assert bad(body).detail.startswith("is not JSON")


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"text"', b"true", b"{}"])
def test_json_that_is_no_event_is_rejected(body: bytes) -> None:
    assert bad(body).reason == "malformed"


@pytest.mark.parametrize("name", ["specversion", "type", "source", "id", "time", "data"])
def test_a_missing_attribute_is_named(name: str) -> None:
    spoiled = json.dumps({key: value for key, value in event().items() if key != name})
    assert bad(spoiled.encode()).detail == f"{name}: is missing"


TEXT = "data: Expected `object`, got `str`"


def packed(data: bytes | str | int, **attributes: Any) -> bytes:
    """A good event with `data_base64` for its data: bytes as they are packed, anything else as it stands there."""
    whole = event(**attributes) | {"data_base64": base64.b64encode(data).decode() if isinstance(data, bytes) else data}
    return json.dumps({name: value for name, value in whole.items() if name != "data"}).encode()


def test_data_in_base64_is_read_as_the_data_that_it_is() -> None:
    """CloudEvents 1.0, JSON format, 3.1: so the JavaScript SDK sends data that it was given as bytes."""
    data = json.dumps(event()["data"] | {"cost_usd": 1.4e-7, "key": SECRET, "messages": [PROMPT]}).encode()
    command = good(packed(data))
    assert command == good(raw({"cost_usd": 1.4e-7, "key": SECRET})) and command.cost == 140
    assert good(packed(data, id="\u00e9 \ud83d\ude00")).event_id == "\u00e9 \U0001f600"


@pytest.mark.parametrize(
    ("body", "detail"),
    [(packed(b"no JSON"), TEXT), (packed(b'{"key":"k"}}'), TEXT), (packed("@"), TEXT), (packed(b"{" * 40), TEXT),
     (packed(7), TEXT.replace("str", "int")),
     (packed(b'{"org":"acme"}'), "data.key: is missing"), (packed(b'{"key":"k"}', id=...), "id: is missing"),
     (packed(b'{"a":' * 40 + b"1" + b"}" * 40), "is nested deeper than 32 levels")],
)  # fmt: skip
def test_what_is_wrong_with_data_in_base64_is_said(body: bytes, detail: str) -> None:
    assert bad(body).detail == detail


def test_a_missing_key_is_named_and_so_is_a_missing_org_without_a_token_that_says_it() -> None:
    assert bad(raw({"key": ...})).field == "data.key"
    assert bad(raw({"org": ...})).field == "data.org"
    assert isinstance(parse_usage(raw({"org": ...}), "acme"), RecordUsage)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", 5),
        ("key", None),
        ("key", ""),
        ("workspace", []),
        ("input_tokens", "5"),
        ("input_tokens", 1.5),
        ("images", -1),
        ("output_tokens", 2**53),
        ("byok", "yes"),
        ("tags", ["a"]),
        ("tags", {"a": 1}),
        ("preset_version", 2**31),
        ("started_at", "yesterday"),
        ("started_at", "2026-03-08T09:00:00"),
        ("input_tokens", True),
        ("model", {"name": "m"}),
    ],
)
def test_a_wrong_type_or_range_is_rejected_by_the_name_of_its_field(field: str, value: object) -> None:
    rejected = bad(raw({field: value}))
    assert rejected.field is not None and rejected.field.startswith(f"data.{field}")
    assert (rejected.source, rejected.event_id) == ("gateway", "e1")


@pytest.mark.parametrize("attributes", [{"type": "llm.usage.v2"}, {"specversion": "0.3"}, {"source": ""}, {"id": ""}, {"id": 7}])
def test_a_wrong_attribute_is_rejected(attributes: dict) -> None:
    assert bad(raw(**attributes)).field == next(iter(attributes))


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("length", [512, 100_000])
def test_a_string_past_its_bound_is_rejected(field: str, length: int) -> None:
    """T4."""
    assert bad(raw({field: "x" * length})).field == f"data.{field}"


def test_ids_tags_and_their_number_are_bounded() -> None:
    """S1: 128 characters. T4."""
    assert good(raw({"key": "k" * 128})).usage.key == "k" * 128
    assert bad(raw({"key": "ä" * 129})).field == "data.key"
    assert bad(raw(id="x" * 513)).field == "id"
    assert bad(raw({"tags": {"t": "v" * 257}})).field == "data.tags"
    assert bad(raw({"tags": {str(n): "v" for n in range(33)}})).field == "data.tags"


def test_a_tag_whose_name_is_too_long_is_rejected_by_the_name_of_its_field() -> None:
    assert bad(raw({"tags": {"t" * 129: "v"}})).field == "data.tags"


@pytest.mark.parametrize("depth", [31, 64, 10_000, 200_000])
@pytest.mark.parametrize("name", ["prompt", "cost_usd", "tags"])
def test_nesting_is_bounded(depth: int, name: str) -> None:
    """T4: 64 levels and more are rejected, before anything follows them down."""
    body = raw({name: "DEEP"}).replace(b'"DEEP"', b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2))
    answer = parse_usage(body)
    assert isinstance(answer, Rejected) or (depth == 31 and name == "prompt")


def test_braces_inside_what_was_said_are_not_nesting() -> None:
    assert good(raw({"prompt": '{[\\"' * 500})).usage.key == "crawler"


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("written", ['"a\\u0000b"', '"\\ud800"', '"\\udfff x"', '"a\\ud800\\u0041"', '"\\x"', '"a\x01b"'])
def test_a_nul_a_lone_surrogate_and_a_broken_escape_are_rejected_in_every_text_field(field: str, written: str) -> None:
    """T4."""
    bad(raw({field: "HERE"}).replace(b'"HERE"', written.encode()))


@pytest.mark.parametrize("body", [raw({"key": "HERE"}), raw({"cost_usd": "HERE"}), raw(source="HERE"), raw({"tags": {"HERE": "HERE"}})])
@pytest.mark.parametrize("bytes_", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"1\x80"])
def test_bytes_that_are_no_utf8_are_rejected(body: bytes, bytes_: bytes) -> None:
    """T4: also in an amount, which is kept raw until it is read."""
    bad(body.replace(b"HERE", bytes_))


def test_bodies_are_split_and_a_fault_of_the_envelope_refuses_the_whole() -> None:
    """T4."""
    one = raw()
    assert len(split_events(b"[" + one + b"," + one + b"]", "application/cloudevents-batch+json")) == 2
    assert split_events(one + b"\n\n" + one + b"\r\n", "application/x-ndjson")[0] == one
    for body in (b"", b"{}", b"[1,", b"\xff", b"[" * 100_000):
        with pytest.raises(EnvelopeError) as caught:
            split_events(body, "application/json")
        assert PROMPT not in str(caught.value)
    with pytest.raises(EnvelopeError):
        split_events(b"[" + b",".join([b"1"] * 10_001) + b"]", "application/json")


values = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
)


@given(st.lists(values, max_size=6), st.sampled_from([", ", ",", " \n,\t"]))
def test_an_array_with_half_characters_is_cut_into_the_elements_as_written(elements: list[object], between: str) -> None:
    """T4: each is refused or booked by itself."""
    written = [json.dumps(element) for element in [*elements, "\ud800", "\\ud800", "\U0001f600"]]
    cut = split_events(f" [ {between.join(written)} ] ".encode(), "application/cloudevents-batch+json")
    assert [bytes(element).decode() for element in cut] == written


def test_a_binary_event_is_the_same_as_a_structured_one() -> None:
    whole = event()
    headers = {f"ce-{name}": str(value) for name, value in whole.items() if name != "data"}
    assert parse_usage(join_binary(headers, json.dumps(whole["data"]).encode())) == good(raw())
    bad(join_binary({}, b""))
    bad(join_binary(headers, b"}"))


@settings(max_examples=1500)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes_give_an_answer_and_never_an_exception(body: bytes) -> None:
    """T4."""
    assert isinstance(parse_usage(body), RecordUsage | Rejected)


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.from_regex(r"-?[0-9.eE+]{1,20}", fullmatch=True),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
FIELDS = (
    *TEXT_FIELDS,
    "cost_usd",
    "upstream_cost_usd",
    "currency",
    "byok",
    "tags",
    "input_tokens",
    "preset_version",
    "started_at",
)


@settings(max_examples=1500)
@given(
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4),
    st.dictionaries(st.sampled_from(("specversion", "type", "source", "id", "time")), json_values, max_size=2),
    st.lists(st.tuples(st.integers(0, 600), st.binary(max_size=3)), max_size=3),
)
def test_a_good_event_spoiled_anyhow_gives_an_answer_that_can_be_carried_out(data: dict, attributes: dict, cuts: list) -> None:
    """T4: and what is read can be booked, or is answered with a status."""
    body = raw(data, **attributes)
    for at, put in cuts:
        body = body[:at] + put + body[at + 1 :]
    answer = parse_usage(body, "acme")
    if isinstance(answer, RecordUsage):
        assert answer.cost is None or 0 <= answer.cost <= 10**15
        assert "\0" not in repr(answer.usage)
        books = Books(answer.usage.org)
        needs(books, [answer], NOW_US, {})
        execute(books, [answer], NOW_US, Found())


def test_the_trace_of_an_event_is_its_own_attribute_and_nothing_inside_its_data() -> None:
    assert trace_of(json.dumps(event() | {"traceparent": "00-a-b-01"}).encode()) == "00-a-b-01"
    for other in (event(), event() | {"data": {"traceparent": "x"}}, event() | {"traceparent": 7}, ["traceparent"]):
        assert trace_of(json.dumps(other).encode()) is None
    assert trace_of(b'{"traceparent"') is None and trace_of(b"[" * 100_000 + b'"traceparent"') is None
