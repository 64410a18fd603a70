"""Connections to endpoints, kept alive between questions.

Each is a client of its own. One client with many connections looks through all at every question, which at 64
questions at a time takes longer than everything else that the API does for one.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from neuromas.services.api.fair_limit import FairLimit
from neuromas.serving.load import ServerLimits

_IDLE_S: Final = 2.0
"""Seconds that an idle connection is used again after; servers close theirs after 5 and more."""
_KEPT: Final = 256
"""Idle connections that are kept."""
_AGAIN_S: Final = 1.0


def capacity(replicas: int, queue: int) -> int:
    """Return how many questions so many copies of an endpoint take on, each with a queue of so many."""
    return replicas * ServerLimits(max_waiting=queue).max_open


def _room(most: int, what: str) -> FairLimit:
    return FairLimit(most, "too_busy", what, _AGAIN_S)


class Connections:
    """Connections of one event loop."""

    def __init__(self, most: int, timeout_s: float) -> None:
        """Make connections when they are wanted.

        Args:
            most: questions under way at the same time; more are refused.
            timeout_s: of everything, where a request does not say otherwise.
        """
        self._room = _room(most, "questions are under way")
        self._endpoints: dict[str, FairLimit] = {}
        self._timeout_s = timeout_s
        self._context = ssl.create_default_context()
        self._idle: list[httpx.AsyncClient] = []

    @asynccontextmanager
    async def take(self, owner: str, endpoint: str, most: int, count: int = 1) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client for one request at a time.

        Args:
            owner: who asks.
            endpoint: name of the one who is asked.
            most: questions that the endpoint takes on, which callers share too.
            count: questions that the request stands for.

        Raises:
            ApiError: too many are taken, by all or by this owner.
        """
        room = self._endpoints.setdefault(endpoint, _room(most, f"questions to {endpoint} are under way"))
        with self._room.place(owner, count):
            try:
                with room.place(owner, count):
                    # The one that was given back last: its connection is the most likely to be open.
                    client = self._idle.pop() if self._idle else self._make()
                    try:
                        yield client
                    finally:
                        await self._take_back(client)
            finally:
                if not room.num_taken:  # a name may never come again, and its number of copies may change
                    self._endpoints.pop(endpoint, None)

    async def _take_back(self, client: httpx.AsyncClient) -> None:
        if len(self._idle) < _KEPT:
            self._idle.append(client)
        else:
            await client.aclose()

    async def close(self) -> None:
        """Close the connections that are not taken."""
        idle, self._idle = self._idle, []
        for client in idle:
            await client.aclose()

    def _make(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_S)
        # Endpoints are in our own network: a proxy of the environment is for others.
        return httpx.AsyncClient(verify=self._context, limits=limits, timeout=self._timeout_s, trust_env=False)
