"""An optimizer's state per adapter: its moments by name, and steps that leave frozen adapters alone.

The optimizers here are torch's own (``torch.optim.Optimizer``), not a wrapper around one. Adam keeps moments of the
shape of each stacked parameter, so they split by adapter as the parameters do; its step counter is one per stack. An
adapter that joins a stack late therefore gets no bias correction of its own: its first update is
(1 - beta1) / sqrt(1 - beta2) of the usual size (0.45 at betas 0.9 and 0.95) and grows to it in about 1 / (1 - beta1)
steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.maps.contract import Stack
from neuromas.errors import AdapterError


def moments(bank: AdapterBank, optimizer: Optimizer, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Return the optimizer's state of the named adapters (None = all), as copies on the CPU.

    Keys are ``<adapter>/<key>/<moment>`` (``a/theta/exp_avg``); counters are saved with each adapter. Empty before
    the first step.
    """
    chosen = bank.names if names is None else tuple(names)
    saved: dict[str, Tensor] = {}
    for stack in bank.stacks():
        for moment, value in optimizer.state.get(stack.parameter, {}).items():
            per_adapter = _rows(stack, value)
            for name in chosen:
                own = value if per_adapter is None else per_adapter[bank.index(name)]
                saved[f"{name}/{stack.key}/{moment}"] = own.detach().to("cpu", copy=True).contiguous()
    return saved


@torch.no_grad()
def load_moments(bank: AdapterBank, optimizer: Optimizer, name: str, saved: Mapping[str, Tensor]) -> None:
    """Set the optimizer's state of one adapter from ``saved``, which may hold other adapters too.

    Adapters that nothing is loaded for keep zero moments. Counters become the largest loaded.

    Raises:
        AdapterError: a moment's shape does not fit.
    """
    k = bank.index(name)
    for stack in bank.stacks():
        prefix = f"{name}/{stack.key}/"
        given = {key.removeprefix(prefix): value for key, value in saved.items() if key.startswith(prefix)}
        own_shape = stack.rows(stack.parameter)[k].shape
        state = optimizer.state[stack.parameter]
        for moment, value in given.items():
            if value.ndim == 0:
                before = state.get(moment)
                state[moment] = value.clone() if before is None else torch.maximum(before, value.to(before.device))
                continue
            if value.shape != own_shape:
                raise AdapterError(
                    f"optimizer state {prefix}{moment}: got shape {tuple(value.shape)}, expected {tuple(own_shape)}"
                )
            if moment not in state:
                state[moment] = torch.zeros_like(stack.parameter)
            stack.rows(state[moment])[k].copy_(value)


class FreezeGuard:
    """Keeps frozen adapters bit for bit as they are in every ``optimizer.step()``: weights and moments.

    A zero gradient is not enough: Adam moves a weight by its old momentum, and weight decay moves it without one.
    The guard zeroes the frozen slices of the gradient before the step (so that they do not count in norms taken
    after it), and puts the slices of weights and moments back after it. A frozen adapter goes on with the moments it
    had. It costs copies of the frozen slices; nothing while no adapter is frozen.
    """

    def __init__(self, bank: AdapterBank, optimizer: Optimizer) -> None:
        """Hook the guard into ``optimizer``."""
        self._bank = bank
        self._frozen: tuple[str, ...] = ()
        self._kept: list[tuple[Stack, str | None, Tensor]] = []
        self._hooks = (
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        )

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the adapters that do not move."""
        return self._frozen

    def freeze(self, names: Iterable[str]) -> None:
        """Freeze exactly the named adapters from the next step on; an empty set thaws all.

        Use it also for adapters without rows in a step, whose old momentum would move them.

        Raises:
            AdapterError: a name is not in the bank.
        """
        frozen = tuple(names)
        for name in frozen:
            self._bank.index(name)
        self._frozen = frozen

    def mask_gradients_(self) -> None:
        """Zero the gradient of frozen adapters now, so that norms and clipping leave them out."""
        if self._frozen:
            factors = torch.ones(len(self._bank.names), device=self._bank.stacks()[0].parameter.device)
            factors[self._index(factors.device)] = 0.0
            self._bank.scale_gradients_(factors)

    def remove(self) -> None:
        """Take the guard out of the optimizer."""
        for hook in self._hooks:
            hook.remove()

    def _index(self, device: torch.device) -> Tensor:
        return torch.tensor([self._bank.index(name) for name in self._frozen], device=device)

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._kept = []
        if self._frozen:
            self.mask_gradients_()
            self._kept = [
                (stack, moment, rows.index_select(0, self._index(rows.device)))
                for stack in self._bank.stacks()
                for moment, rows in _tensors(stack, optimizer)
            ]

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for stack, moment, kept in self._kept:
            tensor = stack.parameter if moment is None else optimizer.state[stack.parameter][moment]
            stack.rows(tensor).index_copy_(0, self._index(tensor.device), kept)
        self._kept = []


def _rows(stack: Stack, value: Tensor) -> Tensor | None:
    """Return a moment with adapters first; None for a counter."""
    return stack.rows(value) if value.shape == stack.parameter.shape else None


def _tensors(stack: Stack, optimizer: Optimizer) -> Iterator[tuple[str | None, Tensor]]:
    """Yield the parameter (moment None) and its moments, adapters first."""
    yield None, stack.rows(stack.parameter.detach())
    for moment, value in optimizer.state.get(stack.parameter, {}).items():
        rows = _rows(stack, value)
        if rows is not None:
            yield moment, rows
