"""Pulls adapters towards a snapshot of themselves."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.families.map import Owned


class Anchor:
    """The named adapters as they are now; the penalty is their squared distance from it.

    Distance is that of the trained tensors (such as the factors A and B), summed over modules and adapters: L2-SP,
    arXiv:1802.01483, applied to adapters, and of what they share. Under an isometry (Uni-LoRA) it equals the distance
    of the stacked pairs.
    """

    def __init__(self, bank: AdapterBank, names: Iterable[str]) -> None:
        """Take the snapshot.

        Raises:
            AdapterError: a name is not in the bank.
        """
        self._bank = bank
        self._index = torch.tensor([bank.index(name) for name in names], dtype=torch.int64)
        self._start = {owned.key: self._slices(owned, owned.tensor.detach()).clone() for owned in bank.trained()}

    def penalty(self) -> Tensor:
        """Return the squared distance, a differentiable scalar; its gradient is zero for all other adapters."""
        terms = [
            (self._slices(owned, owned.tensor) - self._start[owned.key]).square().sum()
            for owned in self._bank.trained()
        ]
        return torch.stack(terms).sum()

    @torch.no_grad()
    def add_gradient_(self, weight: float) -> None:
        """Add the gradient of ``weight * penalty()`` to the parameters' gradients.

        To be called once per optimizer step, whatever the number of backward passes in it.
        """
        for owned in self._bank.trained():
            if owned.tensor.grad is None:
                owned.tensor.grad = torch.zeros_like(owned.tensor)
            drift = self._slices(owned, owned.tensor) - self._start[owned.key]
            rows = owned.rows(owned.tensor.grad)
            index = torch.zeros(1, dtype=torch.int64) if owned.dim is None else self._index
            rows.index_add_(0, index.to(rows.device), drift, alpha=2 * weight)

    def _slices(self, owned: Owned, tensor: Tensor) -> Tensor:
        rows = owned.rows(tensor)
        return rows if owned.dim is None else rows.index_select(0, self._index.to(rows.device))
