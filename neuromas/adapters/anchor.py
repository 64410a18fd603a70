"""Pulls adapters towards a snapshot of themselves, or towards the base."""

from __future__ import annotations

import torch
from torch import Tensor

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.families.map import Owned
from neuromas.adapters.source import Pull


class Anchor:
    """The adapters of a pull as they are now; the penalty is their squared distance from it.

    By "parameters" the distance is that of the trained tensors (such as the factors A and B), summed over modules and
    adapters: L2-SP, arXiv:1802.01483, applied to adapters, and of what they share. Under an isometry (Uni-LoRA) it
    equals the distance of the stacked pairs.

    By "update" it is ||s B A - s B0 A0||_F^2, the distance of the layers' weights, from r x r products alone: it does
    not change with what A and B can trade between them (M^-1 A, B M). This is the penalty of the full model's
    parameters in arXiv:2602.08239, with its linearization around the anchor.
    """

    def __init__(self, bank: AdapterBank, pull: Pull) -> None:
        """Take the snapshot, on the device of this moment: the model may move to another before the first step.

        Raises:
            AdapterError: a name is not in the bank.
        """
        self._bank, self._pull = bank, pull
        self._index = torch.tensor([bank.index(name) for name in pull.names], dtype=torch.int64)
        self._start: list[Tensor] = []
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        if pull.by == "parameters":
            self._start = [self._slices(owned, owned.tensor.detach()).clone() for owned in bank.trained()]
        elif pull.to == "start":
            with torch.no_grad():
                self._pairs = {path: (a.clone(), b.clone()) for path, a, b in bank.pairs(self._index)}

    def penalty(self) -> Tensor:
        """Return the squared distance, a differentiable scalar; its gradient is zero for all other adapters' own."""
        if self._pull.by == "parameters":
            terms = [
                (self._slices(owned, owned.tensor) - start.to(owned.tensor.device)).square().sum()
                for owned, start in zip(self._bank.trained(), self._start, strict=True)
            ]
        else:
            terms = [self._update_distance(path, a, b) for path, a, b in self._bank.pairs(self._index)]
        return torch.stack(terms).sum()

    def _update_distance(self, path: str, a: Tensor, b: Tensor) -> Tensor:
        if path in self._pairs:  # B A - B0 A0 is the product of the factors side by side
            start_a, start_b = (start.to(a.device) for start in self._pairs[path])
            a, b = torch.cat([a, start_a], dim=1), torch.cat([b, -start_b], dim=2)
        return ((b.mT @ b) * (a @ a.mT)).sum()

    @torch.no_grad()
    def add_gradient_(self) -> None:
        """Add the gradient of ``weight * penalty()`` to the parameters' gradients, which must be those of the loss.

        To be called once per optimizer step, whatever the number of backward passes in it. A selective pull leaves out
        the groups in which it would raise the loss to first order, <loss gradient, penalty gradient> < 0: the selective
        rule of arXiv:2602.08239, which tests <loss gradient, displacement>, for any distance.
        """
        trained = self._bank.trained()
        with torch.enable_grad():
            found = torch.autograd.grad(self.penalty(), [owned.tensor for owned in trained], allow_unused=True)
        pulls: list[tuple[Owned, Tensor, Tensor]] = []
        groups = self._bank.groups
        agreement = torch.zeros(len(groups), device=trained[0].tensor.device)
        for owned, pull in zip(trained, found, strict=True):
            if pull is None:
                continue
            if owned.tensor.grad is None:
                owned.tensor.grad = torch.zeros_like(owned.tensor)
            rows, pulled = owned.rows(owned.tensor.grad), owned.rows(pull)
            agreement.index_add_(0, owned.positions(groups), (rows * pulled).flatten(1).sum(1))
            pulls.append((owned, rows, pulled))
        factors = torch.full_like(agreement, self._pull.weight)
        if self._pull.is_selective:
            factors *= agreement >= 0
        for owned, rows, pulled in pulls:
            rows.add_(pulled * factors[owned.positions(groups)].view(-1, *[1] * (rows.ndim - 1)))

    def _slices(self, owned: Owned, tensor: Tensor) -> Tensor:
        rows = owned.rows(tensor)
        if owned.dim is None:  # what others share is left alone
            ours = owned.members is None or not set(owned.members).isdisjoint(self._index.tolist())
            return rows if ours else rows[:0]
        found = [row for adapter in self._index.tolist() if (row := owned.row_of(adapter)) is not None]
        return rows.index_select(0, torch.tensor(found, dtype=torch.int64, device=rows.device))
