"""The map of a family: trained tensors of all adapters of a model -> the low-rank pair (A, B) of each module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuromas.adapters.directions import LayerStatistics, StartNeeds
from neuromas.adapters.families.contract import SHARED, ModuleShape

SLOT = "default"
"""Name of the one PEFT adapter that holds all node adapters; TRL and PEFT look for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts that an adapter's rows of a tensor belong to; all parts of a kind compete for what may train in the end.

    Attributes:
        layer: path of the module whose update they are parts of.
        of_row: the part of each row, the tensor's dimension after that of adapters; int64, shape (rows,).
        count: parts of each adapter on the layer.
        budget: share of the parts of all layers and adapters of the kind that may train in the end, in (0, 1).
    """

    layer: str
    of_row: Tensor
    count: int
    budget: float


@dataclass(frozen=True, slots=True)
class Owned:
    """One tensor that adapters are made of, and whose it is.

    Attributes:
        key: its name within an adapter's state (``model.layers.0.self_attn.q_proj/A``, ``theta``).
        tensor: float32 where trained; a parameter then, else a buffer.
        dim: its dimension that counts adapters; None = all adapters share the tensor.
        is_update: whether zeroing the tensor makes the adapter act as the base.
        members: adapters of the model that its rows stand for, in stacking order; None = all.
        group: node group of those adapters; empty = the usual kind of the run.
        parts: what its rows are parts of; None where they train as one.
    """

    key: str
    tensor: Tensor
    dim: int | None = 0
    is_update: bool = False
    members: tuple[int, ...] | None = None
    group: str = ""
    parts: Parts | None = None

    @property
    def owner(self) -> str:
        """Name under which a shared tensor is stored, and of the group that it is clipped and stepped in."""
        return f"{SHARED}:{self.group}" if self.group else SHARED

    @property
    def is_trained(self) -> bool:
        """Whether training moves it; what stays is stored with the adapter all the same."""
        return isinstance(self.tensor, nn.Parameter)

    def rows(self, tensor: Tensor) -> Tensor:
        """Return ``tensor`` (the value, gradient or moment of this one) viewed with adapters first, or one row."""
        return tensor[None] if self.dim is None else tensor.movedim(self.dim, 0)

    def row_of(self, adapter: int) -> int | None:
        """Return which row is that of an adapter of the model; None where it has none."""
        if self.dim is None:
            return None
        if self.members is None:
            return adapter if adapter < self.tensor.shape[self.dim] else None
        return self.members.index(adapter) if adapter in self.members else None

    def positions(self, groups: Sequence[str]) -> Tensor:
        """Return which of ``groups`` (``AdapterBank.groups``) the rows stand for, int64, shape (rows,)."""
        if self.dim is None:
            found: Sequence[int] = [groups.index(self.owner)]
        else:
            found = range(self.rows(self.tensor).shape[0]) if self.members is None else self.members
        return torch.tensor(found, device=self.tensor.device)


class Fixed(nn.Module):
    """A tensor that training leaves alone: a buffer that moves between devices and is saved with the model."""

    tensor: Tensor

    def __init__(self, tensor: Tensor, *, is_derived: bool = False) -> None:
        """Hold the tensor; a derived one is not saved."""
        super().__init__()
        self.register_buffer("tensor", tensor, persistent=not is_derived)


class AdapterMap(ABC):
    """theta -> {(A_m, B_m)}, for all adapters of a model at once.

    A map is evaluated lazily: each layer asks for its own pair inside its forward pass. One big tensor sliced per
    module would make every slice's backward allocate the whole of it.

    Attributes:
        names: of the adapters, in stacking order.
        rank: common rank r of all pairs.
    """

    def __init__(self, names: Sequence[str], rank: int) -> None:
        self.names = tuple(names)
        self.rank = rank
        self._shapes: dict[str, ModuleShape] = {}

    @property
    def num_adapters(self) -> int:
        """Number of adapters in the stacks."""
        return len(self.names)

    def located(self, adapter: int) -> tuple[AdapterMap, int]:
        """Return the map of an adapter's family, and its position there: in this one, unless families are mixed."""
        return self, adapter

    def adapts(self, path: str) -> bool:
        """Whether the module is one that was added."""
        return path in self._shapes

    def modules(self) -> Sequence[ModuleShape]:
        """Modules in the order in which they were added."""
        return tuple(self._shapes.values())

    def add_module(self, path: str, linear: nn.Linear) -> Mapping[str, nn.Module]:
        """Make room for one module; returns what its layer must own, by attribute name.

        Args:
            path: of the module in the base.
            linear: the base's layer; its weight W0 may be read, and must be left as it is.
        """
        shape = self._shapes[path] = ModuleShape(path, linear.in_features, linear.out_features)
        return self._make(shape, linear)

    @abstractmethod
    def _make(self, shape: ModuleShape, linear: nn.Linear) -> Mapping[str, nn.Module]:
        """Create what ``add_module`` returns, at the start of every adapter."""

    def finish(self, device: torch.device) -> Mapping[str, nn.Module]:
        """Called once after the last module; returns what the root of the model must own, by attribute name."""
        return {}

    @abstractmethod
    def pair(self, path: str, present: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return A (present, r, in) and B (present, out, r) of a module, float32 and differentiable.

        Args:
            path: the module.
            present: indices of the adapters wanted, shape (present,); None = all.
        """

    @abstractmethod
    def tensors(self) -> Sequence[Owned]:
        """Return all that is kept of the adapters; the trained ones are every trainable parameter of the model."""

    def constants(self) -> Mapping[str, Tensor]:
        """Numbers that an adapter's state is meaningless without (a projection's seed); checked on load."""
        return {}

    def refresh(self) -> None:  # noqa: B027 - most maps derive nothing
        """Compute anew what is derived from fixed tensors; called after they were loaded."""


class DataStartedMap(AdapterMap):
    """A map whose new adapters may start from what their nodes read and write in rollouts."""

    @abstractmethod
    def start_needs(self, *, from_inputs: bool) -> StartNeeds | None:
        """Return what a new adapter starts from beside base and seed; None = nothing, it has its start.

        Args:
            from_inputs: whether growth asks for a start from the inputs that the node gets, whatever the family's own.
        """

    @abstractmethod
    def start(self, adapter: int, found: Mapping[str, LayerStatistics]) -> None:
        """Give a new adapter its start from what was found; its update stays zero. ``refresh`` is to be called after.

        Args:
            adapter: its position in the stacks.
            found: of each of its layers, by path, what ``start_needs`` asked for.
        """


class AnyPairMap(AdapterMap):
    """A map whose adapters can act as any pairs."""

    @abstractmethod
    def take(self, adapter: int, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Make a new adapter act as given pairs; layers that are not among them keep their start.

        Args:
            adapter: its position in the stacks.
            pairs: A (r, in) and B (out, r), unscaled, by path of the layer; r is at most ``rank``.

        Raises:
            AdapterError: a layer of the base has another shape.
        """


def trained(tensor: Tensor) -> nn.ParameterDict:
    """Return a parameter in the form in which PEFT finds it."""
    return nn.ParameterDict({SLOT: nn.Parameter(tensor)})


def of_present(stack: Tensor, present: Tensor | None) -> Tensor:
    """Return the rows of a stack (adapters first) of the adapters present."""
    return stack if present is None else stack.index_select(0, present)
