"""Service: what one API process holds while it runs, and how routes get at it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from neuromas.services.api.followed import Followed
from neuromas.services.api.instruments import Instruments
from neuromas.services.api.lanes import Lanes
from neuromas.services.keys import KeyRing
from neuromas.services.records import new_id
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store

EXPORTS_AT_ONCE = 2
"""Archives that one process makes at the same time."""


@dataclass(slots=True)
class Service:
    """What the routes of one application share.

    Attributes:
        settings: of the service.
        store: all state.
        keys: of callers.
        lanes: connections for requests to endpoints and to Ray.
        instruments: what Prometheus reads.
        followed: reads of event streams.
        exports: room for archives.
    """

    settings: Settings
    store: Store
    keys: KeyRing
    lanes: Lanes
    instruments: Instruments
    followed: Followed
    exports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(EXPORTS_AT_ONCE))


def service_of(request: Request) -> Service:
    """Return the application's service."""
    service: Service = request.app.state.service
    return service


Serviced = Annotated[Service, Depends(service_of)]


def fresh_id(request: Request, prefix: str) -> str:
    """Return an id for a new document.

    It comes of the request's Idempotency-Key where there is one, so that what is sent again makes nothing twice.
    """
    seed: str | None = getattr(request.state, "idempotency_seed", None)
    if seed is None:
        return new_id(prefix)
    return f"{prefix}_{hashlib.sha256(f'{prefix}/{seed}'.encode()).hexdigest()[:16]}"
