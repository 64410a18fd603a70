"""FairLimit: places that many share, of which no caller can take so many that none are left for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from neuromas.services.api.problems import busy

LOCAL = "local"
"""Owner of everything that is made without a key: nobody else is there to leave places for."""


class FairLimit:
    """So many places. A caller may hold at most as many as are free.

    So one caller alone gets half of them, two get a third each, and n callers leave one part of n + 1 for the next:
    nobody waits for a place that others have taken for good. Source: dynamic thresholds for shared buffers,
    A. K. Choudhury and E. L. Hahne, IEEE/ACM Transactions on Networking 6(2), 1998, with alpha = 1.
    """

    def __init__(self, most: int, code: str, what: str, retry_s: float, gauge: Gauge | None = None) -> None:
        """Set the limit.

        Args:
            most: places.
            code: of the error where there is none.
            what: stands for the places in its message, such as "streams are open".
            retry_s: seconds that a client is asked to wait.
            gauge: is told how many are taken.
        """
        self._most = most
        self._code, self._what, self._retry_s = code, what, retry_s
        self._gauge = gauge
        self._held: Counter[str] = Counter()
        self._num_taken = 0

    @property
    def num_taken(self) -> int:
        """Places that are taken."""
        return self._num_taken

    def take(self, owner: str, count: int = 1) -> None:
        """Take places, to be given back with ``leave``.

        Raises:
            ApiError: there are none, or the owner has its share (429).
        """
        taken = self.num_taken
        if taken + count > self._most:
            raise busy(self._code, f"{taken} of {self._most} {self._what}, the limit", self._retry_s)
        held = self._held[owner]
        # Of several the last is the one that leaves least: the others are held and taken before it.
        if owner != LOCAL and held + count > 1 and held + 2 * (count - 1) >= self._most - taken:
            message = f"{held} of {self._most} {self._what} for this key, its share while {taken} are taken"
            raise busy(self._code, message, self._retry_s)
        self._held[owner] += count
        self._num_taken += count
        if self._gauge is not None:
            self._gauge.inc(count)

    def leave(self, owner: str, count: int = 1) -> None:
        """Give places back."""
        self._held[owner] -= count
        self._num_taken -= count
        if not self._held[owner]:
            del self._held[owner]
        if self._gauge is not None:
            self._gauge.dec(count)

    @contextmanager
    def place(self, owner: str, count: int = 1) -> Iterator[None]:
        """Hold places inside the block; see ``take``."""
        self.take(owner, count)
        try:
            yield
        finally:
            self.leave(owner, count)
