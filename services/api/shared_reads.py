"""Reads of streams, shared by all who stand at the same place, so that many followers cost one reader."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

from prometheus_client import Gauge

from neuromas.services.api.room import Room
from neuromas.services.store.base import Document, Entry, Store

_FLIGHT_S: Final = 20.0
"""Longest time that one shared read waits; who still waits then begins another."""
_RETRY_S: Final = 5.0


class Frame:
    """One entry of a stream: its document with its ``id``, and the bytes that tell it as a server-sent event.

    The bytes are made when they are first wanted: once for all followers, and not for pages.
    """

    __slots__ = ("_event", "document", "id")

    def __init__(self, entry: Entry) -> None:
        self.id = entry.id
        self.document: Document = {"id": entry.id, **entry.document}
        self._event = b""

    @property
    def event(self) -> bytes:
        """The server-sent event."""
        if not self._event:
            # JSON has no line ends that could break an event. Events have no names: a client listens to all of them
            # at once and reads their type from the data.
            data = json.dumps(self.document, separators=(",", ":"))
            self._event = f"id: {self.id}\ndata: {data}\n\n".encode()
        return self._event


class SharedReads:
    """Streams of one store, read for any number of followers of one event loop."""

    def __init__(self, store: Store, max_followers: int, gauge: Gauge) -> None:
        self._store = store
        self.room = Room(max_followers, "too_many_followers", "streams are open", _RETRY_S, gauge)
        """Places of followers."""
        self._is_closed = False
        self._flights: dict[tuple[str, int, int], asyncio.Task[tuple[Frame, ...]]] = {}

    @property
    def is_closed(self) -> bool:
        """Whether followers are to leave."""
        return self._is_closed

    async def read(self, stream: str, after: int, limit: int, wait_s: float) -> tuple[Frame, ...]:
        """Return entries above ``after``; with none there, wait up to ``wait_s`` seconds for the first.

        Raises:
            StoreUnavailableError: the store cannot be read now.
        """
        if wait_s <= 0 or self._is_closed:
            return _frames(await self._store.read(stream, after=after, limit=limit))
        key = (stream, after, limit)
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._fly(stream, after, limit), name=f"read {stream}")
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        try:
            # Shielded: a follower that leaves must not end the read of the others.
            return await asyncio.wait_for(asyncio.shield(flight), wait_s)
        except TimeoutError:
            return ()
        except asyncio.CancelledError:
            if self._is_closed and flight.cancelled():
                return ()
            raise

    def close(self) -> None:
        """End all reads, so that followers leave. Called in the event loop's thread; safe to call twice."""
        self._is_closed = True
        for flight in list(self._flights.values()):
            flight.cancel()

    async def _fly(self, stream: str, after: int, limit: int) -> tuple[Frame, ...]:
        return _frames(await self._store.read(stream, after=after, limit=limit, wait_s=_FLIGHT_S))

    def _landed(self, key: tuple[str, int, int], flight: asyncio.Task[tuple[Frame, ...]]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # looked at, so that a failed read that everybody has left is no warning


def _frames(entries: Sequence[Entry]) -> tuple[Frame, ...]:
    return tuple(map(Frame, entries))
