"""What every adapter method offers: the pair (A, B) of a module, from parameters stacked over all adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

SLOT = "default"
"""Name of the one PEFT adapter that holds all node adapters; TRL and PEFT look for it."""


@dataclass(frozen=True, slots=True)
class ModuleShape:
    """A linear layer that carries adapters: its ``path`` in the base and its sizes."""

    path: str
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class Stack:
    """One trained tensor of all adapters.

    Attributes:
        key: name of the tensor within an adapter's state (``model.layers.0.self_attn.q_proj/A``, ``theta``).
        parameter: the stacked parameter, float32.
        dim: its dimension that counts adapters.
    """

    key: str
    parameter: nn.Parameter
    dim: int

    def rows(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` (a value, gradient or moment of the parameter) viewed with adapters first."""
        return tensor.movedim(self.dim, 0)


class AdapterMap(Protocol):
    """theta -> {(A_m, B_m)}, for all adapters of a model at once.

    A map is evaluated lazily: each layer asks for its own pair inside its forward pass. One big tensor sliced per
    module would make every slice's backward allocate the whole of it.
    """

    @property
    def num_adapters(self) -> int:
        """Number of adapters in the stacks."""
        ...

    @property
    def rank(self) -> int:
        """Common rank r of all pairs."""
        ...

    def add_module(self, shape: ModuleShape, device: torch.device) -> Mapping[str, nn.ParameterDict]:
        """Make room for one module; returns the parameters that its layer must own, by attribute name."""
        ...

    def finish(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Called once after the last module; returns what the root of the model must own, by attribute name."""
        ...

    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return A (present, r, in) and B (present, out, r) of a module, float32 and differentiable.

        Args:
            path: the module.
            present: indices of the adapters wanted, shape (present,); None = all.
        """
        ...

    def modules(self) -> Sequence[ModuleShape]:
        """Modules in the order in which they were added."""
        ...

    def stacks(self) -> Sequence[Stack]:
        """All trained tensors; together they are every trainable parameter of the model."""
        ...

    def constants(self) -> Mapping[str, Tensor]:
        """Numbers that an adapter's state is meaningless without (a projection's seed); checked on load."""
        ...
