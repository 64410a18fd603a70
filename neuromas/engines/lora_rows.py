"""Many plain LoRAs on one torch model, each row of the batch served by the adapter of its own slot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
        self._slots: Tensor | None = None

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
        # One row of zeros behind the real slots serves the bare base.
        self._slots = slots.where(slots >= 0, self._num_slots)
        try:
            yield
        finally:
            self._slots = None

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
            if self._slots is None:
                return output
            stack_a, stack_b = self._stacks[path]
            low = torch.bmm(inputs[0], stack_a[self._slots].transpose(1, 2))
            return output + torch.bmm(low, stack_b[self._slots].transpose(1, 2))

        return add
