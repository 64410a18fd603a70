"""AdamW over stacked adapters with one life per adapter: own step count, own freeze, own moments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from neuromas.adapters.maps.contract import Stack
from neuromas.errors import CheckpointError

MOMENTS = ("exp_avg", "exp_avg_sq")


class NodeAdamW(torch.optim.Optimizer):
    """AdamW (arXiv:1711.05101, algorithm 2) that treats each adapter of a stack as parameters of its own.

    An adapter that is not active in a step is left exactly as it is: neither stale momentum nor weight decay moves it,
    and its step count does not advance. Where all are active the result is that of ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        stacks: Sequence[Stack],
        names: Sequence[str],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        eps: float = 1e-8,
    ) -> None:
        self._stacks = tuple(stacks)
        self._names = tuple(names)
        device = self._stacks[0].parameter.device
        self.counts = torch.zeros(len(names), dtype=torch.float32, device=device)
        self.active = torch.ones(len(names), dtype=torch.bool, device=device)
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__([stack.parameter for stack in stacks], defaults)
        for stack in self._stacks:
            self.state[stack.parameter] = {moment: torch.zeros_like(stack.parameter) for moment in MOMENTS}

    def set_active(self, active: Tensor) -> None:
        """Choose the adapters that the next steps move, shape (adapters,), bool."""
        self.active = active.to(self.counts.device, torch.bool)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the active adapters by one step along their gradients."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        group = self.param_groups[0]
        beta1, beta2 = group["betas"]
        self.counts += self.active
        counts = self.counts.clamp(min=1)
        every = bool(self.active.all())
        step_size = group["lr"] / (1 - beta1**counts)
        root = (1 - beta2**counts).sqrt()
        for stack in self._stacks:
            if stack.parameter.grad is None:
                continue
            state = self.state[stack.parameter]
            chosen = slice(None) if every else self.active
            row, gradient = stack.rows(stack.parameter), stack.rows(stack.parameter.grad)[chosen]
            mean, square = stack.rows(state["exp_avg"]), stack.rows(state["exp_avg_sq"])
            shape = (-1, *[1] * (row.ndim - 1))
            new_mean = mean[chosen].lerp(gradient, 1 - beta1)
            new_square = square[chosen].mul(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = new_square.sqrt().div_(root[chosen].view(shape)).add_(group["eps"])
            kept = row[chosen] * (1 - group["lr"] * group["weight_decay"])
            row[chosen] = kept - step_size[chosen].view(shape) * new_mean / scale
            mean[chosen], square[chosen] = new_mean, new_square
        return loss

    def export(self, names: Sequence[str] | None = None) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Return the moments by ``<adapter>/<tensor>/<moment>`` and the step count by adapter, as CPU copies."""
        tensors: dict[str, Tensor] = {}
        chosen = self._names if names is None else tuple(names)
        for stack in self._stacks:
            for moment in MOMENTS:
                rows = stack.rows(self.state[stack.parameter][moment]).to("cpu")
                for name in chosen:
                    copy = rows[self._names.index(name)].clone(memory_format=torch.contiguous_format)
                    tensors[f"{name}/{stack.key}/{moment}"] = copy
        counts = self.counts.tolist()
        return tensors, {name: int(counts[self._names.index(name)]) for name in chosen}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Take over the moments of the adapters named in ``counts``; the others keep theirs.

        Raises:
            CheckpointError: a moment is missing or has another shape.
        """
        for name, count in counts.items():
            index = self._names.index(name)
            for stack in self._stacks:
                for moment in MOMENTS:
                    key = f"{name}/{stack.key}/{moment}"
                    target = stack.rows(self.state[stack.parameter][moment])[index]
                    given = tensors.get(key)
                    if given is None or given.shape != target.shape:
                        got = "nothing" if given is None else f"shape {tuple(given.shape)}"
                        raise CheckpointError(
                            f"optimizer state: {key} is {got}, expected shape {tuple(target.shape)}; the checkpoint "
                            "belongs to another adapter type, rank or set of targets"
                        )
                    target.copy_(given)
            self.counts[index] = count

    def state_dict(self) -> dict[str, Any]:
        """Return the moments and counts under the names of ``export``."""
        tensors, counts = self.export()
        return {"moments": tensors, "counts": counts, "param_groups": []}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.restore(state_dict["moments"], state_dict["counts"])
