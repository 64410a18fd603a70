"""The HTTP face of a GraphServer: OpenAI's routes to ask and to list models, and ``/health``."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from neuromas.serving.access import AccessCheck
from neuromas.serving.ask_route import DIALECTS, AskRoute
from neuromas.serving.endpoint_error import EndpointError, invalid
from neuromas.serving.graph_client import GraphClient
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import GraphVersion
from neuromas.serving.head import HeadAsGet


def make_app(server: GraphServer, token: str | None = None, *, loopback_only: bool = False) -> FastAPI:
    """Return the application that answers with the graphs of a server, whatever these are at the time.

    Args:
        server: has the graphs.
        token: see ``AccessCheck``.
        loopback_only: see ``AccessCheck``.
    """
    app = FastAPI(title="NeuroMAS graphs", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(AccessCheck, token=token, loopback_only=loopback_only)
    app.add_middleware(HeadAsGet)
    client = GraphClient(server)
    for path, dialect in DIALECTS.items():
        app.router.routes.append(Route(path, AskRoute(client, dialect), methods=["POST"]))

    @app.exception_handler(EndpointError)
    async def _endpoint_error(_: Request, error: EndpointError) -> JSONResponse:
        return JSONResponse(error.body, status_code=error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def _no_route(request: Request, error: HTTPException) -> JSONResponse:
        refusal = invalid(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
        return JSONResponse(refusal.body, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def _crash(*_: object) -> JSONResponse:
        refusal = EndpointError(500, "server_error", "something broke here; the server's log has it", code="internal")
        return JSONResponse(refusal.body, status_code=refusal.status)

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


def _model(graph: GraphVersion) -> dict[str, Any]:
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
