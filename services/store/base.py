"""The Store protocol: documents moved by compare-and-set, append-only streams, leases, idempotency answers.

A document is a flat JSON object. The store itself reads and writes five of its keys: ``id``, ``version`` (counts from
1, raised by every change), ``state`` (may be None), ``created`` (unix seconds, whole) and ``sequence`` (the number of
the document over all kinds: whatever is made later has a higher one, whichever process makes it). Heavy payloads
(weights, archives) are files; the store holds their paths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from neuromas.errors import NeuroMASError

Document = dict[str, Any]


class Kind(StrEnum):
    """What documents there are."""

    TOPOLOGY = "topology"
    RUN = "run"
    CHECKPOINT = "checkpoint"
    ENDPOINT = "endpoint"
    EVALUATION = "evaluation"
    KEY = "key"
    SERVICE = "service"
    """What its processes tell each other."""


class StoreUnavailableError(NeuroMASError, ConnectionError):
    """The store cannot be reached now; nothing was changed, or it is not known whether it was. Try again."""

    code = "store_unavailable"


class StoreUnusableError(NeuroMASError, RuntimeError):
    """The store is of another version, or broken: trying again does not help, somebody must look at it."""

    code = "store_unusable"


class ConflictError(NeuroMASError, RuntimeError):
    """A document was not in the state or version that the change was meant for; ``document`` is what stands there."""

    code = "conflict"

    def __init__(self, message: str, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.document = dict(document or {})

    def __reduce__(self) -> tuple[type[ConflictError], tuple[str, Document]]:
        return type(self), (str(self), self.document)


class MissingError(NeuroMASError, KeyError):
    """There is no document with this id."""

    code = "not_found"

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Page:
    """Documents of a list, newest first; ``has_more`` when older ones follow the last."""

    items: tuple[Document, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a stream. ``id`` grows strictly within the stream and is never used twice."""

    id: int
    document: Document


class Store(Protocol):
    """State of the service. Every method may raise StoreUnavailableError; each is atomic."""

    async def check(self) -> Sequence[str]:
        """Look at the store before work begins, and bring one of an earlier version up to date.

        Returns:
            What is wrong with it, in words, without keeping it from being used.

        Raises:
            StoreUnusableError: it is of another version, or broken.
        """

    async def ping(self) -> None:
        """Return when the store answers."""

    async def close(self) -> None:
        """Release connections. Safe to call twice."""

    async def create(self, kind: Kind, document: Document) -> tuple[Document, bool]:
        """Add a document with an ``id``; returns what is stored, and whether this call made it.

        An id that exists already is left as it is and returned: creating twice is creating once.
        """

    async def get(self, kind: Kind, id: str) -> Document:
        """Return a document.

        Raises:
            MissingError: there is none.
        """

    async def list(
        self,
        kind: Kind,
        *,
        where: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Page:
        """Return documents, newest first (equal times: the one that was made last first).

        Args:
            kind: which.
            where: equality on top-level string keys.
            after: id of the last document of the page before.
            limit: 1 to 1000.

        Raises:
            MissingError: ``after`` names no document.
        """

    async def tally(self, kind: Kind, states: Sequence[str]) -> Mapping[str, int]:
        """Return how many documents are in each of these states, at one moment, without reading them."""

    async def update(
        self,
        kind: Kind,
        id: str,
        change: Mapping[str, Any],
        *,
        states: Sequence[str] | None = None,
        version: int | None = None,
    ) -> Document:
        """Replace top-level keys of a document and return the whole, its version raised.

        Args:
            kind: which.
            id: of the document.
            change: keys to replace; ``state`` among them moves it.
            states: the document must be in one of these.
            version: the document must have this version.

        Raises:
            MissingError: there is no such document.
            ConflictError: it is in another state or version; nothing was changed.
        """

    async def delete(self, kind: Kind, id: str) -> bool:
        """Remove a document; False where there was none."""

    async def append(self, stream: str, events: Sequence[tuple[str, Document]]) -> int:
        """Add (key, document) pairs in order, leaving out keys that the stream has seen; returns how many were new.

        The key makes a repeated append harmless: a driver that comes back sends everything again.
        """

    async def read(self, stream: str, *, after: int = 0, limit: int = 100, wait_s: float = 0) -> Sequence[Entry]:
        """Return entries with an id above ``after``; with none there, wait up to ``wait_s`` for the first."""

    async def drop(self, stream: str) -> None:
        """Forget a stream."""

    async def acquire(self, lease: str, owner: str, ttl_s: float) -> bool:
        """Take or renew a lease; False while another owner holds it."""

    async def release(self, lease: str, owner: str) -> None:
        """Give a lease back; nothing happens when another owner holds it."""

    async def remember(self, key: str, document: Document, ttl_s: float) -> Document:
        """Store a document under a key for a time, unless one is there; returns the one that is there now."""

    async def count(self, key: str, amount: int, window_s: float) -> int:
        """Add to a counter that starts anew every ``window_s`` seconds; returns the sum in the present window.

        Windows begin where unix time is a multiple of ``window_s``.
        """
