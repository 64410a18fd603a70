"""LoRA: the pairs themselves are trained. Source: arXiv:2106.09685."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from neuromas.adapters.initial import down_projection
from neuromas.adapters.maps.contract import SLOT, ModuleShape, Stack


class LoraMap:
    """The identity map: per module stacked A (N, r, in) and B (N, out, r).

    A starts random from (seed, adapter name, module), B starts at zero, so every adapter starts as the base
    and has a gradient from the first step on. Trainable numbers per adapter: r * sum over modules of (in + out).
    """

    def __init__(self, names: Sequence[str], rank: int, seed: int) -> None:
        self._names = tuple(names)
        self._rank = rank
        self._seed = seed
        self._shapes: dict[str, ModuleShape] = {}
        self._tensors: dict[str, tuple[nn.ParameterDict, nn.ParameterDict]] = {}

    @property
    def num_adapters(self) -> int:
        """Number of adapters in the stacks."""
        return len(self._names)

    @property
    def rank(self) -> int:
        """Common rank r of all pairs."""
        return self._rank

    def add_module(self, shape: ModuleShape, device: torch.device) -> Mapping[str, nn.ParameterDict]:
        """Create A and B of one module, owned by its layer (so that per-layer sharding finds them there)."""
        starts = [down_projection(self._seed, name, shape.path, self._rank, shape.in_features) for name in self._names]
        zeros = torch.zeros(self.num_adapters, shape.out_features, self._rank, device=device)
        a = nn.ParameterDict({SLOT: nn.Parameter(torch.stack(starts).to(device))})
        b = nn.ParameterDict({SLOT: nn.Parameter(zeros)})
        self._shapes[shape.path] = shape
        self._tensors[shape.path] = (a, b)
        return {"neuromas_a": a, "neuromas_b": b}

    def finish(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Nothing is shared by the modules of a LoRA."""
        return {}

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the module's stacks, or their slices of the adapters present."""
        a, b = (tensors[SLOT] for tensors in self._tensors[path])
        if present is None:
            return a, b
        return a.index_select(0, present), b.index_select(0, present)

    def modules(self) -> Sequence[ModuleShape]:
        """Modules in the order in which they were added."""
        return tuple(self._shapes.values())

    def stacks(self) -> Sequence[Stack]:
        """A and B of every module."""
        return tuple(
            Stack(f"{path}/{letter}", tensors[SLOT], 0)
            for path, pair in self._tensors.items()
            for letter, tensors in zip("AB", pair, strict=True)
        )

    def constants(self) -> Mapping[str, Tensor]:
        """A LoRA is complete in itself."""
        return {}
