"""Bodies of requests are strict JSON, bounded before they are looked at closely."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neuromas.errors import Fault
from neuromas.services.api.body import MAX_KEYS, MAX_VALUES, parse_body, parse_json
from neuromas.services.api.problems import MAX_FAULTS, ApiError, invalid
from neuromas.services.api.schemas.artifact import EndpointRequest


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
        (b"[" * 200_000, "too many tables"),
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


def test_a_body_of_very_many_values_is_refused_before_each_of_them_is_a_fault() -> None:
    error = refusal(json.dumps({"a": [0] * MAX_VALUES}).encode())
    assert f"more than {MAX_VALUES} values" in str(error)
    assert len(error.faults) <= MAX_FAULTS


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
