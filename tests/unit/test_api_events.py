"""What the OpenAPI document says of event streams, as a program that reads it understands it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import response_schema_conformance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from neuromas.services.api.app import make_app
from neuromas.services.api.event_stream import EVENTS
from neuromas.services.settings import Settings
from neuromas.services.store.open import open_store
from neuromas.serving.choices_form import DONE

CHAT = ("/v1/chat/completions", "POST")
FOLLOWED = [(f"/v1/runs/{{run_id}}/{name}", "GET") for name in ("events", "logs", "rollouts", "questions")]
CHUNK = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "solver",
    "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None, "logprobs": None}],
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    found: dict[str, Any] = make_app(settings, open_store(settings)).openapi()
    return found


@pytest.fixture(scope="module")
def schema(document: dict[str, Any]) -> OpenApiSchema:
    found = schemathesis.openapi.from_dict(document)
    assert isinstance(found, OpenApiSchema)
    return found


def event(data: object, **fields: object) -> str:
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + f"data: {json.dumps(data)}\n\n"


def check(schema: OpenApiSchema, operation: tuple[str, str], stream: str) -> None:
    """Raise where a stream is not what the document says."""
    path, method = operation
    found = schema[path][method]
    case = found.Case(path_parameters={"run_id": "run_1"} if "{" in path else {})
    request = requests.Request(method, "http://localhost/").prepare()
    headers = {"content-type": [f"{EVENTS}; charset=utf-8"]}
    response = Response(200, headers, stream.encode(), request, 0.0, verify=False, encoding="utf-8")
    case.validate_response(response, checks=[response_schema_conformance])


def test_every_route_that_can_stream_says_what_its_events_are(document: dict[str, Any]) -> None:
    found = {
        (path, method.upper()): response["content"][EVENTS]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for response in operation["responses"].values()
        if EVENTS in response.get("content", {})
    }
    assert set(found) == {CHAT, ("/v1/completions", "POST"), ("/v1/responses", "POST"), *FOLLOWED}
    # In OpenAPI 3.2 a schema beside itemSchema would be one of the whole stream.
    assert all(set(content) == {"itemSchema"} for content in found.values())
    assert document["openapi"] == "3.2.0"


def test_the_document_is_valid(schema: OpenApiSchema) -> None:
    schema.validate()


@pytest.mark.parametrize(
    "stream",
    [
        event(CHUNK) + DONE.decode(),
        event(CHUNK | {"choices": [], "usage": None}),
        event({"error": {"code": "rollout", "message": "m", "param": None, "type": "t"}}),
    ],
)
def test_chunks_errors_and_the_end_are_documented(schema: OpenApiSchema, stream: str) -> None:
    check(schema, CHAT, stream)


@pytest.mark.parametrize(
    "stream",
    [
        "data: nonsense\n\n",
        event(CHUNK | {"choices": 3}),
        event(CHUNK, event="other"),
        event({"error": {"code": None, "message": "m", "param": None, "type": "t"}}),
    ],
)
def test_nothing_else_is_an_event_of_an_answer(schema: OpenApiSchema, stream: str) -> None:
    with pytest.raises((Failure, FailureGroup)):
        check(schema, CHAT, stream)


@pytest.mark.parametrize("operation", FOLLOWED)
def test_entries_have_ids_and_the_end_has_a_name(schema: OpenApiSchema, operation: tuple[str, str]) -> None:
    entry, end = {"id": 3, "type": "step"}, {"type": "end", "state": "failed"}
    check(schema, operation, "retry: 2000\n\n: keep-alive\n\n" + event(entry, id=3) + event(end, event="end"))
    for wrong in (
        event(entry),
        event(entry | {"id": "3"}, id=3),
        event(entry, id="x"),
        event(end),
        event({}, event="end"),
    ):
        with pytest.raises((Failure, FailureGroup)):
            check(schema, operation, wrong)
