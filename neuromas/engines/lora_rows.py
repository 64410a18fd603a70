"""Many plain LoRAs on one torch model, each row of the batch served by the adapter of its own slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import AdapterError


class LoraRows:
    """Stacked A and B of every module that any adapter touches, added to the outputs of the model's linear layers."""

    NONE = -1
    """Slot of a row that the bare base serves."""

    def __init__(self, model: nn.Module, num_slots: int, max_rank: int) -> None:
        self._num_slots = num_slots
        self._max_rank = max_rank
        self._linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
        self._stacks: dict[str, tuple[Tensor, Tensor]] = {}
        self._hooks: list[RemovableHandle] = []
        self._routes: _Routes | None = None

    def check(self, ref: AdapterRef, lora: PlainLora) -> None:
        """Refuse an adapter whose modules are not linear layers of the model, or have other shapes.

        Raises:
            AdapterError: says which module.
        """
        for path, (a, b) in lora.modules.items():
            linear = self._linears.get(path)
            if linear is None:
                raise AdapterError(f"adapter {ref}: the base has no linear layer {path!r}")
            if (a.shape[1], b.shape[0]) != (linear.in_features, linear.out_features):
                raise AdapterError(
                    f"adapter {ref}: {path} maps {a.shape[1]} to {b.shape[0]} features, "
                    f"the base's layer {linear.in_features} to {linear.out_features}"
                )

    def load(self, slot: int, lora: PlainLora) -> None:
        """Put an adapter into a slot; what was there is overwritten."""
        for stack_a, stack_b in self._stacks.values():
            stack_a[slot], stack_b[slot] = 0.0, 0.0
        for path, (a, b) in lora.modules.items():
            stack_a, stack_b = self._stack(path)
            stack_a[slot, : lora.rank] = torch.as_tensor(a)
            stack_b[slot, :, : lora.rank] = torch.as_tensor(b)

    @contextmanager
    def routed(self, slots: Tensor) -> Iterator[None]:
        """Serve row i of every forward inside the block by ``slots[i]``."""
        # One adapter of zeros behind the real slots serves the bare base.
        self._routes = _Routes.of(slots.where(slots >= 0, self._num_slots)) if bool((slots >= 0).any()) else None
        try:
            yield
        finally:
            self._routes = None

    def remove(self) -> None:
        """Take all adapters off the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._stacks.clear()

    def _stack(self, path: str) -> tuple[Tensor, Tensor]:
        if path not in self._stacks:
            linear = self._linears[path]
            shape_a = (self._num_slots + 1, self._max_rank, linear.in_features)
            shape_b = (self._num_slots + 1, linear.out_features, self._max_rank)
            self._stacks[path] = linear.weight.new_zeros(shape_a), linear.weight.new_zeros(shape_b)
            self._hooks.append(linear.register_forward_hook(self._hook(path)))
        return self._stacks[path]

    def _hook(self, path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if self._routes is None:
                return output
            stack_a, stack_b = (stack[self._routes.slots].transpose(1, 2) for stack in self._stacks[path])
            grouped = self._routes.group(inputs[0])
            return output + self._routes.ungroup(torch.bmm(torch.bmm(grouped, stack_a), stack_b), output.shape)

        return add


@dataclass(frozen=True, slots=True, eq=False)
class _Routes:
    """The rows of a batch by the slot that serves them, so that each slot takes one product and not one a row.

    Attributes:
        slots: in use, ascending, shape (used,).
        members: rows of each slot, filled up with row 0 to the same number, shape (used, most).
        places: where each row stands in ``members``, counted row by row, shape (rows,).
    """

    slots: Tensor
    members: Tensor
    places: Tensor

    @classmethod
    def of(cls, slots: Tensor) -> _Routes:
        """Return the routes of rows by their slots, shape (rows,)."""
        used, of_row, counts = torch.unique(slots, return_inverse=True, return_counts=True)
        order = of_row.argsort(stable=True)
        most = int(counts.max())
        places = torch.empty_like(order)
        rank = torch.arange(len(order), device=slots.device) - (counts.cumsum(0) - counts)[of_row[order]]
        places[order] = of_row[order] * most + rank
        members = torch.zeros(len(used) * most, dtype=torch.long, device=slots.device)
        members[places] = torch.arange(len(order), device=slots.device)
        return cls(used, members.view(len(used), most), places)

    def group(self, inputs: Tensor) -> Tensor:
        """Return inputs of shape (rows, tokens, features) as (used, most * tokens, features)."""
        if len(self.slots) == 1:
            return inputs.reshape(1, -1, inputs.shape[-1])
        return inputs[self.members].flatten(1, 2)

    def ungroup(self, outputs: Tensor, shape: torch.Size) -> Tensor:
        """Return outputs of shape (used, most * tokens, features) as ``shape``, (rows, tokens, features)."""
        if len(self.slots) == 1:
            return outputs.view(shape)
        return outputs.view(-1, *shape[1:])[self.places]
