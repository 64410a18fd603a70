"""What the OpenAPI document says beside the routes' own types: bodies read or written by hand, events, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from neuromas import __version__
from neuromas.services.api.schemas.artifact import (
    EndpointChange,
    EndpointRequest,
    EntryView,
    EvaluationRequest,
    EventView,
    StreamEnd,
)
from neuromas.services.api.schemas.chat import ChatChunk, ChatCompletion, ResponseBody, ResponseEvent, TextCompletion
from neuromas.services.api.schemas.file import FileRequest, TomlRequest
from neuromas.services.api.schemas.run import GrowRequest, ImportRequest, RunChange, run_schema
from neuromas.services.api.schemas.view import ErrorBody
from neuromas.serving.chat_request import ChatRequest
from neuromas.serving.completion_request import CompletionRequest
from neuromas.serving.response_request import ResponseRequest

REF: Final = "#/components/schemas/{model}"
OPENAPI: Final = "3.2.0"
"""The first version that can describe server-sent events."""
_BY_HAND: Final[tuple[type[BaseModel], ...]] = (
    GrowRequest,
    ImportRequest,
    RunChange,
    EndpointRequest,
    EndpointChange,
    EvaluationRequest,
    FileRequest,
    TomlRequest,
    ChatRequest,
    CompletionRequest,
    ResponseRequest,
    ChatCompletion,
    ChatChunk,
    TextCompletion,
    ResponseBody,
    ResponseEvent,
    EventView,
    EntryView,
    StreamEnd,
)
"""Models of what FastAPI neither reads nor writes itself."""

_MEANINGS: Final = {
    400: "Not JSON, a cursor that does not exist, or a combination that this service does not support; `param` says.",
    401: "No key, or one that is not valid.",
    403: "The key lacks the scope, or the request comes from a page of another site.",
    404: "There is no such thing.",
    409: "Not possible in its present state, or an Idempotency-Key that was used for another request.",
    411: "The size of the body is not announced.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    421: "The request came in under a host name that is not answered.",
    422: "Not valid; `param` is the path of the first fault, `faults` has all.",
    429: "Too many requests or runs; `Retry-After` says when to try again.",
    499: "The client went away.",
    502: "The endpoint broke.",
    503: "Something that is needed cannot be reached now; `Retry-After` says when to try again.",
    504: "It took too long.",
    507: "The disk of the service is full, or cannot be written.",
}
_RETRY: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
_ALWAYS: Final = (401, 403, 421, 422, 429, 503)
_WITH_BODY: Final = (400, 413, 415)

_ABOUT: Final = """Submit topologies of language-model nodes, train and grow them as runs, serve the trained graphs as
OpenAI-compatible models. Bodies are strict: an unknown key is refused, with all faults at once. Every POST takes an
`Idempotency-Key`; lists are paged with `after` and `limit`; times are unix seconds."""

IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same key and body again get the same answer; with another body 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
}


def errors(*statuses: int, body: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a route for FastAPI's ``responses``.

    Args:
        *statuses: its own, beside those that any route has.
        body: whether it reads one.
    """
    extra = (*_WITH_BODY, 409) if body else ()
    return {
        status: {"model": ErrorBody, "description": _MEANINGS[status]}
        | ({"headers": _RETRY} if status in (429, 503) else {})
        for status in sorted({*_ALWAYS, *statuses, *extra})
    }


def takes(
    schema: str, examples: Mapping[str, Any] | None = None, *, required: bool = True, keyed: bool = True
) -> dict[str, Any]:
    """Return FastAPI's ``openapi_extra`` for a route that reads a body.

    Args:
        schema: name of the body's schema.
        examples: by name, {summary, value}.
        required: whether there must be a body.
        keyed: whether it is a POST, which takes an Idempotency-Key.
    """
    content: dict[str, Any] = {"schema": {"$ref": REF.format(model=schema)}}
    if examples:
        content["examples"] = dict(examples)
    body = {"requestBody": {"required": required, "content": {"application/json": content}}}
    return body | ({"parameters": [IDEMPOTENCY_KEY]} if keyed else {})


def gives(schema: str) -> dict[str, Any]:
    """Return the JSON of an answer that is written by hand, for ``content`` in FastAPI's ``responses``."""
    return {"schema": {"$ref": REF.format(model=schema)}}


def sends(*events: dict[str, Any]) -> dict[str, Any]:
    """Return what a stream of server-sent events consists of, for ``content`` in FastAPI's ``responses``.

    Each event is one of ``events``, schemas of the object that a client's reader makes of it (``data``, ``event``,
    ``id``), by OpenAPI 3.2, "Special Considerations for Server-Sent Events".
    """
    return {"itemSchema": {"type": "object", "anyOf": list(events)}}


def event_of(*schemas: str, name: str = "message", has_id: bool = False) -> dict[str, Any]:
    """Return the schema of an event whose data is JSON.

    Args:
        *schemas: names of what the data may be.
        name: of the event; "message" stands for none.
        has_id: whether a client can say where it was.
    """
    choices = [{"$ref": REF.format(model=schema)} for schema in schemas]
    content = choices[0] if len(choices) == 1 else {"anyOf": choices}
    fields: dict[str, Any] = {
        "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": content},
        "event": {"const": name},
    }
    if has_id:
        fields["id"] = {"type": "string", "pattern": "^[0-9]{1,19}$"}
    required = ["data"] + ["event"] * (name != "message") + ["id"] * has_id
    return {"type": "object", "properties": fields, "required": required}


KEYED: Final[dict[str, Any]] = {"parameters": [IDEMPOTENCY_KEY]}
"""``openapi_extra`` of a POST without a body."""


def describe(app: FastAPI, *, keys_required: bool) -> None:
    """Make the application tell its whole contract at /openapi.json.

    Args:
        app: with all routes.
        keys_required: whether requests need a key.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, keys_required)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _document(app: FastAPI, keys_required: bool) -> dict[str, Any]:
    document = get_openapi(
        title="NeuroMAS", version=__version__, openapi_version=OPENAPI, description=_ABOUT, routes=app.routes
    )
    schemas: dict[str, Any] = document["components"]["schemas"]
    _, models = models_json_schema([(model, "validation") for model in _BY_HAND], ref_template=REF)
    schemas |= models.get("$defs", {})
    schemas["RunRequest"], parts = run_schema(REF)
    schemas |= parts
    schemas["TopologyOrRun"] = {
        "title": "TopologyOrRun",
        "anyOf": [{"$ref": REF.format(model="Topology")}, {"$ref": REF.format(model="RunRequest")}],
    }
    if not keys_required:
        document["components"].pop("securitySchemes", None)
        for path in document["paths"].values():
            for operation in path.values():
                operation.pop("security", None)
    return document
