"""LoRA: the pairs themselves are trained. Source: arXiv:2106.09685."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.directions import LayerStatistics, StartNeeds
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.map import SLOT, DataStartedMap, Owned, of_present, trained
from neuromas.adapters.initial import down_projection, stream


class LoraMap(DataStartedMap):
    """The identity map: per module stacked A (N, r, in) and B (N, out, r).

    A starts random from (seed, adapter name, module), B starts at zero, so every adapter starts as the base
    and has a gradient from the first step on. With ``start = "eva"`` (arXiv:2410.07170) the rows of A then become an
    orthonormal basis of the leading directions of the layer's inputs, turned at random inside their span: nodes that
    read the same would have the same A otherwise.
    """

    def __init__(self, names: Sequence[str], spec: LoraSpec, seed: int) -> None:
        super().__init__(names, spec.rank)
        self._spec = spec
        self._seed = seed
        self._tensors: dict[str, tuple[nn.ParameterDict, nn.ParameterDict]] = {}

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        """Create A and B of one module, owned by its layer (so that per-layer sharding finds them there)."""
        device = linear.weight.device
        starts = [down_projection(self._seed, name, shape.path, self.rank, shape.in_features) for name in self.names]
        a = trained(torch.stack(starts).to(device))
        b = trained(torch.zeros(self.num_adapters, shape.out_features, self.rank, device=device))
        self._tensors[shape.path] = (a, b)
        return {"neuromas_a": a, "neuromas_b": b}

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the module's stacks, or their slices of the adapters present."""
        a, b = (tensors[SLOT] for tensors in self._tensors[path])
        return of_present(a, present), of_present(b, present)

    def start_needs(self, *, from_inputs: bool) -> StartNeeds | None:
        """The leading directions of the inputs, as many as A has rows."""
        if not from_inputs and self._spec.start != "eva":
            return None
        return StartNeeds(directions=self.rank, tau=self._spec.tau, batches=self._spec.batches)

    def start(self, adapter: int, found: Mapping[str, LayerStatistics]) -> None:
        """Set A to a random basis of the directions' span."""
        for path, layer in found.items():
            if layer.directions is None:
                continue
            a = self._tensors[path][0][SLOT]
            drawn = stream(self._seed, self.names[adapter], path, "turn").standard_normal((self.rank, self.rank))
            turn = torch.from_numpy(np.linalg.qr(drawn)[0].astype(np.float32))
            a.data[adapter] = turn.to(a.device) @ layer.directions.to(a.device)

    def tensors(self) -> Sequence[Owned]:
        """A and B of every module."""
        return tuple(
            Owned(f"{path}/{letter}", tensors[SLOT], is_update=letter == "B")
            for path, pair in self._tensors.items()
            for letter, tensors in zip("AB", pair, strict=True)
        )
