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

import aiohttp
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from neuromas.services.api.answer_stream import AnswerStream
from neuromas.services.api.problems import RETRY_AFTER_S, ApiError
from neuromas.services.api.service import Service
from neuromas.services.api.targets import Target
from neuromas.services.logs import request_id
from neuromas.services.store.base import Document
from neuromas.serving.ask_request import AskRequest

Result = TypeVar("Result")
_PASSED: Final = frozenset({200, 400, 404, 413, 422, 429, 503, 504})
"""Statuses of an endpoint that clients can act on; others are told as 502."""
_PASSED_HEADERS: Final = ("retry-after", "x-should-retry")
_EVENTS: Final = "text/event-stream"


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
    raw = await request.body()  # read before: checked, and passed on as it came
    body = raw if model == target.name else json.dumps({**document, "model": target.name}).encode()
    question = _Question(target, f"{target.url}{request.scope['path']}", model, body, asked.num_answers)
    async with AsyncExitStack() as stack:
        try:
            answer = await _while_client_waits(request, _begin(service, stack, owner, question))
        except ApiError as error:
            _note(service, target, error.status)
            raise
        if isinstance(answer, AnswerStream):
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return _PassedOn(stack.pop_all(), _timed(service, target, answer, started), headers)
        _note(service, target, answer.status)
        if answer.status not in _PASSED:
            raise ApiError(502, "endpoint_failed", f"endpoint {target.name} answered with {answer.status}")
        if answer.status != 200:
            raise _refusal(target, answer)
        service.instruments.chat_seconds.labels(target.name).observe(time.perf_counter() - started)
        return Response(_whole(service, target, answer.content, model), media_type="application/json")


def _note(service: Service, target: Target, status: int) -> None:
    """Note that an endpoint did not answer as one that is there: it may have another address by now."""
    if status == 404 or status >= 500:
        service.targets.forget(target.name)


@dataclass(frozen=True, slots=True)
class _Question:
    """A request to an endpoint, which our client calls ``model``; it stands for ``num_answers`` questions."""

    target: Target
    url: str
    model: str
    body: bytes
    num_answers: int


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an endpoint says, all of it."""

    status: int
    headers: Mapping[str, str]
    content: bytes


async def _begin(service: Service, stack: AsyncExitStack, owner: str, question: _Question) -> _Answer | AnswerStream:
    """Return an endpoint's answer: a stream that has begun, or else all of it."""
    target = question.target
    headers = {"content-type": "application/json", "accept-encoding": "identity", "x-request-id": request_id.get()}
    headers["authorization"] = f"Bearer {await service.serve_token()}"
    connections = service.connections
    client = stack.enter_context(connections.take(owner, target.name, target.capacity, question.num_answers))
    with _told_as_problems(target):
        sent = client.post(question.url, data=question.body, headers=headers, allow_redirects=False)
        answer = await stack.enter_async_context(sent)
        if answer.status != 200 or answer.content_type != _EVENTS:
            return _Answer(answer.status, answer.headers, await answer.read())
        parts = answer.content.iter_any()
        events = AnswerStream(parts, target.name, question.model, partial(_count_tokens, service, target))
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


def _refusal(target: Target, answer: _Answer) -> ApiError:
    """Return what an endpoint says instead of an answer, in our shape.

    What says nothing in that of endpoints is no endpoint: a proxy in front of one that is not there yet, or any more.
    Nor is what knows no such path: all that an endpoint can miss is the model.
    """
    try:
        error = json.loads(answer.content)["error"]
        code, message, param = error["code"] or error["type"], str(error["message"]), error["param"]
    except (ValueError, LookupError, TypeError):
        return _unavailable(target)
    if answer.status == 404 and param != "model":
        return _unavailable(target)
    headers = {name: answer.headers[name] for name in _PASSED_HEADERS if name in answer.headers}
    if answer.status in (429, 503):
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    return ApiError(answer.status, code, message, param=param, headers=headers)


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
    except aiohttp.SocketTimeoutError as error:
        raise ApiError(504, "endpoint_timeout", f"endpoint {target.name} did not answer in time") from error
    except aiohttp.ClientError as error:
        raise _unavailable(target) from error


async def _while_client_waits(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what ``work`` returns; it is cancelled when the client goes away."""
    task, has_gone = asyncio.current_task(), False
    assert task is not None

    async def watch() -> None:
        nonlocal has_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        has_gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if has_gone and not task.uncancel():
            raise ApiError(499, "client_gone", "the client went away") from None
        raise
    finally:
        watcher.cancel()
