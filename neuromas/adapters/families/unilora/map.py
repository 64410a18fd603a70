"""Uni-LoRA: one vector per adapter, spread over all pairs by a fixed isometry. Source: arXiv:2506.00799.

All LoRA numbers of an adapter are stacked to a vector of length D (A, then B, of each module in order) and set to
``P theta`` with theta of length d. Each row of P is one-hot; column j is scaled by 1/sqrt(n_j), n_j being the number
of rows that use it, so that P^T P = I: distances between vectors are distances between the stacked pairs.

Two departures from the paper, both as in PEFT 0.21 or for our use:

- slots are assigned in equal shares (each used floor(D/d) or ceil(D/d) times) and then shuffled, not drawn
  independently; the shuffle is PEFT's, so at equal seeds the projections are equal;
- A gets a frozen random offset: A = A0 + P_A theta, B = P_B theta, theta = 0 at the start. So an adapter starts
  exactly as the base and still has a gradient; with A and B both from theta it would have to start off the base.

P and A0 are shared by all adapters of a model: an adapter is d numbers, whatever the base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.map import SLOT, AdapterMap, Owned
from neuromas.adapters.initial import down_projection
from neuromas.errors import AdapterError


def balanced_index(total: int, dimension: int, seed: int) -> Tensor:
    """Return the slot of theta that each of ``total`` LoRA numbers reads, int32, shape (total,).

    Equals ``UniLoraModel.generate_index`` of PEFT 0.21.2 for the same arguments.
    """
    rng = np.random.default_rng(seed)
    slots = np.repeat(np.arange(dimension), total // dimension)
    if total % dimension:
        slots = np.concatenate([slots, rng.choice(dimension, size=total % dimension, replace=False)])
    rng.shuffle(slots)
    return torch.from_numpy(slots.astype(np.int32))


class Projection(nn.Module):
    """What all adapters share: the index of P, its scale, and the offsets A0. Not saved; rebuilt from the seed.

    Attributes:
        index: slot of theta per LoRA number, int32, shape (D,).
        scale: 1/sqrt(n_j), shape (d, 1).
        offset: all A0 one after the other, each (r * in,).
    """

    index: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self, index: Tensor, dimension: int, offset: Tensor) -> None:
        super().__init__()
        counts = torch.bincount(index, minlength=dimension).clamp(min=1)
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("scale", counts.to(torch.float32).rsqrt()[:, None], persistent=False)
        self.register_buffer("offset", offset, persistent=False)


class UniLoraMap(AdapterMap):
    """theta (d, N) -> pairs, by two gathers per module.

    theta is stored slot-major because gathering rows of N numbers is several times faster than gathering columns.
    """

    def __init__(self, names: Sequence[str], rank: int, dimension: int, seed: int, offset: bool = True) -> None:
        """Create the map.

        Args:
            names: of the adapters.
            rank: rank r of the pairs.
            dimension: length d of each adapter's vector.
            seed: fixes P and A0; adapters can be exchanged only between maps of one seed.
            offset: False leaves A0 out (the paper's form); theta must then not start at zero.
        """
        super().__init__(names, rank)
        self._dimension = dimension
        self._seed = seed
        self._has_offset = offset
        self._spans: dict[str, tuple[int, int]] = {}
        self._length = 0
        self._offset_length = 0
        self._theta = nn.ParameterDict()
        self._projection: Projection | None = None

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        """Give the module its span of the LoRA vector; its layer owns nothing."""
        self._spans[shape.path] = (self._length, self._offset_length)
        self._length += self.rank * shape.width
        self._offset_length += self.rank * shape.in_features
        return {}

    def finish(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Draw P and A0, and create theta; the root of the model owns both.

        Raises:
            AdapterError: d is larger than D, so that P has unused columns.
        """
        if self._dimension > self._length:
            raise AdapterError(
                f"uni-lora: got dimension {self._dimension}, allowed are 1..{self._length}, the number of LoRA "
                "numbers it is spread over; lower adapter.dimension, or raise adapter.rank or adapter.targets"
            )
        index = balanced_index(self._length, self._dimension, self._seed)
        offset = torch.zeros(0)
        if self._has_offset:
            starts = [
                down_projection(self._seed, "", shape.path, self.rank, shape.in_features).flatten()
                for shape in self._shapes.values()
            ]
            offset = torch.cat(starts)
        self._projection = Projection(index, self._dimension, offset).to(device)
        return {**self._make_vectors(device), "neuromas_projection": self._projection}

    def _make_vectors(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Create what the vectors are made of, such that they are zero; returns what the root must own of it."""
        self._theta[SLOT] = nn.Parameter(torch.zeros(self._dimension, self.num_adapters, device=device))
        return {"neuromas_theta": self._theta}

    def _vectors(self, present: Tensor | None) -> Tensor:
        """Return the vectors of the adapters present, shape (d, present)."""
        theta: Tensor = self._theta[SLOT]
        return theta if present is None else theta.index_select(1, present)

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Gather the module's pairs from theta."""
        projection = self._shared()
        shape = self._shapes[path]
        start, offset_start = self._spans[path]
        size_a, size_b = self.rank * shape.in_features, self.rank * shape.out_features
        slots = projection.index[start : start + size_a + size_b]
        entries = (self._vectors(present) * projection.scale).index_select(0, slots)
        # split, not slices: its backward writes one gradient instead of a zero-padded one per slice
        flat_a, flat_b = entries.t().split((size_a, size_b), dim=1)  # type: ignore[no-untyped-call]
        if self._has_offset:
            flat_a = flat_a + projection.offset[offset_start : offset_start + size_a]
        a = flat_a.reshape(-1, self.rank, shape.in_features)
        return a, flat_b.reshape(-1, shape.out_features, self.rank)

    def tensors(self) -> Sequence[Owned]:
        """The one trained tensor, theta (d, N)."""
        return (Owned("theta", self._theta[SLOT], 1, is_update=True),)

    def constants(self) -> Mapping[str, Tensor]:
        """Seed, D and d of the projection that a vector belongs to."""
        return {"projection": torch.tensor([self._seed, self._length, self._dimension], dtype=torch.int64)}

    def _shared(self) -> Projection:
        if self._projection is None:
            raise AdapterError("uni-lora: the map has no projection yet; call finish() after the last add_module()")
        return self._projection
