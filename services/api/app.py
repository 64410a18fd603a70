"""The API: HTTP in front of the store. Loads no Ray, no torch and no vLLM; whatever takes long happens elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from neuromas import __version__
from neuromas.services.api.connections import Connections
from neuromas.services.api.context import BodyLimit, RequestContext
from neuromas.services.api.described import describe
from neuromas.services.api.instruments import Instruments
from neuromas.services.api.problems import CrashHandler, add_handlers
from neuromas.services.api.readiness import Readiness
from neuromas.services.api.routes import (
    adapters,
    answers,
    audit,
    capabilities,
    checkpoints,
    endpoints,
    evaluations,
    files,
    health,
    runs,
    streams,
    topologies,
)
from neuromas.services.api.routes.pages import add_pages
from neuromas.services.api.service import Service
from neuromas.services.api.shared_reads import SharedReads
from neuromas.services.api.targets import Targets
from neuromas.services.keys import KeyRing
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store
from neuromas.serving.head import HeadAsGet

_QUESTIONS: Final = 1024
"""Questions to endpoints that one process has under way; more get 429."""
_GRACE_S: Final = 10.0
_ROUTES: Final = (
    topologies,
    runs,
    streams,
    checkpoints,
    endpoints,
    answers,
    evaluations,
    files,
    adapters,
    capabilities,
    audit,
    health,
)


def _cross_origin(settings: Settings) -> list[Middleware]:
    """Return what lets pages of the named origins read answers."""
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id", "x-request-id"],
            expose_headers=["retry-after", "x-request-id"],
        )
    ]


def make_app(settings: Settings, store: Store) -> FastAPI:
    """Return the application; it closes the store when it goes down."""
    instruments = Instruments()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Endpoints keep the deadline themselves; this is for one that keeps silent.
        connections = Connections(_QUESTIONS, settings.chat_timeout_s + _GRACE_S)
        reads = SharedReads(store, settings.max_followers, instruments.followers)
        app.state.service = Service(
            settings=settings,
            store=store,
            keys=KeyRing(store),
            targets=Targets(store, settings),
            connections=connections,
            instruments=instruments,
            reads=reads,
            readiness=Readiness(store),
        )
        try:
            yield
        finally:
            reads.close()
            await connections.close()
            await store.close()

    app = FastAPI(
        title="NeuroMAS",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        middleware=[
            Middleware(RequestContext, instruments=instruments),
            Middleware(CrashHandler),
            *_cross_origin(settings),
            Middleware(HeadAsGet),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes, max_upload_bytes=settings.max_upload_bytes),
        ],
    )
    add_handlers(app)
    for noun in _ROUTES:
        app.router.routes += noun.routes.routes  # as they are: including a router reads every signature again
    add_pages(app)
    describe(app, keys_required=settings.keys_required)
    return app
