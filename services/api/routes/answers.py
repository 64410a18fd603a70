"""Models, and the routes by which they are asked, as OpenAI's clients know them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Request, Response

from neuromas.services.api.auth import Caller, ReaderOrServer, Server
from neuromas.services.api.body import Body, parse_body
from neuromas.services.api.described import errors, event_of, gives, sends, takes
from neuromas.services.api.event_stream import EVENTS
from neuromas.services.api.paging import MAX_ID
from neuromas.services.api.problems import ApiError
from neuromas.services.api.route import router
from neuromas.services.api.schemas.capability import ModelCard, ModelList
from neuromas.services.api.service import Service, Serviced
from neuromas.services.api.upstream import ask
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.records.key import Scope
from neuromas.services.store.base import Document
from neuromas.serving.ask_request import AskRequest
from neuromas.serving.chat_request import ChatRequest
from neuromas.serving.completion_request import CompletionRequest
from neuromas.serving.response_form import RESPONSE_EVENTS
from neuromas.serving.response_request import ResponseRequest

routes = router("answers")
_MAX_MODELS: Final = 1000
_EXAMPLES: Final[dict[str, Any]] = {
    "question": {
        "summary": "With every node's message",
        "value": {
            "model": "solver",
            "messages": [{"role": "user", "content": "f(1)=2 f(2)=3 @ f f 1"}],
            "neuromas": {"trace": True},
        },
    },
    "stream": {
        "summary": "Token by token, of a run's best checkpoint",
        "value": {
            "model": "neuromas:run_0123456789abcdef@best",
            "messages": [{"role": "user", "content": "f(1)=2 f(2)=3 @ f f 1"}],
            "stream": True,
        },
    },
}
_TEXT: Final[dict[str, Any]] = {
    "text": {
        "summary": "Two samples, with the log probability of each token",
        "value": {"model": "solver", "prompt": "f(1)=2 f(2)=3 @ f f 1", "n": 2, "temperature": 1, "logprobs": 0},
    },
}
_INPUT: Final[dict[str, Any]] = {
    "input": {
        "summary": "A text",
        "value": {"model": "solver", "input": "f(1)=2 f(2)=3 @ f f 1"},
    },
}
_DONE: Final[dict[str, Any]] = {"type": "object", "properties": {"data": {"const": "[DONE]"}}, "required": ["data"]}


def _answers(whole: str, *events: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route by which endpoints are asked: a schema's name, and a stream's events."""
    content = {"application/json": gives(whole), EVENTS: sends(*events)}
    success = {"description": "The answer; with `stream`, its pieces as server-sent events.", "content": content}
    return errors(404, 499, 502, 504, body=True) | {200: success}


@routes.get("/models", response_model=ModelList, responses=errors())
async def list_models(_: ReaderOrServer, service: Serviced) -> Document:
    """List the models that answer now."""
    page = await service.store.list(EndpointRecord, where={"state": EndpointState.READY}, limit=_MAX_MODELS)
    return {"object": "list", "data": [_card(endpoint) for endpoint in page.items]}


@routes.get("/models/{model:path}", response_model=ModelCard, responses=errors(404))
async def read_model(
    _: ReaderOrServer,
    service: Serviced,
    model: Annotated[str, Path(description="Name of an endpoint.", max_length=MAX_ID, examples=["solver"])],
) -> Document:
    """Read one model."""
    page = await service.store.list(EndpointRecord, where={"name": model}, limit=1)
    if not page.items or page.items[0].state != EndpointState.READY:
        raise ApiError(404, "model_not_found", f"the model {model[:100]!r} does not exist", param="model")
    return _card(page.items[0])


@routes.post(
    "/chat/completions",
    response_class=Response,
    responses=_answers("ChatCompletion", event_of("ChatChunk", "ErrorBody"), _DONE),
    openapi_extra=takes("ChatRequest", _EXAMPLES),
)
async def complete_chat(caller: Server, service: Serviced, request: Request, document: Body) -> Response:
    """Ask a graph. OpenAI's format, with NeuroMAS's own fields under ``neuromas``."""
    return await _ask(caller, service, request, document, ChatRequest)


@routes.post(
    "/completions",
    response_class=Response,
    responses=_answers("TextCompletion", event_of("TextCompletion", "ErrorBody"), _DONE),
    openapi_extra=takes("CompletionRequest", _TEXT),
)
async def complete_text(caller: Server, service: Serviced, request: Request, document: Body) -> Response:
    """Ask a graph with a text, or several: OpenAI's older format."""
    return await _ask(caller, service, request, document, CompletionRequest)


@routes.post(
    "/responses",
    response_class=Response,
    responses=_answers("ResponseBody", *(event_of("ResponseEvent", name=kind) for kind in RESPONSE_EVENTS)),
    openapi_extra=takes("ResponseRequest", _INPUT),
)
async def respond(caller: Server, service: Serviced, request: Request, document: Body) -> Response:
    """Ask a graph in the format of OpenAI's Responses API. Nothing is kept."""
    return await _ask(caller, service, request, document, ResponseRequest)


async def _ask(
    caller: Caller, service: Service, request: Request, document: Document, model: type[AskRequest]
) -> Response:
    asked = parse_body(model, document, "the request")
    if asked.neuromas.trace and Scope.READ not in caller.scopes:
        message = "neuromas.trace shows what the nodes say to each other: it needs the scope read beside serve"
        raise ApiError(403, "missing_scope", message, param="neuromas.trace")
    target = await service.targets.find(asked.model)
    return await ask(service, request, caller.id, target, document, asked)


def _card(endpoint: EndpointRecord) -> Document:
    return {"id": endpoint.name, "object": "model", "created": endpoint.created, "owned_by": "neuromas"}
