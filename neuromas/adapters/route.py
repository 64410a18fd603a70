"""Which adapter each row of a batch belongs to. One ``Route`` per model, shared by all its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuromas.errors import AdapterError


@dataclass(frozen=True, slots=True, eq=False)
class RoutePlan:
    """A route, prepared for one device.

    Attributes:
        rows: number of rows in the batch.
        present: sorted indices of the adapters that have rows, shape (present,); None = all adapters of the model.
        local: position in ``present`` of each row's adapter, shape (rows,); None = row k belongs to the k-th one.
        single: all rows belong to one adapter.
        number: which call of ``Route.set`` made it; 0 = none did, the model has one adapter.
    """

    rows: int
    present: Tensor | None
    local: Tensor | None
    single: bool
    number: int

    def to(self, device: torch.device) -> RoutePlan:
        """Return the plan with its tensors on ``device``."""
        present = None if self.present is None else self.present.to(device)
        local = None if self.local is None else self.local.to(device)
        return RoutePlan(self.rows, present, local, self.single, self.number)


class Route:
    """The current assignment of rows to adapters.

    A route stays set until the next one. It must not change between a forward pass and its backward pass when
    activations are recomputed (gradient checkpointing), since recomputation reads it again; a change is noticed in
    the backward pass and refused, except under reentrant checkpointing, which leaves no trace of the first pass.
    """

    def __init__(self, num_adapters: int) -> None:
        self.num_adapters = num_adapters
        self._plans: dict[torch.device, RoutePlan] = {}
        self._number = 0

    def set(self, index: Tensor | Sequence[int]) -> None:
        """Assign row k of the next batches to adapter ``index[k]``.

        Raises:
            AdapterError: the index is not one-dimensional, not integer, empty, or names an adapter that is not there.
        """
        rows = torch.as_tensor(index)
        if rows.ndim != 1 or rows.numel() == 0 or rows.is_floating_point() or rows.dtype == torch.bool:
            raise AdapterError(
                f"route: got shape {tuple(rows.shape)} of {rows.dtype}, expected one adapter index per row, shape "
                "(rows,) of integers; see AdapterBank.index"
            )
        present, local = torch.unique(rows.to("cpu", torch.int64), return_inverse=True)
        if int(present[0]) < 0 or int(present[-1]) >= self.num_adapters:
            raise AdapterError(
                f"route: got adapter indices {int(present[0])}..{int(present[-1])}, allowed are "
                f"0..{self.num_adapters - 1}; see AdapterBank.index"
            )
        num_present = present.numel()
        in_order = num_present == rows.numel() and bool((local == torch.arange(num_present)).all())
        self._number += 1
        plan = RoutePlan(
            rows=rows.numel(),
            present=None if num_present == self.num_adapters else present,
            local=None if in_order else local,
            single=num_present == 1,
            number=self._number,
        )
        self._plans = {torch.device("cpu"): plan}

    def plan(self, rows: int, device: torch.device) -> RoutePlan:
        """Return the plan for a batch of ``rows`` rows on ``device``.

        Raises:
            AdapterError: no route is set, or it was set for another number of rows.
        """
        if not self._plans:
            if self.num_adapters == 1:
                return RoutePlan(rows, None, None, single=True, number=0)
            raise AdapterError(
                f"route: none is set for a batch of {rows} rows; call AdapterBank.set_routes with the adapter index "
                "of each row before the forward pass"
            )
        plan = self._plans.get(device)
        if plan is None:
            plan = self._plans[device] = next(iter(self._plans.values())).to(device)
        if plan.rows != rows:
            raise AdapterError(
                f"route: got a batch of {rows} rows, but adapters were set for {plan.rows}; call "
                "AdapterBank.set_routes with one index per row of this batch (and not between a forward pass and its "
                "backward pass when gradient checkpointing is on)"
            )
        return plan
