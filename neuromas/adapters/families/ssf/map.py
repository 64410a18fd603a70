"""SSF-k: W = diag(1 + s) W0 on the output side, W0 diag(1 + s) on the input side, s zero but on k channels.

Source: arXiv:2210.08823, scales only. The pair is exact. Output side: A = diag(s_k) W0[k, :], B = the selection of the
channels k. Input side: A = the selection, B = W0[:, k] diag(s_k). s = 0 at the start: the base, with a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.directions import LayerStatistics, StartNeeds
from neuromas.adapters.families.contract import ModuleShape
from neuromas.adapters.families.map import SLOT, DataStartedMap, Fixed, Owned, of_present, trained
from neuromas.adapters.families.ssf.spec import SsfSpec
from neuromas.adapters.initial import stream


class SsfMap(DataStartedMap):
    """Per module the scales s (N, k), and the channels: the same for all adapters (k,), or each its own (N, k)."""

    def __init__(self, names: Sequence[str], spec: SsfSpec, seed: int) -> None:
        super().__init__(names, spec.channels)
        self._is_output = spec.side == "output"
        self._spec = spec
        self._seed = seed
        self._layers: dict[str, nn.Linear] = {}
        self._scales: dict[str, nn.ParameterDict] = {}
        self._channels: dict[str, Fixed] = {}
        self._images: dict[str, Fixed] = {}

    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        weight = linear.weight.detach()
        self._layers[shape.path] = linear
        self._scales[shape.path] = trained(torch.zeros(self.num_adapters, self.rank, device=weight.device))
        self._channels[shape.path] = Fixed(self._choose(shape, weight.float()).to(weight.device))
        self._images[shape.path] = Fixed(self._image(shape.path), is_derived=True)
        return {
            "neuromas_scale": self._scales[shape.path],
            "neuromas_channels": self._channels[shape.path],
            "neuromas_image": self._images[shape.path],
        }

    def _image(self, path: str) -> Tensor:
        """Return the rows of W0 (output side) or its columns (input side) at the channels, one a row of the result."""
        weight = self._layers[path].weight.detach()
        return (weight if self._is_output else weight.mT)[self._channels[path].tensor].float()

    def _choose(self, shape: ModuleShape, weight: Tensor) -> Tensor:
        if self._spec.start == "norm":
            norms = weight.square().sum(1 if self._is_output else 0)
            return norms.argsort(descending=True, stable=True)[: self.rank]
        count = shape.out_features if self._is_output else shape.in_features
        streams = [stream(self._seed, name, shape.path, "channels") for name in self.names]
        return torch.from_numpy(np.stack([each.permutation(count)[: self.rank] for each in streams]))

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the scaled channels of W0 and their selection."""
        shape = self._shapes[path]
        scale = of_present(self._scales[path][SLOT], present)
        channels, image = self._channels[path].tensor, self._images[path].tensor
        if channels.ndim == 2:
            channels, image = of_present(channels, present), of_present(image, present)
        channels, scaled = channels.expand(len(scale), -1), scale[:, :, None] * image
        if self._is_output:
            return scaled, _selection(channels, shape.out_features).mT
        return _selection(channels, shape.in_features), scaled.mT

    def start_needs(self, *, from_inputs: bool) -> StartNeeds | None:
        """The gradient that the channels are chosen by."""
        return StartNeeds(gradient=True, batches=self._spec.batches) if self._spec.start == "gradient" else None

    def start(self, adapter: int, found: Mapping[str, LayerStatistics]) -> None:
        """Choose the channels of the largest |dR/ds| = |sum W0 o G|; without any gradient the random ones stay."""
        for path, layer in found.items():
            if layer.gradient is None:
                continue
            weight = self._layers[path].weight.detach().float()
            slopes = (weight * layer.gradient).sum(1 if self._is_output else 0).abs()
            if bool(slopes.any()):
                chosen = slopes.argsort(descending=True, stable=True)[: self.rank]
                self._channels[path].tensor[adapter] = chosen

    def tensors(self) -> Sequence[Owned]:
        """Scales and channels of every module."""
        found = []
        for path, scale in self._scales.items():
            channels = self._channels[path].tensor
            found.append(Owned(f"{path}/scale", scale[SLOT], is_update=True))
            found.append(Owned(f"{path}/channels", channels, 0 if channels.ndim == 2 else None))
        return found

    def refresh(self) -> None:
        """Take the channels of W0 as they are chosen now."""
        for path, image in self._images.items():
            image.tensor.copy_(self._image(path))


def _selection(channels: Tensor, count: int) -> Tensor:
    """Return rows with a 1 at each channel, shape (n, k, count)."""
    return nn.functional.one_hot(channels, count).float()
