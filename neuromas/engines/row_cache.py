"""Keys and values of all calls under way, a row each: a call's tokens stand at places 0, 1, 2, ... of its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A forward pass that reads the next tokens of some rows, each of which attends to all that it has read.

    Attributes:
        rows: shape (calls,); None stands for all of them in their order.
        places: where each token is kept, shape (calls, tokens); what a row has to read less than others is kept
            behind its tokens, where nothing has been read yet.
        reach: the most tokens that one of them has read then.
    """

    rows: Tensor | None
    places: Tensor
    reach: int


class RowCache(Cache):  # type: ignore[misc]
    """Grows with the calls; a call that ends leaves its row to the last one, so that rows in use have no gaps.

    Attributes:
        reading: what the next forward pass reads.
    """

    reading: Reading

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=partial(_Layer, self))
        self.size = (0, 0)

    def reserve(self, rows: int, places: int) -> None:
        """Have room for at least so many rows of at least so many places; what is held stays."""
        if rows > self.size[0] or places > self.size[1]:
            self.size = max(rows, self.size[0]), max(places, self.size[1])
            for layer in self.layers:
                layer.enlarge()

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Put rows into the places of others."""
        if targets:
            for layer in self.layers:
                for held in (layer.keys, layer.values):
                    held[list(targets)] = held[list(sources)]

    def copy(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Let rows begin as others do: the first ``length`` places of each target become those of its source."""
        for layer in self.layers:
            for held in (layer.keys, layer.values):
                held[list(targets), :, :length] = held[list(sources), :, :length]

    def clear(self, rows: Sequence[int]) -> None:
        """Forget what rows hold: what is no number must not meet the masks of those that follow."""
        for layer in self.layers:
            for held in (layer.keys, layer.values):
                held[list(rows)] = 0.0

    def free(self) -> None:
        """Give all memory back."""
        self.size = (0, 0)
        self.layers.clear()


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """One layer's keys and values, each of shape (rows, heads, places, features)."""

    def __init__(self, owner: RowCache) -> None:
        super().__init__()
        self._owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room for as much as the cache holds."""
        self.keys, self.values = self._room(key_states), self._room(value_states)
        self.is_initialized = True

    def enlarge(self) -> None:
        """Take the owner's size; what is held stays."""
        for name in ("keys", "values"):
            held = getattr(self, name)
            room = self._room(held)
            room[: held.shape[0], :, : held.shape[2]] = held
            setattr(self, name, room)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Keep what a pass has computed; returns what it attends to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        reading = self._owner.reading
        every = len(key_states)
        index = torch.arange(every, device=key_states.device) if reading.rows is None else reading.rows
        chosen = slice(every) if reading.rows is None else reading.rows
        # Indexing by two tensors with a slice between puts what they index first: (calls, tokens, heads, features).
        self.keys[index[:, None], :, reading.places] = key_states.transpose(1, 2)
        self.values[index[:, None], :, reading.places] = value_states.transpose(1, 2)
        return self.keys[chosen, :, : reading.reach], self.values[chosen, :, : reading.reach]

    def get_seq_length(self) -> int:
        """Return how many tokens were read before, where all rows of a pass are equal in that."""
        return self._owner.reading.reach - self._owner.reading.places.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many places a pass attends to, and the first of them."""
        return self._owner.reading.reach, 0

    def get_max_length(self) -> int:
        """Return -1: there is no bound."""
        return -1

    def _room(self, like: Tensor) -> Tensor:
        rows, places = self._owner.size
        return like.new_zeros((rows, like.shape[1], places, like.shape[3]))
