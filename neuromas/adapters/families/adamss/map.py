"""AdaMSS: dW = sum over segments k of scatter_k(B_k A_k) V_R^T. Source: OpenReview 8ZdWmpYxT0 (NeurIPS 2025).

V_R^T (R, in) holds the leading right singular vectors of W0; k-means over the rows of the left ones puts every output
row into one of K segments. Per segment A_k (r_k, R) starts orthonormal and B_k (rows of k, r_k) at zero: the base.
The pair is exact: A = stack_k(A_k) V_R^T of rank K r_k, B = the B_k, each in its rows and its columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.families.adamss.segments import cluster
from neuromas.adapters.families.adamss.spec import AdamssSpec
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.map import SLOT, AdapterMap, Fixed, Owned, Parts, of_present, trained
from neuromas.adapters.initial import stream
from neuromas.adapters.spectrum import leading_directions


class AdamssMap(AdapterMap):
    """Per module the stacked A_k (N, K r_k, R) and B's rows (N, out, r_k); V_R^T and the segments are shared."""

    def __init__(self, names: Sequence[str], spec: AdamssSpec, seed: int) -> None:
        super().__init__(names, spec.served_rank)
        self._spec = spec
        self._seed = seed
        self._parts: dict[str, tuple[nn.ParameterDict, nn.ParameterDict]] = {}
        self._shared: dict[str, tuple[Fixed, Fixed]] = {}

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        device = linear.weight.device
        left, right = leading_directions(linear.weight.detach(), self._spec.basis)
        basis = Fixed(right.clone().to(device))
        segments = Fixed(torch.from_numpy(cluster(left.numpy(), self._spec.segments)).to(device))
        subspace = trained(torch.stack([self._start(name, shape.path) for name in self.names]).to(device))
        rows = trained(torch.zeros(self.num_adapters, shape.out_features, self._spec.rank, device=device))
        self._parts[shape.path] = (subspace, rows)
        self._shared[shape.path] = (basis, segments)
        return {
            "neuromas_subspace": subspace,
            "neuromas_rows": rows,
            "neuromas_basis": basis,
            "neuromas_segments": segments,
        }

    def _start(self, name: str, path: str) -> Tensor:
        """Return orthonormal A_k, one below the other."""
        size = (self._spec.segments, self._spec.basis, self._spec.rank)
        drawn = stream(self._seed, name, path, "subspace").standard_normal(size)
        orthonormal = np.linalg.qr(drawn)[0].transpose(0, 2, 1)
        return torch.from_numpy(orthonormal.reshape(self.rank, self._spec.basis).astype(np.float32))

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the A_k in the layer's inputs, and the B_k in their rows and columns."""
        subspace, rows = (of_present(part[SLOT], present) for part in self._parts[path])
        basis, segments = (fixed.tensor for fixed in self._shared[path])
        columns = segments[:, None] * self._spec.rank + torch.arange(self._spec.rank, device=segments.device)
        b = rows.new_zeros(len(rows), len(segments), self.rank).scatter(2, columns.expand_as(rows), rows)
        with torch.autocast(rows.device.type, enabled=False):
            return subspace @ basis, b

    def tensors(self) -> Sequence[Owned]:
        """A_k and B of every module, and what they are relative to."""
        found = []
        for path, (subspace, rows) in self._parts.items():
            basis, segments = self._shared[path]
            below = torch.arange(self.rank, device=segments.tensor.device) // self._spec.rank
            found += [
                Owned(f"{path}/subspace", subspace[SLOT], parts=self._segments_of(path, below)),
                Owned(f"{path}/rows", rows[SLOT], is_update=True, parts=self._segments_of(path, segments.tensor)),
                Owned(f"{path}/basis", basis.tensor, None),
                Owned(f"{path}/segments", segments.tensor, None),
            ]
        return found

    def _segments_of(self, path: str, of_row: Tensor) -> Parts | None:
        budget = self._spec.budget
        return Parts(path, of_row, self._spec.segments, budget) if budget < 1 else None
