"""Connections to endpoints, kept alive between questions, and room for as many questions as endpoints take on."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

from neuromas.services.api.fair_limit import FairLimit
from neuromas.serving.load import ServerLimits

_IDLE_S: Final = 2.0
"""Seconds that an idle connection is used again after; servers close theirs after 5 and more."""
_CONNECT_S: Final = 5.0
_AGAIN_S: Final = 1.0


def capacity(replicas: int, queue: int) -> int:
    """Return how many questions so many copies of an endpoint take on, each with a queue of so many."""
    return replicas * ServerLimits(max_waiting=queue).max_open


def _room(most: int, what: str) -> FairLimit:
    return FairLimit(most, "too_busy", what, _AGAIN_S)


class Connections:
    """Connections of the event loop that runs when they are made."""

    def __init__(self, most: int, silence_s: float) -> None:
        """Make connections when they are wanted.

        Args:
            most: questions under way at the same time; more are refused.
            silence_s: seconds after which an endpoint that says nothing is given up.
        """
        self._room = _room(most, "questions are under way")
        self._endpoints: dict[str, FairLimit] = {}
        # Places are what bounds them. Endpoints are in our own network: a proxy of the environment is for others.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S, ssl=ssl.create_default_context())
        self._client = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=silence_s),
            auto_decompress=False,
            trust_env=False,
        )

    @contextmanager
    def take(self, owner: str, endpoint: str, most: int, count: int = 1) -> Iterator[aiohttp.ClientSession]:
        """Give a client for one request.

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
                    yield self._client
            finally:
                if not room.num_taken:  # a name may never come again, and its number of copies may change
                    self._endpoints.pop(endpoint, None)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
