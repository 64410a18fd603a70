"""Service: what one API process holds while it runs, and how routes get at it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from neuromas.services.api.connections import Connections
from neuromas.services.api.fair_limit import FairLimit
from neuromas.services.api.instruments import Instruments
from neuromas.services.api.readiness import Readiness
from neuromas.services.api.shared_reads import SharedReads
from neuromas.services.api.targets import Targets
from neuromas.services.api.told import Telling
from neuromas.services.keys import KeyRing
from neuromas.services.records.record import new_id
from neuromas.services.serve_token import serve_token
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store

_EXPORTS = 4
"""Archives that one process makes at the same time."""
_PROMPTS = 4
"""Prompts that one process writes at the same time."""
_REQUESTS = 1024
"""Requests that one process has under way, streams not counted."""


def _exports() -> FairLimit:
    return FairLimit(_EXPORTS, "too_many_exports", "archives are being made", 5)


def _prompts() -> FairLimit:
    return FairLimit(_PROMPTS, "too_many_prompts", "prompts are being written", 1)


def _requests() -> FairLimit:
    return FairLimit(_REQUESTS, "too_many_requests", "requests are under way", 1)


@dataclass(slots=True)
class Service:
    """What the routes of one application share.

    Attributes:
        settings: of the service.
        store: all state.
        keys: of callers.
        targets: endpoints by their names.
        connections: to endpoints.
        instruments: what Prometheus reads.
        reads: of event streams, shared by those who follow them.
        readiness: what can be reached.
        telling: records as clients see them.
        requests: room for requests of all kinds.
        exports: room for archives.
        prompts: room for prompts of kept rollouts.
    """

    settings: Settings
    store: Store
    keys: KeyRing
    targets: Targets
    connections: Connections
    instruments: Instruments
    reads: SharedReads
    readiness: Readiness
    telling: Telling = field(default_factory=Telling)
    requests: FairLimit = field(default_factory=_requests)
    exports: FairLimit = field(default_factory=_exports)
    prompts: FairLimit = field(default_factory=_prompts)
    _serve_token: str = ""

    async def serve_token(self) -> str:
        """Return what replicas ask of whoever asks them.

        Raises:
            StoreUnavailableError: it has not been read yet, and the store is away.
        """
        if not self._serve_token:
            self._serve_token = await serve_token(self.store)
        return self._serve_token


def service_of(request: Request) -> Service:
    """Return the application's service."""
    service: Service = request.app.state.service
    return service


async def _serviced(request: Request) -> Service:
    return service_of(request)  # a dependency that is no coroutine would go through a thread


Serviced = Annotated[Service, Depends(_serviced)]


def fresh_id(request: Request, prefix: str) -> str:
    """Return an id for a new document.

    It comes of the request's Idempotency-Key where there is one, so that what is sent again makes nothing twice.
    """
    seed: str | None = getattr(request.state, "idempotency_seed", None)
    if seed is None:
        return new_id(prefix)
    return f"{prefix}_{hashlib.sha256(f'{prefix}/{seed}'.encode()).hexdigest()[:16]}"
