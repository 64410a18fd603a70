"""Health: whether the process lives, whether it can do its work, and what Prometheus reads."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from neuromas.services.api.auth import Reader
from neuromas.services.api.described import errors
from neuromas.services.api.readiness import OK
from neuromas.services.api.schemas.capability import Health
from neuromas.services.api.schemas.view import ErrorBody
from neuromas.services.api.service import Serviced
from neuromas.services.store.base import Document

routes = APIRouter(tags=["service"])
_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"


@routes.get("/health", response_model=Health, include_in_schema=False)
@routes.get("/healthz", response_model=Health)
async def is_alive() -> Document:
    """Answer, which is what is asked."""
    return {"status": "ok"}


@routes.get(
    "/readyz",
    response_model=Health,
    responses={503: {"model": Health, "description": "Something that is needed cannot be reached."}},
)
async def is_ready(service: Serviced, response: Response) -> Document:
    """Say whether the store and Ray can be reached."""
    checks = await service.readiness.checks()
    ready = all(check == OK for check in checks.values())
    response.status_code = 200 if ready else 503
    return {"status": "ok" if ready else "unavailable", "checks": dict(checks)}


@routes.get(
    "/metrics",
    response_class=Response,
    responses=errors()
    | {
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text format."},
        503: {"model": ErrorBody, "description": "The store cannot be reached."},
    },
)
async def tell_metrics(_: Reader, service: Serviced) -> Response:
    """Tell Prometheus about requests, runs by state, queue wait, step time, tokens, endpoint latency."""
    return Response(await service.instruments.exposition(service.store), media_type=_EXPOSITION)
