"""Budget: which parts of the adapters train, where their kind lets only a share of them.

Adaptive subspace allocation of AdaMSS (OpenReview 8ZdWmpYxT0), with the importance of AdaLoRA (arXiv:2303.10512,
equations 8 to 10): of an entry w with gradient g it is I U, with the exponential means I of |w g| and U of ||w g| - I|;
of a part, the mean over its entries, summed over its tensors. Departures: one budget for all adapters of a kind instead
of one model; parts that are held still go on being weighed and may come back; the means are slower and go on through
the stage, since a policy gradient is noisy; and the schedule is in shares of the stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.families.map import Owned, Parts
from neuromas.training.restored import restore

DECAY: Final = 0.95
"""Of both exponential means: they look back about twenty steps."""
FIRST, LAST = 0.2, 0.5
"""Shares of a stage's steps between which the number of parts that train falls to the budget."""
CHOICES: Final = 20
"""Choices in a stage, evenly spread."""
MEANS: Final = ("sensitivity", "uncertainty")
"""Names of the exponential means, as a checkpoint holds them."""


def parts_that_train(total: int, budget: float, step: int, steps: int) -> int:
    """Return how many parts train in optimizer step ``step`` (from 0) of a stage of ``steps``.

    The excess over the budget falls with the cube of the way that is left (AdaLoRA, equation 12).
    """
    kept = max(1, round(budget * total))
    way = (step / steps - FIRST) / (LAST - FIRST)
    return kept + math.ceil((total - kept) * (1 - min(max(way, 0.0), 1.0)) ** 3)


@dataclass(frozen=True, slots=True)
class _Kind:
    """The parts of one kind of adapters.

    Attributes:
        members: its adapters in the model.
        budget: share of its parts that trains in the end.
        held: by layer, which parts of each adapter are held still, bool, shape (adapters of the kind, parts).
    """

    members: tuple[int, ...]
    budget: float
    held: dict[str, Tensor] = field(default_factory=dict)


class Budget:
    """Weighs the parts of all adapters of a model, and holds still those that matter least. Costs nothing without any.

    Every stage begins with all parts training and nothing weighed.
    """

    def __init__(self, bank: AdapterBank, steps: int) -> None:
        """Begin a stage of at most ``steps`` optimizer steps, with the bank's model on its device."""
        self._bank, self._steps = bank, steps
        self._every = max(1, steps // CHOICES)
        self._means: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}
        self._kinds: dict[str, _Kind] = {}
        for owned, parts in self._divided():
            rows = owned.rows(owned.tensor.detach())
            self._means[owned.group, owned.key] = (torch.zeros_like(rows), torch.zeros_like(rows))
            kind = self._kinds.setdefault(owned.group, _Kind(_members(owned, rows), parts.budget))
            kind.held[parts.layer] = torch.zeros(len(rows), parts.count, dtype=torch.bool, device=rows.device)

    def weigh(self, step: int, in_use: Tensor, free: Tensor) -> None:
        """Take in the gradients of the loss, and choose anew where a choice is due.

        Args:
            step: optimizer steps done in the stage.
            in_use: which adapters made a call in the step, shape (adapters,), bool; the others are not weighed.
            free: which adapters may move in it; the budget is shared among these.
        """
        for owned, _ in self._divided():
            if owned.tensor.grad is not None:
                self._weigh(owned, owned.rows(owned.tensor.grad), in_use)
        if step >= FIRST * self._steps and step % self._every == 0:
            for group in self._kinds:
                self._choose(group, step, free)

    def hold_(self) -> dict[Tensor, Tensor]:
        """Clear the gradients of what is held still.

        Returns:
            of every tensor with parts, which rows are held still: bool, shape (adapters of the kind, rows).
        """
        masks = {}
        for owned, parts in self._divided():
            held = masks[owned.tensor] = self._kinds[owned.group].held[parts.layer][:, parts.of_row]
            if owned.tensor.grad is not None:
                rows = owned.rows(owned.tensor.grad)
                rows.masked_fill_(_like(held, rows), 0.0)
        return masks

    def shares(self) -> dict[str, float]:
        """Return the share of each adapter's parts that trains, by its name; of kinds without a budget nothing."""
        shares: dict[str, float] = {}
        for kind in self._kinds.values():
            training = 1 - torch.cat(list(kind.held.values()), dim=1).double().mean(1)
            shares |= {self._bank.names[k]: share for k, share in zip(kind.members, training.tolist(), strict=True)}
        return shares

    def export(self) -> dict[str, Tensor]:
        """Return what a resumed stage needs, by ``<adapter>/<tensor>/<mean>`` and ``<adapter>/<layer>/held``."""
        return {key: value.to("cpu").clone() for key, value in self._state()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what ``export`` returned.

        Raises:
            CheckpointError: something is missing or has another shape.
        """
        for key, target in self._state():
            restore(target, "budget", key, tensors, "a run without a budget, or of another size")

    def _divided(self) -> Iterator[tuple[Owned, Parts]]:
        return ((owned, owned.parts) for owned in self._bank.stacks() if owned.parts is not None)

    def _weigh(self, owned: Owned, gradient: Tensor, in_use: Tensor) -> None:
        found = (owned.rows(owned.tensor.detach()) * gradient).abs()
        sensitivity, uncertainty = self._means[owned.group, owned.key]
        weight = (1 - DECAY) * in_use[list(_members(owned, found))].to(found.device, found.dtype)
        uncertainty.lerp_((found - sensitivity).abs(), _like(weight, found))
        sensitivity.lerp_(found, _like(weight, found))

    def _choose(self, group: str, step: int, free: Tensor) -> None:
        """Let the most important parts of a kind train, as many as the step allows; the rest is held still."""
        kind, importance = self._kinds[group], self._importance(group)
        chosen = free[list(kind.members)].to(importance.device)
        order = importance[chosen].flatten().argsort(descending=True, stable=True)
        if not len(order):
            return
        held = torch.ones_like(order, dtype=torch.bool)
        held[order[: parts_that_train(len(order), kind.budget, step, self._steps)]] = False
        counts = [own.shape[1] for own in kind.held.values()]
        by_layer = torch.split(held.view(-1, importance.shape[1]), counts, dim=1)
        for own, now in zip(kind.held.values(), by_layer, strict=True):
            own[chosen] = now

    def _importance(self, group: str) -> Tensor:
        """Return the importance of every part of a kind, shape (adapters of the kind, parts of all layers)."""
        found = {layer: torch.zeros_like(held, dtype=torch.float32) for layer, held in self._kinds[group].held.items()}
        for owned, parts in self._divided():
            if owned.group == group:
                sensitivity, uncertainty = self._means[owned.group, owned.key]
                of_rows = (sensitivity * uncertainty).flatten(2).mean(2)
                sums = torch.zeros_like(found[parts.layer]).index_add_(1, parts.of_row, of_rows)
                found[parts.layer] += sums / torch.bincount(parts.of_row, minlength=parts.count)
        return torch.cat(list(found.values()), dim=1)

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """Yield views of all that is kept, by its key in a checkpoint."""
        for owned, _ in self._divided():
            for name, mean in zip(MEANS, self._means[owned.group, owned.key], strict=True):
                for k, row in zip(_members(owned, mean), mean, strict=True):
                    yield f"{self._bank.names[k]}/{owned.key}/{name}", row
        for kind in self._kinds.values():
            for layer, held in kind.held.items():
                for k, row in zip(kind.members, held, strict=True):
                    yield f"{self._bank.names[k]}/{layer}/held", row


def _members(owned: Owned, rows: Tensor) -> tuple[int, ...]:
    """Return the adapters of the model that rows of a tensor stand for."""
    return tuple(range(len(rows))) if owned.members is None else owned.members


def _like(of_rows: Tensor, tensor: Tensor) -> Tensor:
    """Return values of leading dimensions with as many dimensions as a tensor."""
    return of_rows.view(*of_rows.shape, *[1] * (tensor.ndim - of_rows.ndim))
