"""LoRA: the pairs themselves are trained. Source: arXiv:2106.09685."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.directions import LayerStatistics, StartNeeds
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.map import SLOT, AnyPairMap, DataStartedMap, Owned, of_present, trained
from neuromas.adapters.initial import down_projection, stream
from neuromas.errors import AdapterError


class LoraMap(DataStartedMap, AnyPairMap):
    """The identity map: per module stacked A (N, r, in) and B (N, out, r).

    A starts random from (seed, adapter name, module), B starts at zero, so every adapter starts as the base
    and has a gradient from the first step on. With ``start = "eva"`` (arXiv:2410.07170) the rows of A then become an
    orthonormal basis of the leading directions of the layer's inputs, turned at random inside their span: nodes that
    read the same would have the same A otherwise.

    With ``rho`` above 1 the stacks have room for the largest rank that a layer may get. Rows of A beyond a layer's rank
    are zero, as are the columns of B beside them: neither then has a gradient, so both stay.
    """

    def __init__(self, names: Sequence[str], spec: LoraSpec, seed: int) -> None:
        super().__init__(names, spec.served_rank)
        self._spec = spec
        self._seed = seed
        self._tensors: dict[str, tuple[nn.ParameterDict, nn.ParameterDict]] = {}

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        """Create A and B of one module, owned by its layer (so that per-layer sharding finds them there)."""
        device = linear.weight.device
        rank, spare = self._spec.rank, self.rank - self._spec.rank
        starts = [down_projection(self._seed, name, shape.path, rank, shape.in_features) for name in self.names]
        a = trained(nn.functional.pad(torch.stack(starts), (0, 0, 0, spare)).to(device))
        b = trained(torch.zeros(self.num_adapters, shape.out_features, self.rank, device=device))
        self._tensors[shape.path] = (a, b)
        return {"neuromas_a": a, "neuromas_b": b}

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the module's stacks, or their slices of the adapters present."""
        a, b = (tensors[SLOT] for tensors in self._tensors[path])
        return of_present(a, present), of_present(b, present)

    def start_needs(self, *, from_inputs: bool) -> StartNeeds | None:
        """The leading directions of the inputs, as many as a layer's rank may be."""
        if not from_inputs and self._spec.start != "eva":
            return None
        return StartNeeds(directions=self.rank, tau=self._spec.tau, batches=self._spec.batches)

    def start(self, adapter: int, found: Mapping[str, LayerStatistics]) -> None:
        """Set A to a random basis of the span of the directions that each layer gets."""
        for path, (rank, directions) in _redistributed(found, self._spec.rank).items():
            a = self._tensors[path][0][SLOT]
            drawn = stream(self._seed, self.names[adapter], path, "turn").standard_normal((rank, rank))
            turn = torch.from_numpy(np.linalg.qr(drawn)[0].astype(np.float32))
            a.data[adapter] = 0
            a.data[adapter, :rank] = turn.to(a.device) @ directions[:rank].to(a.device)

    def take(self, adapter: int, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Set the first rows of A and columns of B; ranks beyond them keep their start, and can still be trained.

        Raises:
            AdapterError: a layer of the base has another shape.
        """
        for path, (given_a, given_b) in pairs.items():
            a, b = (tensors[SLOT].data[adapter] for tensors in self._tensors[path])
            if (given_a.shape[1], given_b.shape[0]) != (a.shape[1], b.shape[0]):
                raise AdapterError(
                    f"adapter layer {path}: got A {tuple(given_a.shape)} and B {tuple(given_b.shape)}, the base's "
                    f"layer has {a.shape[1]} inputs and {b.shape[0]} outputs: it belongs to another base"
                )
            a[: len(given_a)] = given_a.to(a.device)
            b.zero_()
            b[:, : len(given_a)] = given_b.to(b.device)

    def tensors(self) -> Sequence[Owned]:
        """A and B of every module."""
        return tuple(
            Owned(f"{path}/{letter}", tensors[SLOT], is_update=letter == "B")
            for path, pair in self._tensors.items()
            for letter, tensors in zip("AB", pair, strict=True)
        )


def _redistributed(found: Mapping[str, LayerStatistics], rank: int) -> dict[str, tuple[int, Tensor]]:
    """Return the rank and the directions of each layer, by path.

    The directions of all layers are sorted together by the share of their layer's inputs that they explain, and the
    first ``rank`` times the number of layers are kept (EVA, arXiv:2410.07170, section 3.3): ``rank`` each where every
    layer has no more.
    """
    layers = {
        path: (layer.directions, layer.shares)
        for path, layer in found.items()
        if layer.directions is not None and layer.shares is not None
    }
    if not layers:
        return {}
    shares = torch.stack([own for _, own in layers.values()])
    kept = shares.flatten().argsort(descending=True, stable=True)[: rank * len(layers)]
    ranks = torch.bincount(kept // shares.shape[1], minlength=len(layers)).tolist()
    return {path: (own, directions) for own, (path, (directions, _)) in zip(ranks, layers.items(), strict=True)}
