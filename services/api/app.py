"""The API: HTTP in front of the store. Loads no Ray, no torch and no vLLM; whatever takes long happens elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
from fastapi import FastAPI
from starlette.middleware import Middleware

from neuromas import __version__
from services.api.context import BodyLimit, RequestContext
from services.api.described import describe
from services.api.followed import Followed
from services.api.instruments import Instruments
from services.api.problems import CrashDoor, add_handlers
from services.api.routes import (
    answers,
    capabilities,
    checkpoints,
    endpoints,
    evaluations,
    health,
    runs,
    streams,
    topologies,
)
from services.api.routes.pages import add_pages
from services.api.service import Service
from services.keys import KeyRing
from services.settings import Settings
from services.store.base import Store

_QUESTIONS: Final = 1024
"""Questions to endpoints that one process has under way; more get 429."""
_ROUTES: Final = (topologies, runs, streams, checkpoints, endpoints, answers, evaluations, capabilities, health)


def make_app(settings: Settings, store: Store) -> FastAPI:
    """Return the application; it closes the store when it goes down."""
    instruments = Instruments()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=_QUESTIONS, max_keepalive_connections=64)
        timeout = httpx.Timeout(settings.chat_timeout_s, pool=1.0)
        followed = Followed(store, settings.max_followers, instruments.followers)
        # Endpoints are in our own network: a proxy of the environment is for others.
        async with httpx.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as client:
            app.state.service = Service(settings, store, KeyRing(store), client, instruments, followed)
            try:
                yield
            finally:
                followed.close()
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
            Middleware(CrashDoor),
            Middleware(BodyLimit, max_bytes=settings.max_body_bytes),
        ],
    )
    add_handlers(app)
    for noun in _ROUTES:
        app.include_router(noun.routes)
    add_pages(app)
    describe(app, keys_required=settings.keys_required)
    return app
