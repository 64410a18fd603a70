"""Targets: which endpoint a model's name means, and where it answers.

Where a name leads is remembered for ``FRESH_S`` seconds, so that not every question asks the store. Only what answers
is remembered, and it is forgotten when it does not answer as it should, or is changed through this process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from neuromas.services.api.connections import capacity
from neuromas.services.api.problems import ApiError
from neuromas.services.api.references import MODEL_PREFIX, find_checkpoint
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store

FRESH_S: Final = 1.0
"""Seconds that an endpoint's address counts without asking again: what its end, told elsewhere, takes to be known."""
_REMEMBERED: Final = 1024


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


class Targets:
    """The endpoints of one store. One per process."""

    def __init__(self, store: Store, settings: Settings, fresh_s: float = FRESH_S) -> None:
        self._store = store
        self._settings = settings
        self._fresh_s = fresh_s
        self._known: dict[str, tuple[Target, float]] = {}

    async def find(self, model: str) -> Target:
        """Return the endpoint that a model name means: its own name, or a checkpoint (``neuromas:<run>@<name>``).

        Raises:
            ApiError: there is none (404), or it does not answer now (503).
        """
        if model.startswith(MODEL_PREFIX):  # which checkpoint is the best may change at any time
            return self._target(await self._serving(model))
        known = self._known.get(model)
        if known is not None and time.monotonic() < known[1]:
            return known[0]
        self.forget(model)
        target = self._target(await self._named(model))
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[model] = target, time.monotonic() + self._fresh_s
        return target

    def forget(self, name: str) -> None:
        """Ask the store when an endpoint is asked next."""
        self._known.pop(name, None)

    def _target(self, endpoint: EndpointRecord) -> Target:
        if endpoint.state == EndpointState.READY and endpoint.url:
            room = capacity(endpoint.replicas, self._settings.serving_queue)
            return Target(endpoint.name, _join(self._settings.serve_url, endpoint.url), room)
        if endpoint.is_up:
            message = f"endpoint {endpoint.name} is being deployed; try again in a moment"
            raise ApiError(503, "endpoint_deploying", message, param="model", headers={"Retry-After": "5"})
        raise _no_model(f"endpoint {endpoint.name} is {endpoint.state}; deploy it again with POST /v1/endpoints")

    async def _named(self, model: str) -> EndpointRecord:
        page = await self._store.list(EndpointRecord, where={"name": model}, limit=1)
        if not page.items:
            raise _no_model(f"the model {model[:100]!r} does not exist; GET /v1/models lists those that do")
        return page.items[0]

    async def _serving(self, model: str) -> EndpointRecord:
        checkpoint = await find_checkpoint(self._store, model, "model")
        page = await self._store.list(EndpointRecord, where={"checkpoint": checkpoint.id}, limit=100)
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
