"""theta_v = mean + M g(e_v) (+ own_v): one small network g for all adapters. Source of the idea: arXiv:2112.00914.

e_v is the adapter's position in its graph when it was made, and a trained part of its own. g has two layers of width h
with tanh. M (d, h) and the mean start at zero, so every adapter of a new graph starts as the base, and both have a
gradient. theta_v is spread over the pairs as in Uni-LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from neuromas.adapters.families.hyper.spec import FEATURES, HyperSpec
from neuromas.adapters.families.map import SLOT, Fixed, Owned, of_present, trained
from neuromas.adapters.families.unilora.map import UniLoraMap
from neuromas.adapters.initial import stream
from neuromas.adapters.position import AdapterPosition


class HyperMap(UniLoraMap):
    """Shared: mean (d,), M (d, h), the layers of g. Of each adapter: place (5), embedding (e), and own vector (d)."""

    def __init__(self, positions: Sequence[AdapterPosition], spec: HyperSpec, seed: int) -> None:
        super().__init__([position.name for position in positions], spec.rank, spec.dimension, seed)
        self._positions = tuple(positions)
        self._spec = spec
        self._network: dict[str, nn.ParameterDict] = {}
        self._embedding = nn.ParameterDict()
        self._own = nn.ParameterDict()
        self._position: Fixed | None = None

    def _make_vectors(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Draw g and the embeddings; each depends on the seed and the adapter's name alone."""
        d, h, inputs = self._dimension, self._spec.hidden, self._spec.embedding + FEATURES
        embeddings = [
            stream(self._seed, name, "embedding").standard_normal(self._spec.embedding) for name in self.names
        ]
        self._network = {
            "mean": trained(torch.zeros(d, device=device)),
            "basis": trained(torch.zeros(d, h, device=device)),
            "first": trained(self._layer("first", h, inputs).to(device)),
            "first_bias": trained(torch.zeros(h, device=device)),
            "second": trained(self._layer("second", h, h).to(device)),
            "second_bias": trained(torch.zeros(h, device=device)),
        }
        self._embedding = trained(torch.from_numpy(np.stack(embeddings).astype(np.float32)).to(device))
        self._position = Fixed(torch.tensor([features(position) for position in self._positions], device=device))
        owned: dict[str, nn.Module] = {f"neuromas_{name}": part for name, part in self._network.items()}
        owned |= {"neuromas_embedding": self._embedding, "neuromas_place": self._position}
        if self._spec.residual:
            self._own = trained(torch.zeros(d, self.num_adapters, device=device))
            owned["neuromas_own"] = self._own
        return owned

    def _layer(self, name: str, outputs: int, inputs: int) -> Tensor:
        drawn = stream(self._seed, "hyper", name).standard_normal((outputs, inputs)) / math.sqrt(inputs)
        return torch.from_numpy(drawn.astype(np.float32))

    def _vectors(self, present: Tensor | None) -> Tensor:
        assert self._position is not None, "pairs are asked for after finish()"
        net = {name: part[SLOT] for name, part in self._network.items()}
        inputs = of_present(torch.cat([self._position.tensor, self._embedding[SLOT]], dim=1), present)
        with torch.autocast(inputs.device.type, enabled=False):
            hidden = torch.tanh(inputs @ net["first"].mT + net["first_bias"])
            hidden = torch.tanh(hidden @ net["second"].mT + net["second_bias"])
            vectors: Tensor = net["mean"][:, None] + net["basis"] @ hidden.mT
        if not self._spec.residual:
            return vectors
        own: Tensor = self._own[SLOT]
        return vectors + (own if present is None else own.index_select(1, present))

    def tensors(self) -> Sequence[Owned]:
        """The network, and what each adapter has beside it."""
        assert self._position is not None, "tensors are asked for after finish()"
        found = [Owned(name, part[SLOT], None) for name, part in self._network.items()]
        found += [Owned("embedding", self._embedding[SLOT]), Owned("place", self._position.tensor)]
        return [*found, Owned("own", self._own[SLOT], 1)] if self._spec.residual else found


def features(position: AdapterPosition) -> list[float]:
    """Return a position as inputs of the network, each about between 0 and 3."""
    fans = [math.log1p(position.fan_in), math.log1p(position.fan_out)]
    return [position.depth, position.index, *fans, float(position.is_output)]
