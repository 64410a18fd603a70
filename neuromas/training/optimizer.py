"""AdamW over stacked adapters with one life per adapter: own step count, own freeze, own moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from neuromas.adapters.families.map import Owned
from neuromas.training.restored import restore

MOMENTS = ("exp_avg", "exp_avg_sq")
_UNFIT = "another adapter type, size or set of targets"


class NodeAdamW(torch.optim.Optimizer):
    """AdamW (arXiv:1711.05101, algorithm 2) that treats each adapter of a stack as parameters of its own.

    Its groups are those of ``AdapterBank.groups``: the adapters, and what they share. A group that is not
    active in a step is left exactly as it is: neither stale momentum nor weight decay moves it, and its step count does
    not advance. Where all are active the result is that of ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        trained: Sequence[Owned],
        groups: Sequence[str],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        eps: float = 1e-8,
    ) -> None:
        self._trained = tuple(trained)
        self.groups = tuple(groups)
        self._positions = [owned.positions(groups) for owned in trained]
        device = self._trained[0].tensor.device
        self.counts = torch.zeros(len(groups), dtype=torch.float32, device=device)
        self.active = torch.ones(len(groups), dtype=torch.bool, device=device)
        self.held: Mapping[Tensor, Tensor] = {}
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__([owned.tensor for owned in trained], defaults)
        for owned in self._trained:
            self.state[owned.tensor] = {moment: torch.zeros_like(owned.tensor) for moment in MOMENTS}

    def set_active(self, active: Tensor, held: Mapping[Tensor, Tensor] | None = None) -> None:
        """Choose what the next steps move.

        Args:
            active: the groups, shape (groups,), bool.
            held: of some trained tensors, which rows of an active adapter stay as they are all the same: bool, shape
                (adapters, rows). Their moments stay, too; their step count is that of their adapter.
        """
        self.active = active.to(self.counts.device, torch.bool)
        self.held = held or {}

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the active groups by one step along their gradients."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        self.counts += self.active
        counts = self.counts.clamp(min=1)
        every = bool(self.active.all())
        step_size = group["lr"] / (1 - beta1**counts)
        root = (1 - beta2**counts).sqrt()
        for owned, place in zip(self._trained, self._positions, strict=True):
            if owned.tensor.grad is None:
                continue
            state, size, divisor, moved = self.state[owned.tensor], step_size[place], root[place], self.active[place]
            chosen = slice(None) if every else moved
            row, gradient = owned.rows(owned.tensor), owned.rows(owned.tensor.grad)[chosen]
            mean, square = owned.rows(state["exp_avg"]), owned.rows(state["exp_avg_sq"])
            shape = (-1, *[1] * (row.ndim - 1))
            new_mean = mean[chosen].lerp(gradient, 1 - beta1)
            new_square = square[chosen].mul(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = new_square.sqrt().div_(divisor[chosen].view(shape)).add_(group["eps"])
            kept = row[chosen] * (1 - group["lr"] * group["weight_decay"])
            new_row = kept - size[chosen].view(shape) * new_mean / scale
            held = self.held.get(owned.tensor)
            for old, new in ((row, new_row), (mean, new_mean), (square, new_square)):
                if held is None:
                    old[chosen] = new
                else:
                    still = held[chosen].view(*new.shape[:2], *[1] * (new.ndim - 2))
                    old[chosen] = torch.where(still, old[chosen], new)
        return loss

    def export(self, groups: Sequence[str] | None = None) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return the moments by ``<group>/<tensor>/<moment>`` and the step count by group, as CPU copies."""
        chosen = self.groups if groups is None else tuple(groups)
        tensors = {
            f"{name}/{key}": moment.to("cpu").clone(memory_format=torch.contiguous_format)
            for name in chosen
            for key, moment in self._moments(name)
        }
        counts = self.counts.tolist()
        return tensors, {name: int(counts[self.groups.index(name)]) for name in chosen}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Take over the moments of the groups named in ``counts``; the others keep theirs.

        Raises:
            CheckpointError: a moment is missing or has another shape.
        """
        for name, count in counts.items():
            for key, target in self._moments(name):
                restore(target, "optimizer state", f"{name}/{key}", tensors, _UNFIT)
            self.counts[self.groups.index(name)] = count

    def _moments(self, group: str) -> Iterator[tuple[str, Tensor]]:
        """Yield views of the moments of one group by ``<tensor>/<moment>``."""
        position = self.groups.index(group)
        for owned in self._trained:
            row = owned.row_of(position)
            if owned.dim is None and owned.owner == group:
                row = 0
            if row is not None:
                for moment in MOMENTS:
                    yield f"{owned.key}/{moment}", owned.rows(self.state[owned.tensor][moment])[row]

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and counts under the names of ``export``."""
        tensors, counts = self.export()
        return {"moments": tensors, "counts": counts, "param_groups": []}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.restore(state_dict["moments"], state_dict["counts"])
