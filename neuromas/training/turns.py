"""Turns: what the processes of one machine do one after the other, because its memory holds it only once."""

from __future__ import annotations

import os

from neuromas.training.peers import Peers


class Turns:
    """The turns of the processes of every machine, all machines at the same time."""

    def __init__(self, peers: Peers, place: int, places: int) -> None:
        """Take turns.

        Args:
            peers: all processes.
            place: of this process among those of its machine, from 0.
            places: most processes of one machine; the same in all processes.
        """
        self._peers, self._place, self._places = peers, place, places

    @classmethod
    def of(cls, peers: Peers) -> Turns:
        """Return the turns of processes that know their place from LOCAL_RANK and LOCAL_WORLD_SIZE; all call it."""
        place, size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
        return cls(peers, place, max(peers.gather(size)))

    def begin(self) -> None:
        """Return when it is this process's turn."""
        for _ in range(self._place):
            self._peers.wait()

    def end(self) -> None:
        """Let the next one begin; returns when all have had their turn."""
        for _ in range(self._places - self._place):
            self._peers.wait()
