"""Reads of streams, shared by all who stand at the same place, so that many followers cost one reader."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from prometheus_client import Gauge

from neuromas.services.api.fair_limit import FairLimit
from neuromas.services.api.told import told_entry
from neuromas.services.store.base import Store, StreamEntry

_READING_S: Final = 20.0
"""Longest time that one shared read waits; who still waits then begins another."""
_RETRY_S: Final = 5.0


class EncodedEntry:
    """One entry of a stream, with its ``id``: as JSON, and as the bytes that tell it as a server-sent event.

    The bytes are made when they are first wanted: once for all followers, and not for pages.
    """

    __slots__ = ("_event", "entry", "text")

    def __init__(self, entry: StreamEntry) -> None:
        self.entry = entry
        self.text = told_entry(entry)
        self._event = b""

    @property
    def id(self) -> int:
        """The entry's."""
        return self.entry.id

    @property
    def event(self) -> bytes:
        """The server-sent event."""
        if not self._event:
            # JSON has no line ends that could break an event. Events have no names: a client listens to all of them
            # at once and reads their type from the data.
            self._event = f"id: {self.id}\ndata: {self.text}\n\n".encode()
        return self._event


class SharedReads:
    """Streams of one store, read for any number of followers of one event loop."""

    def __init__(self, store: Store, max_followers: int, gauge: Gauge) -> None:
        self._store = store
        self.places = FairLimit(max_followers, "too_many_followers", "streams are open", _RETRY_S, gauge)
        """Places of followers."""
        self._is_closed = False
        self._readings: dict[tuple[str, int, int], asyncio.Task[tuple[EncodedEntry, ...]]] = {}

    @property
    def is_closed(self) -> bool:
        """Whether followers are to leave."""
        return self._is_closed

    async def read(self, stream: str, after: int, limit: int, wait_s: float) -> tuple[EncodedEntry, ...]:
        """Return entries above ``after``; with none there, wait up to ``wait_s`` seconds for the first.

        Raises:
            StoreUnavailableError: the store cannot be read now.
        """
        if wait_s <= 0 or self._is_closed:
            return _encoded(await self._store.read(stream, after=after, limit=limit))
        key = (stream, after, limit)
        reading = self._readings.get(key)
        if reading is None:
            reading = asyncio.create_task(self._read_on(stream, after, limit), name=f"read {stream}")
            self._readings[key] = reading
            reading.add_done_callback(lambda done: self._forget(key, done))
        try:
            # Shielded: a follower that leaves must not end the read of the others.
            return await asyncio.wait_for(asyncio.shield(reading), wait_s)
        except TimeoutError:
            return ()
        except asyncio.CancelledError:
            if self._is_closed and reading.cancelled():
                return ()
            raise

    def close(self) -> None:
        """End all reads, so that followers leave. Called in the event loop's thread; safe to call twice."""
        self._is_closed = True
        for reading in list(self._readings.values()):
            reading.cancel()

    async def _read_on(self, stream: str, after: int, limit: int) -> tuple[EncodedEntry, ...]:
        return _encoded(await self._store.read(stream, after=after, limit=limit, wait_s=_READING_S))

    def _forget(self, key: tuple[str, int, int], reading: asyncio.Task[tuple[EncodedEntry, ...]]) -> None:
        self._readings.pop(key, None)
        if not reading.cancelled():
            reading.exception()  # looked at, so that a failed read that everybody has left is no warning


def _encoded(entries: Sequence[StreamEntry]) -> tuple[EncodedEntry, ...]:
    return tuple(map(EncodedEntry, entries))
