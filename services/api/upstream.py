"""Upstream: questions on their way to the endpoint that answers them, and its answer on the way back.

Answers pass through as they come. A client that goes away ends its question in the engine: the connection to the
endpoint is closed with its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import httpx
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from neuromas.services.api.answer_stream import AnswerStream
from neuromas.services.api.connections import capacity
from neuromas.services.api.problems import RETRY_AFTER_S, ApiError
from neuromas.services.api.references import MODEL_PREFIX, find_checkpoint
from neuromas.services.api.service import Service
from neuromas.services.logs import request_id
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.store.base import Document, Store
from neuromas.serving.ask_request import AskRequest

Result = TypeVar("Result")
_PASSED: Final = frozenset({200, 400, 404, 413, 422, 429, 503, 504})
"""Statuses of an endpoint that clients can act on; others are told as 502."""
_PASSED_HEADERS: Final = ("retry-after", "x-should-retry")
_CONNECT_S: Final = 5.0
_GRACE_S: Final = 10.0
_EVENTS: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a question goes.

    Attributes:
        name: of the endpoint.
        url: of the endpoint, before ``/v1``.
        capacity: questions that it takes on at a time.
    """

    name: str
    url: str
    capacity: int


async def find_target(service: Service, model: str) -> Target:
    """Return the endpoint that a model name means: its own name, or a checkpoint (``neuromas:<run>@<name>``).

    Raises:
        ApiError: there is none (404), or it does not answer now (503).
    """
    if model.startswith(MODEL_PREFIX):
        endpoint = await _serving(service.store, model)
    else:
        endpoint = await _named(service.store, model)
    if endpoint.state == EndpointState.READY and endpoint.url:
        room = capacity(endpoint.replicas, service.settings.serving_queue)
        return Target(endpoint.name, _join(service.settings.serve_url, endpoint.url), room)
    if endpoint.is_up:
        message = f"endpoint {endpoint.name} is being deployed; try again in a moment"
        raise ApiError(503, "endpoint_deploying", message, param="model", headers={"Retry-After": "5"})
    raise _no_model(f"endpoint {endpoint.name} is {endpoint.state}; deploy it again with POST /v1/endpoints")


async def ask(
    service: Service, request: Request, owner: str, target: Target, document: Document, asked: AskRequest
) -> Response:
    """Return the endpoint's answer, as a stream where it streams.

    Args:
        service: has the connections.
        request: of our client; the endpoint has the same path.
        owner: whose request it is.
        target: where to.
        document: of the questions.
        asked: the document, read.

    Raises:
        ApiError: the endpoint cannot be reached (503), broke (502) or takes too long (504).
    """
    started, model = time.perf_counter(), asked.model
    body = json.dumps({**document, "model": target.name}).encode()
    question = _Question(target, f"{target.url}{request.url.path}", model, body, asked.num_answers)
    async with AsyncExitStack() as stack:
        answer = await _while_client_waits(request, _begin(service, stack, owner, question))
        if isinstance(answer, AnswerStream):
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return _PassedOn(stack.pop_all(), _timed(service, target, answer, started), headers)
        if answer.status_code not in _PASSED:
            raise ApiError(502, "endpoint_failed", f"endpoint {target.name} answered with {answer.status_code}")
        if answer.status_code != 200:
            raise _refusal(target, answer)
        service.instruments.chat_seconds.labels(target.name).observe(time.perf_counter() - started)
        return Response(_whole(service, target, answer.content, model), media_type="application/json")


async def _named(store: Store, model: str) -> EndpointRecord:
    page = await store.list(EndpointRecord, where={"name": model}, limit=1)
    if not page.items:
        raise _no_model(f"the model {model[:100]!r} does not exist; GET /v1/models lists those that do")
    return page.items[0]


async def _serving(store: Store, model: str) -> EndpointRecord:
    checkpoint = await find_checkpoint(store, model, "model")
    page = await store.list(EndpointRecord, where={"checkpoint": checkpoint.id}, limit=100)
    answering = [endpoint for endpoint in page.items if endpoint.state == EndpointState.READY]
    coming = [endpoint for endpoint in page.items if endpoint.state == EndpointState.DEPLOYING]
    if not answering and not coming:
        raise _no_model(f"no endpoint serves checkpoint {checkpoint.id}; deploy it with POST /v1/endpoints")
    return (answering or coming)[0]


def _no_model(message: str) -> ApiError:
    return ApiError(404, "model_not_found", message, param="model")


def _join(serve_url: str, url: str) -> str:
    """Return the address of an endpoint before ``/v1``; its url is an address or a route of Ray Serve."""
    base = url if url.startswith(("http://", "https://")) else f"{serve_url}/{url.strip('/')}"
    return base.rstrip("/").removesuffix("/v1")


@dataclass(frozen=True, slots=True)
class _Question:
    """A request to an endpoint, which our client calls ``model``; it stands for ``num_answers`` questions."""

    target: Target
    url: str
    model: str
    body: bytes
    num_answers: int


async def _begin(
    service: Service, stack: AsyncExitStack, owner: str, question: _Question
) -> httpx.Response | AnswerStream:
    """Return an endpoint's answer: a stream that has begun, or else all of it."""
    target = question.target
    # The endpoint keeps the deadline itself; this is for one that keeps silent.
    timeout = httpx.Timeout(service.settings.chat_timeout_s + _GRACE_S, connect=_CONNECT_S)
    headers = {"content-type": "application/json", "accept-encoding": "identity", "x-request-id": request_id.get()}
    headers["authorization"] = f"Bearer {await service.serve_token()}"
    with _told_as_problems(target):
        connection = service.connections.take(owner, target.name, target.capacity, question.num_answers)
        client = await stack.enter_async_context(connection)
        stream = client.stream("POST", question.url, content=question.body, headers=headers, timeout=timeout)
        answer = await stack.enter_async_context(stream)
        if answer.status_code != 200 or not answer.headers.get("content-type", "").startswith(_EVENTS):
            await answer.aread()
            return answer
        events = AnswerStream(answer, target.name, question.model, partial(_count_tokens, service, target))
        await events.begin()
        return events


class _PassedOn(StreamingResponse):
    """A stream's bytes as they come. Leaving it in any way closes the connection to the endpoint."""

    def __init__(self, stack: AsyncExitStack, parts: AsyncIterator[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(parts, headers=headers, media_type=_EVENTS)
        self._stack = stack

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


async def _timed(service: Service, target: Target, stream: AnswerStream, started: float) -> AsyncIterator[bytes]:
    is_timed = False
    async for events in stream.events():
        if stream.has_ended and not is_timed:  # before its end is told: who has that may leave at once
            service.instruments.chat_seconds.labels(target.name).observe(time.perf_counter() - started)
            is_timed = True
        yield events


def _refusal(target: Target, answer: httpx.Response) -> ApiError:
    """Return what an endpoint says instead of an answer, in our shape.

    What says nothing in that of endpoints is no endpoint: a proxy in front of one that is not there yet, or any more.
    Nor is what knows no such path: all that an endpoint can miss is the model.
    """
    try:
        error = answer.json()["error"]
        code, message, param = error["code"] or error["type"], str(error["message"]), error["param"]
    except (ValueError, LookupError, TypeError):
        return _unavailable(target)
    if answer.status_code == 404 and param != "model":
        return _unavailable(target)
    headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
    if answer.status_code in (429, 503):
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    return ApiError(answer.status_code, code, message, param=param, headers=headers)


def _unavailable(target: Target) -> ApiError:
    message, retry = f"endpoint {target.name} cannot be reached now", {"Retry-After": str(RETRY_AFTER_S)}
    return ApiError(503, "endpoint_unavailable", message, headers=retry)


def _whole(service: Service, target: Target, content: bytes, model: str) -> bytes:
    """Return a whole answer, named as it was asked for; its tokens are counted."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise ApiError(502, "endpoint_failed", f"endpoint {target.name} did not answer with JSON") from error
    _count_tokens(service, target, document)
    if model == target.name or "model" not in document:
        return content
    return json.dumps({**document, "model": model}, separators=(",", ":")).encode()


def _count_tokens(service: Service, target: Target, document: Mapping[str, Any]) -> None:
    usage = document.get("response", document).get("usage") or {}
    for kind, name in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        service.instruments.chat_tokens.labels(target.name, kind).inc(usage.get(kind, usage.get(name, 0)))


@contextmanager
def _told_as_problems(target: Target) -> Iterator[None]:
    """Turn failures of the connection to an endpoint into problems."""
    try:
        yield
    except httpx.ReadTimeout as error:
        raise ApiError(504, "endpoint_timeout", f"endpoint {target.name} did not answer in time") from error
    except httpx.HTTPError as error:
        raise _unavailable(target) from error


async def _while_client_waits(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what ``work`` returns; it is cancelled when the client goes away."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watcher = asyncio.create_task(work), asyncio.create_task(watch())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "client_gone", "the client went away")
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
