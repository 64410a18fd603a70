"""LOFT: W = W0 (I + P (T - I) P^T) with orthonormal P (in, r) and orthogonal T (r, r). Source: arXiv:2605.11872.

T is the Cayley map of a skew matrix Q, T = (I + Q)(I - Q)^-1, so T - I = 2 Q (I - Q)^-1, and W W^T = W0 W0^T. The pair
is exact: A = P^T, B = W0 P (T - I). Q = 0 at the start: the base, with a gradient, since dB = 2 W0 P dQ there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.directions import LayerStatistics, StartNeeds, leading_rotation_plane
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.loft.spec import LoftSpec
from neuromas.adapters.families.map import SLOT, DataStartedMap, Fixed, Owned, of_present, trained
from neuromas.adapters.initial import stream
from neuromas.adapters.spectrum import leading_directions


class LoftMap(DataStartedMap):
    """Per module the lower triangle of Q (N, r (r - 1) / 2), and P^T: one for all adapters (r, in), or one each."""

    def __init__(self, names: Sequence[str], spec: LoftSpec, seed: int) -> None:
        super().__init__(names, spec.rank)
        self._spec = spec
        self._seed = seed
        self._layers: dict[str, nn.Linear] = {}
        self._rotations: dict[str, nn.ParameterDict] = {}
        self._supports: dict[str, Fixed] = {}
        self._images: dict[str, Fixed] = {}

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        weight = linear.weight.detach().float()
        support = self._draw(shape, weight).to(weight.device)
        rotation = trained(torch.zeros(self.num_adapters, self.rank * (self.rank - 1) // 2, device=weight.device))
        self._layers[shape.path] = linear
        self._rotations[shape.path] = rotation
        self._supports[shape.path] = Fixed(support)
        self._images[shape.path] = Fixed(weight @ support.mT, is_derived=True)
        return {
            "neuromas_rotation": rotation,
            "neuromas_support": self._supports[shape.path],
            "neuromas_image": self._images[shape.path],
        }

    def _draw(self, shape: ModuleShape, weight: Tensor) -> Tensor:
        """Return P^T (r, in), or one for each adapter (N, r, in): at random where it will come from rollouts."""
        if self._spec.support == "principal":
            return leading_directions(weight, self.rank)[1]
        if self._spec.support == "coordinate":
            columns = weight.square().sum(0).argsort(descending=True, stable=True)[: self.rank]
            return nn.functional.one_hot(columns, shape.in_features).float()
        drawn = [
            stream(self._seed, name, shape.path, "support").standard_normal((shape.in_features, self.rank))
            for name in self.names
        ]
        return torch.from_numpy(np.stack([np.linalg.qr(values)[0].T for values in drawn]).astype(np.float32))

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return P^T and W0 P (T - I)."""
        entries = of_present(self._rotations[path][SLOT], present)
        support, image = self._supports[path].tensor, self._images[path].tensor
        if support.ndim == 3:
            support, image = of_present(support, present), of_present(image, present)
        with torch.autocast(entries.device.type, enabled=False):
            return support.expand(len(entries), -1, -1), image @ cayley_difference(entries, self.rank)

    def start_needs(self, *, from_inputs: bool) -> StartNeeds | None:
        """What the support is made of."""
        spec = self._spec
        if spec.support == "eva":
            return StartNeeds(directions=self.rank, tau=spec.tau, batches=spec.batches)
        return StartNeeds(gradient=True, batches=spec.batches) if spec.support == "gradient" else None

    def start(self, adapter: int, found: Mapping[str, LayerStatistics]) -> None:
        """Set the support; where the rollouts have no gradient it stays the random one."""
        name = self.names[adapter]
        for path, layer in found.items():
            support = layer.directions
            if layer.gradient is not None:
                weight = self._layers[path].weight.detach()
                support = leading_rotation_plane(weight, layer.gradient, self.rank, self._seed, name, path, "gradient")
            if support is not None:
                self._supports[path].tensor[adapter] = support

    def tensors(self) -> Sequence[Owned]:
        """Q's entries and P^T of every module."""
        found = []
        for path, rotation in self._rotations.items():
            support = self._supports[path].tensor
            found.append(Owned(f"{path}/rotation", rotation[SLOT], is_update=True))
            found.append(Owned(f"{path}/support", support, 0 if support.ndim == 3 else None))
        return found

    def refresh(self) -> None:
        """Compute W0 P for the supports as they are now."""
        for path, image in self._images.items():
            weight = self._layers[path].weight.detach().float()
            image.tensor.copy_(weight @ self._supports[path].tensor.mT)


def cayley_difference(entries: Tensor, rank: int) -> Tensor:
    """Return T - I of the Cayley map, shape (n, r, r).

    Args:
        entries: entries of Q below its diagonal, row by row, shape (n, r (r - 1) / 2).
        rank: r.
    """
    rows, columns = torch.tril_indices(rank, rank, -1, device=entries.device)
    flat = entries.new_zeros(len(entries), rank * rank).index_copy(1, rows * rank + columns, entries)
    lower = flat.view(-1, rank, rank)
    skew = lower - lower.mT
    identity = torch.eye(rank, device=entries.device, dtype=entries.dtype)
    difference: Tensor = torch.linalg.solve(identity - skew, 2 * skew)
    return difference
