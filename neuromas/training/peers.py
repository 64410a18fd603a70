"""The data-parallel processes of a run: this one alone, or several joined by torch.distributed."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch.distributed as dist

Item = TypeVar("Item")


class Peers(Protocol):
    """The data-parallel processes, as far as sampling and checks need them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def gather(self, item: Item) -> list[Item]:
        """Return every process's item, by rank."""

    def wait(self) -> None:
        """Return when all processes have come here."""


class Alone:
    """The only process there is."""

    rank = 0
    size = 1

    def gather(self, item: Item) -> list[Item]:
        """Return the item."""
        return [item]

    def wait(self) -> None:
        """Return at once."""


class TorchPeers:
    """All processes of the default process group, which must be initialised."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return dist.get_rank()

    @property
    def size(self) -> int:
        """Number of processes."""
        return dist.get_world_size()

    def gather(self, item: Item) -> list[Item]:
        """Return every process's item, by rank."""
        items = [item] * self.size
        dist.all_gather_object(items, item)
        return items

    def wait(self) -> None:
        """Return when all processes have come here."""
        dist.barrier()


def find_peers() -> Peers:
    """Return the processes that this one trains with: itself, unless a process group is initialised."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return TorchPeers()
    return Alone()
