"""Bodies of requests are strict JSON, bounded before they are looked at closely."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.errors import Fault
from neuromas.services.api.body import MAX_ITEMS, MAX_KEYS, parse_body, parse_json
from neuromas.services.api.problems import MAX_FAULTS, ApiError, invalid
from neuromas.services.api.schemas.artifact import EndpointRequest
from neuromas.serving.body_size import holds_too_much


def refusal(raw: bytes) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse_json(raw)
    return caught.value


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"\xff", "can't decode byte"),
        (b'{"a": NaN}', "got NaN"),
        (b'{"a": -Infinity}', "got -Infinity"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is given twice"),
        (b"[" * 40_000, "too many tables"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_no_json_is_a_400(raw: bytes, reason: str) -> None:
    error = refusal(raw)
    assert error.status == 400
    assert error.code == "invalid_json"
    assert reason in str(error)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"a": {"b": ["x", "\ud800"]}}, "a.b[1]", "half of a character"),
        ({"a": {"\udfff": 1}}, "a", "no text"),
        ({"a": [1, 2**63 + 1]}, "a[1]", "beyond 2^63"),
        ({"a": -1e300}, "a", "beyond 2^63"),
        ({f"k{index}": 1 for index in range(MAX_KEYS + 1)}, "", f"has {MAX_KEYS + 1} keys"),
    ],
)
def test_what_cannot_be_kept_or_sent_back_is_a_422_with_its_path(value: Any, path: str, reason: str) -> None:
    error = refusal(json.dumps(value).encode())
    assert error.status == 422
    assert [fault.path for fault in error.faults] == [path]
    assert reason in error.faults[0].message


def test_numbers_that_overflow_are_refused() -> None:
    assert refusal(b'{"a": 1e999}').faults[0].path == "a"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": [' + b"0," * 2_000_000 + b"0]}",
        b'{"a": [' + b'"x",' * 100_000 + b'"x"]}',
        b'{"a": [' + b"[]," * 100_000 + b"[]]}",
        b"[" + b",".join(b'{"k%d": 1}' % index for index in range(60_000)) + b"]",
    ],
)
def test_a_body_of_very_many_values_is_refused_without_being_parsed(
    raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was parsed"))
    error = refusal(raw)
    assert str(error) == "the body is not valid: has more than 100000 values, the limit"
    assert error.status == 422


def test_a_text_is_one_value_whatever_is_in_it() -> None:
    text = '[{"a": 1, "b": 2}, \\ " \\" ' * 100_000
    assert parse_json(json.dumps({"a": text, "b": [text[:9]]}).encode()) == {"a": text, "b": [text[:9]]}


@given(
    st.recursive(
        st.none() | st.integers(-9, 9) | st.text(alphabet='a,[{"\\:', max_size=6),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('k,["\\', max_size=3), inner, max_size=4),
        max_leaves=20,
    )
)
def test_values_are_counted_from_their_bytes(value: Any) -> None:
    def count(item: Any) -> tuple[int, int]:
        """Return how many values there are in a value, and how many of these are empty tables or lists."""
        inner = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        found = [count(one) for one in inner]
        is_empty = isinstance(item, dict | list) and not inner
        return 1 + sum(one for one, _ in found), is_empty + sum(empty for _, empty in found)

    raw = json.dumps(value).encode()
    values, empty = count(value)
    assert holds_too_much(raw, values - 1 or 1) or values == 1
    assert not holds_too_much(raw, values + empty)


def test_a_list_has_a_limit_of_its_own() -> None:
    error = refusal(json.dumps({"a": [0] * (MAX_ITEMS + 1)}).encode())
    assert [(fault.path, fault.message) for fault in error.faults] == [("a", "has 20001 entries; allowed are 20000")]


def test_deep_nesting_is_refused_with_where_it_begins() -> None:
    error = refusal(b'{"a":' + b"[" * 100 + b"]" * 100 + b"}")
    assert error.faults[0].path.startswith("a[0][0]")


def test_values_come_out_as_they_are() -> None:
    text = {"a": [1, 2.5, "ü\U0001f600", None, True], "b": {}}
    assert parse_json(json.dumps(text).encode()) == text


def test_a_model_gets_all_faults_at_once_with_the_way_out() -> None:
    with pytest.raises(ApiError) as caught:
        parse_body(EndpointRequest, {"name": "A b", "replica": 2}, "the endpoint")
    faults = {fault.path: fault.message for fault in caught.value.faults}
    assert caught.value.status == 422
    assert set(faults) == {"name", "replica", "checkpoint"}
    assert "did you mean 'replicas'" in faults["replica"]


def test_an_answer_lists_a_bounded_number_of_faults() -> None:
    document = invalid("all", [Fault(f"a[{index}]", "wrong") for index in range(1000)]).document
    assert len(document["error"]["faults"]) == MAX_FAULTS
    assert document["error"]["param"] == "a[0]"
    assert "and 999 more" in document["error"]["message"]
