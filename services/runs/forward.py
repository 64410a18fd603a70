"""Forwarder: brings what a run writes into its folder to the store's streams, line by line, whatever breaks between.

Every line has a key that does not depend on who sends it or how often: a driver that comes back sends everything
again, a store that was away gets the rest, and a step that a resumed run repeats is left as it was told first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.journal.folder import EVENTS_FILE, METRICS_FILE, QUESTIONS_FILE, ROLLOUTS_FILE
from neuromas.services.records.streams import events_stream, logs_stream, questions_stream, rollouts_stream
from neuromas.services.store.base import Document, Store

BATCH: Final = 200
"""Lines that one call of the store takes."""

Keyed = tuple[str, Document]
_OWN_FIELDS: Final = ("stage", "step", "time_s")


@dataclass(frozen=True, slots=True)
class _Position:
    """How far a file has been forwarded: its inode, bytes and lines."""

    inode: int = 0
    offset: int = 0
    lines: int = 0


class Tail:
    """Reads a growing JSON-lines file from its beginning; begins again when the file was replaced or cut back."""

    def __init__(self, path: Path, entry: Callable[[int, Document], Keyed]) -> None:
        """Open a file that need not exist yet.

        Args:
            path: of the file.
            entry: makes the key and the document of the stream from the number of a line, from 0, and its object.
        """
        self._path, self._entry = path, entry
        self._place, self._next = _Position(), _Position()

    def peek(self, limit: int = BATCH) -> list[Keyed]:
        """Return the next whole lines, at most ``limit``; the same again until ``advance``."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return []
        if self._place.inode != status.st_ino or status.st_size < self._place.offset:
            self._place = _Position(inode=status.st_ino)
        place, found = self._place, []
        for line in _whole_lines(self._path, place.offset):
            found.append(self._entry(place.lines, json.loads(line)))
            place = _Position(place.inode, place.offset + len(line), place.lines + 1)
            if len(found) == limit:
                break
        self._next = place
        return found

    def advance(self) -> None:
        """Go on behind what ``peek`` returned last."""
        self._place = self._next


class Forwarder:
    """Forwards the metrics, events, rollouts, answers and log of one run. Used by one task."""

    def __init__(self, store: Store, run_id: str, folder: Path, log: Path) -> None:
        """Prepare; nothing is read before ``forward``.

        Args:
            store: where to.
            run_id: names the streams.
            folder: the run's folder.
            log: file of the driver's log lines, one object each; its name is part of their keys.
        """
        self._store = store
        sources = {
            events_stream(run_id): (
                Tail(folder / METRICS_FILE, _step),
                Tail(folder / EVENTS_FILE, _event),
            ),
            rollouts_stream(run_id): (Tail(folder / ROLLOUTS_FILE, _rollout),),
            questions_stream(run_id): (Tail(folder / QUESTIONS_FILE, _rollout),),
            logs_stream(run_id): (Tail(log, lambda line, document: (f"log/{log.stem}/{line}", document)),),
        }
        self._sources = sources

    async def forward(self) -> int:
        """Send what has been written since the last call, all of it; returns how many lines.

        Raises:
            StoreUnavailableError: what was not sent is sent by the next call.
        """
        total = 0
        for stream, tails in self._sources.items():
            while entries := sorted((entry for tail in tails for entry in tail.peek()), key=_time):
                await self._store.append(stream, entries)
                for tail in tails:
                    tail.advance()
                total += len(entries)
        return total


def _rollout(_line: int, document: Document) -> Keyed:
    step = f"{document['stage']}/{document['step']}"
    return f"rollout/{step}/{document['example']}/{document['index']}", document


def _step(_line: int, document: Document) -> Keyed:
    metrics = {name: value for name, value in document.items() if name not in _OWN_FIELDS}
    own = {name: document[name] for name in _OWN_FIELDS}
    return f"step/{document['stage']}/{document['step']}", {"type": "step", **own, "metrics": metrics}


def _event(line: int, document: Document) -> Keyed:
    return f"event/{line}", document


def _time(entry: Keyed) -> float:
    """Return when an entry was written, so that two files are told in the order of what happened."""
    value: Any = entry[1].get("time_s", 0.0)
    return float(value)


def _whole_lines(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the lines behind an offset that have their end; a killed writer may leave one that has not."""
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line
