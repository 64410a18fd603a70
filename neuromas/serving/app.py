"""The HTTP face of a GraphServer: ``/v1/chat/completions``, ``/v1/models`` and ``/healthz``, in OpenAI's format."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from neuromas.errors import NeuroMASError
from neuromas.rollout.record import Rollout
from neuromas.serving.chat import ApiError, ChatRequest, chunks, completion
from neuromas.serving.graph_server import GraphServer, Question
from neuromas.spec.parts import SamplingSpec


def make_app(server: GraphServer) -> FastAPI:
    """Return the application that answers with one graph."""
    app = FastAPI(title="NeuroMAS graph", docs_url=None, redoc_url=None, openapi_url=None)
    started_s = int(time.time())

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(_first_fault(error).body, status_code=400)

    @app.get("/healthz")
    async def _health() -> JSONResponse:
        alive = server.is_alive
        return JSONResponse({"status": "ok" if alive else "stopped"}, status_code=200 if alive else 503)

    @app.get("/v1/models")
    async def _models() -> dict[str, Any]:
        entry = {"id": server.graph.name, "object": "model", "created": started_s, "owned_by": "neuromas"}
        return {"object": "list", "data": [entry]}

    @app.post("/v1/chat/completions")
    async def _chat(request: ChatRequest) -> Any:
        body = await _answer(server, request)
        if not request.stream:
            return body
        options = request.stream_options
        stream = _events(chunks(body, include_usage=options is not None and options.include_usage))
        return StreamingResponse(stream, media_type="text/event-stream")

    return app


async def _answer(server: GraphServer, request: ChatRequest) -> dict[str, Any]:
    graph = server.graph
    if request.model != graph.name:
        message = f"the model {request.model!r} does not exist; this server has {graph.name!r}"
        raise ApiError(404, "invalid_request_error", message, param="model", code="model_not_found")
    try:
        rollout = await asyncio.wrap_future(server.submit(_question(request, graph.sampling)))
    except NeuroMASError as error:
        raise ApiError(503, "server_error", str(error), code=error.code) from error
    _check(rollout)
    return completion(
        request, rollout, graph.topology, number=f"chatcmpl-{uuid.uuid4().hex}", created_s=int(time.time())
    )


def _question(request: ChatRequest, own: SamplingSpec) -> Question:
    greedy = request.temperature == 0
    sampling = SamplingSpec(
        max_tokens=request.max_completion_tokens or request.max_tokens or own.max_tokens,
        temperature=own.temperature if greedy else request.temperature,
        top_p=request.top_p,
    )
    return Question(request.question, greedy, sampling, request.seed)


def _check(rollout: Rollout) -> None:
    """Turn a failed rollout into an error: with a graph there is no half answer."""
    if rollout.failure is not None:
        raise ApiError(400, "invalid_request_error", rollout.failure, param="messages", code="rollout")


def _first_fault(error: RequestValidationError) -> ApiError:
    fault = error.errors()[0]
    path = ".".join(str(part) for part in fault["loc"] if part != "body")
    return ApiError(400, "invalid_request_error", f"{path or 'body'}: {fault['msg']}", param=path or None)


async def _events(bodies: list[dict[str, Any]]) -> AsyncIterator[str]:
    for body in bodies:
        yield f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
    yield "data: [DONE]\n\n"
