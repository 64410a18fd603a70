"""Pulls adapters towards a snapshot of themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from neuromas.adapters.bank import AdapterBank


class Anchor:
    """The named adapters as they are now; the penalty is their squared distance from it.

    Distance is that of the trained tensors (factors A and B, or theta), summed over modules and adapters: L2-SP,
    arXiv:1802.01483, applied to adapters. For Uni-LoRA it equals the distance of the stacked pairs.
    """

    def __init__(self, bank: AdapterBank, names: Iterable[str]) -> None:
        """Take the snapshot.

        Raises:
            AdapterError: a name is not in the bank.
        """
        self._bank = bank
        self._index = torch.tensor([bank.index(name) for name in names], dtype=torch.int64)
        self._start = {stack.key: self._slices(stack.rows(stack.parameter.detach())) for stack in bank.stacks()}

    def penalty(self) -> Tensor:
        """Return the squared distance, a differentiable scalar; its gradient is zero for all other adapters."""
        terms = [
            (self._slices(stack.rows(stack.parameter)) - self._start[stack.key]).square().sum()
            for stack in self._bank.stacks()
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def add_gradient_(self, weight: float) -> None:
        """Add the gradient of ``weight * penalty()`` to the parameters' gradients.

        To be called once per optimizer step, whatever the number of backward passes in it.
        """
        for stack in self._bank.stacks():
            if stack.parameter.grad is None:
                stack.parameter.grad = torch.zeros_like(stack.parameter)
            rows = stack.rows(stack.parameter)
            index = self._index.to(rows.device)
            drift = self._slices(rows) - self._start[stack.key]
            stack.rows(stack.parameter.grad).index_add_(0, index, drift, alpha=2 * weight)

    def _slices(self, rows: Tensor) -> Tensor:
        return rows.index_select(0, self._index.to(rows.device))
