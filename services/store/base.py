"""The Store protocol: records moved by compare-and-set, append-only streams, leases, idempotency answers.

Every call that is about records names their class, which says what is kept of them and which moves they make. Entries
of streams and remembered answers are JSON objects. Heavy payloads (weights, archives) are files; the store holds their
paths.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from neuromas.errors import NeuroMASError
from neuromas.services.records.record import Record

Document = dict[str, Any]
R = TypeVar("R", bound=Record)

TRIMMED: Final = 1000
"""Entries that one call forgets at most."""


class StoreUnavailableError(NeuroMASError, ConnectionError):
    """The store cannot be reached now; nothing was changed, or it is not known whether it was. Try again."""

    code = "store_unavailable"


class StoreUnwritableError(StoreUnavailableError):
    """The disk under the store takes no change: it is full, cannot be written, or fails. Nothing was changed."""

    code = "store_unwritable"


class StoreUnusableError(NeuroMASError, RuntimeError):
    """The store is of another version, or broken: trying again does not help, somebody must look at it."""

    code = "store_unusable"


class ConflictError(NeuroMASError, RuntimeError):
    """A record was not in the state or version that the update was meant for, or may not make its move."""

    code = "conflict"


class MissingError(NeuroMASError, KeyError):
    """There is no record with this id."""

    code = "not_found"

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Records of a list, newest first; ``has_more`` when older ones follow the last."""

    items: tuple[R, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Texts:
    """A page as ``Page`` has it, of records as they are stored: JSON objects that nobody has read yet."""

    items: tuple[str, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One event of a stream.

    Attributes:
        id: grows strictly within the stream and is never used twice.
        text: its document, as ``versions.encode`` wrote it.
    """

    id: int
    text: str

    @property
    def document(self) -> Document:
        """The document, read anew each time."""
        document: Document = json.loads(self.text)
        return document


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

    async def create(self, record: R) -> tuple[R, bool]:
        """Add a record: version 1, numbered; returns what is stored, and whether this call made it.

        An id that exists already is left as it is and returned: creating twice is creating once.
        """

    async def get(self, kind: type[R], id: str) -> R:
        """Return a record.

        Raises:
            MissingError: there is none.
        """

    async def list(
        self,
        kind: type[R],
        *,
        where: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Page[R]:
        """Return records, newest first (equal times: the one that was made last first).

        Args:
            kind: which.
            where: equality on fields that are texts; of a list of texts one that it holds.
            after: id of the last record of the page before.
            limit: 1 to 1000.

        Raises:
            MissingError: ``after`` names no record.
            ValueError: the records have no such field, or the limit is out of range.
        """

    async def texts(
        self,
        kind: type[Record],
        *,
        where: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Texts:
        """Return what ``list`` returns, raises what it raises, and reads no record."""

    async def tally(self, kind: type[Record], states: Sequence[str]) -> Mapping[str, int]:
        """Return how many records are in each of these states, at one moment, without reading them."""

    async def update(
        self,
        kind: type[R],
        id: str,
        change: Mapping[str, object],
        *,
        states: Collection[str] | None = None,
        version: int | None = None,
    ) -> R:
        """Replace fields of a record and return the whole, its version raised.

        Args:
            kind: which.
            id: of the record.
            change: the fields to replace, of those that the class lets change; ``state`` among them moves it.
            states: the record must be in one of these.
            version: the record must have this version.

        Raises:
            MissingError: there is no such record.
            ConflictError: it is in another state or version, or may not make the move; nothing was changed.
            ValueError: the class does not let a field change, or not to that value.
        """

    async def delete(self, kind: type[Record], id: str) -> bool:
        """Remove a record; False where there was none."""

    async def append(self, stream: str, events: Sequence[tuple[str, Document]]) -> int:
        """Add (key, document) pairs in order, leaving out keys that the stream has seen; returns how many were new.

        The key makes a repeated append harmless: a driver that comes back sends everything again.
        """

    async def read(self, stream: str, *, after: int = 0, limit: int = 100, wait_s: float = 0) -> Sequence[StreamEntry]:
        """Return entries with an id above ``after``; with none there, wait up to ``wait_s`` for the first."""

    async def trim(self, stream: str, keep: int) -> int:
        """Forget the oldest entries, and their keys, beyond the newest ``keep``; returns how many.

        One call forgets TRIMMED at most, so that it delays nobody: call again until it returns 0.
        """

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
