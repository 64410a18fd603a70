"""Lanes: connections to endpoints, kept alive between questions.

Each lane is a client of one connection. One client with many of them looks through all at every question, which at 64
questions at a time takes longer than everything else that the API does for one.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from neuromas.services.api.problems import busy

_IDLE_S: Final = 2.0
"""Seconds that an idle connection is used again after; servers close theirs after 5 and more."""
_KEPT: Final = 256
"""Idle lanes that are kept."""
_AGAIN_S: Final = 1.0


class Lanes:
    """Lanes of one event loop.

    Attributes:
        probe: a connection for looks at the cluster's health, which no number of questions takes away.
    """

    def __init__(self, most: int, timeout_s: float) -> None:
        """Make lanes when they are wanted.

        Args:
            most: questions under way at the same time; more are refused.
            timeout_s: of everything, where a request does not say otherwise.
        """
        self._most = most
        self._timeout_s = timeout_s
        self._context = ssl.create_default_context()
        self._num_taken = 0
        self._idle: list[httpx.AsyncClient] = []
        self.probe = self._make()

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[httpx.AsyncClient]:
        """Give a client for one request at a time.

        Raises:
            ApiError: too many are taken.
        """
        if self._num_taken >= self._most:
            raise busy("too_busy", f"{self._most} questions are under way, the limit", _AGAIN_S)
        self._num_taken += 1
        # The one that was given back last: its connection is the most likely to be open.
        client = self._idle.pop() if self._idle else self._make()
        try:
            yield client
        finally:
            self._num_taken -= 1
            if len(self._idle) < _KEPT:
                self._idle.append(client)
            else:
                await client.aclose()

    async def close(self) -> None:
        """Close the connections of lanes that are not taken."""
        idle, self._idle = self._idle, []
        for client in [self.probe, *idle]:
            await client.aclose()

    def _make(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=_IDLE_S)
        # Endpoints are in our own network: a proxy of the environment is for others.
        return httpx.AsyncClient(verify=self._context, limits=limits, timeout=self._timeout_s, trust_env=False)
