"""The HTTP face of a GraphServer: ``/v1/chat/completions``, ``/v1/models`` and ``/healthz``, in OpenAI's format."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from neuromas.errors import NeuroMASError
from neuromas.serving.api_error import ApiError, first_fault, from_refusal, invalid
from neuromas.serving.body_size import MAX_VALUES, holds_too_much
from neuromas.serving.chat import Completion, encode, event
from neuromas.serving.chat_request import ChatRequest
from neuromas.serving.door import Conversation, Door, LeftError
from neuromas.serving.gate import Gate
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServedGraph
from neuromas.serving.question import Answered

MAX_BODY_BYTES = 4 * 2**20
_IDS = Random()  # as for seeds: the kernel's numbers cost a wait for the interpreter


def make_app(server: GraphServer, token: str | None = None, *, loopback_only: bool = False) -> FastAPI:
    """Return the application that answers with the graphs of a server, whatever these are at the time.

    Args:
        server: has the graphs.
        token: see ``Gate``.
        loopback_only: see ``Gate``.
    """
    app = FastAPI(title="NeuroMAS graphs", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Gate, token=token, loopback_only=loopback_only)
    door = Door(server)

    # A plain application: what FastAPI does for a typed route costs more than a small graph's share of an engine step.
    app.router.routes.append(Route("/v1/chat/completions", _Chat(door), methods=["POST"]))

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def _no_route(request: Request, error: HTTPException) -> JSONResponse:
        refusal = invalid(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
        return JSONResponse(refusal.body, status_code=error.status_code, headers=error.headers)

    @app.get("/health")
    @app.get("/healthz")
    async def _health() -> JSONResponse:
        alive = server.is_alive
        return JSONResponse({"status": "ok" if alive else "stopped"}, status_code=200 if alive else 503)

    @app.get("/v1/models")
    async def _models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(graph) for graph in server.graphs.values()]}

    @app.get("/v1/models/{name}")
    async def _one_model(name: str) -> dict[str, Any]:
        graph = server.graphs.get(name)
        if graph is None:
            raise invalid(f"the model {name!r} does not exist", "model", "model_not_found", 404)
        return _model(graph)

    return app


def _model(graph: ServedGraph) -> dict[str, Any]:
    return {
        "id": graph.name,
        "object": "model",
        "created": graph.created_s,
        "owned_by": "neuromas",
        "neuromas": {
            "version": graph.version,
            "generation": graph.generation,
            "topology_hash": graph.topology.content_hash,
        },
    }


class _Chat:
    """The application behind the one path that is asked often."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        response = await _answer(self._door, receive)
        await response(scope, receive, send)


async def _answer(door: Door, receive: Receive) -> Response:
    chat = await _read(receive)
    question = chat.question()
    completion = Completion(chat, question.seed, f"chatcmpl-{_IDS.getrandbits(128):032x}", int(time.time()))
    try:
        if door.server.may_be_too_long(question):
            await asyncio.to_thread(door.server.check_length, question)
        conversation = door.ask(question)
    except NeuroMASError as error:
        raise from_refusal(error) from error
    if chat.stream:
        # Headers go out with the first piece: what fails before it has a status of its own.
        first = await _next(conversation, receive, whole=False)
        return _Stream(completion, conversation, first)
    answered = await _next(conversation, receive, whole=True)
    return Response(encode(completion.body(answered)), media_type="application/json")


async def _read(receive: Receive) -> ChatRequest:
    body = bytearray()
    is_whole = False
    while not is_whole:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise from_refusal(LeftError("the client went away before its request was whole"))
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise invalid(f"the body is larger than {MAX_BODY_BYTES} bytes", status=413)
    if holds_too_much(bytes(body)):
        raise invalid(f"the body has more than {MAX_VALUES} values, the limit")
    try:
        chat = ChatRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise first_fault(error) from error
    if chat.stream_options is not None and not chat.stream:
        raise invalid("stream_options: only allowed with stream = true", "stream_options")
    return chat


async def _next(conversation: Conversation, receive: Receive, *, whole: bool) -> Any:
    """Return the next news of a conversation, or its end; a client that goes away ends it in the engine.

    Raises:
        ApiError: there is no answer.
    """
    try:
        async with _ended_with_client(conversation, receive):
            news = await (conversation.end() if whole else conversation.next())
    except NeuroMASError as error:
        raise from_refusal(error) from error
    except asyncio.CancelledError:
        conversation.leave()
        raise
    if isinstance(news, Answered) and news.rollout.failure is not None:
        # With a graph there is no half answer.
        raise from_refusal(conversation.failure(news.rollout))
    return news


@asynccontextmanager
async def _ended_with_client(conversation: Conversation, receive: Receive) -> AsyncIterator[None]:
    """Take a request out of the engine when its client goes away inside the block."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        conversation.leave()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()


class _Stream(StreamingResponse):
    """The server-sent events of an answer that has begun."""

    def __init__(self, completion: Completion, conversation: Conversation, first: str | Answered) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__((), headers=headers, media_type="text/event-stream")
        self._completion = completion
        self._conversation = conversation
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that goes away ends the request in the engine."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with self._conversation:
            async for part in self._parts(receive):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _parts(self, receive: Receive) -> AsyncIterator[bytes]:
        head = self._completion.chunk({"role": "assistant", "content": "", "refusal": None})
        news: str | Answered = self._first
        try:
            async with _ended_with_client(self._conversation, receive):
                while isinstance(news, str):
                    yield head + self._completion.chunk({"content": news})
                    head = b""
                    news = await self._conversation.next()
        except NeuroMASError as error:
            # The status is out; OpenAI's clients raise what they find in an event of this shape.
            yield head + event(from_refusal(error).body)
            return
        if news.rollout.failure is not None:
            yield head + event(from_refusal(self._conversation.failure(news.rollout)).body)
            return
        yield head + self._completion.last_chunks(news)
