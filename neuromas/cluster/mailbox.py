"""Mailbox: events on their way from an actor's working thread to the run."""

from __future__ import annotations

import queue

from neuromas.journal.events import Event


class Mailbox:
    """A queue of events; None stands for the end of a call. Thread-safe."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def put(self, event: Event | None) -> None:
        """Add an event, or None."""
        self._events.put(event)

    def take(self, timeout_s: float) -> list[Event | None]:
        """Return all since the last call; waits up to ``timeout_s`` seconds for the first."""
        try:
            events = [self._events.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._events.empty():
            events.append(self._events.get())
        return events
