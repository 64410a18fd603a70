"""Restraint: which adapters may move in a step of a stage, and what pulls them back to where they began."""

from __future__ import annotations

import torch
from torch import Tensor

from neuromas.adapters.anchor import Anchor
from neuromas.adapters.bank import AdapterBank
from neuromas.growth.stage import Stage


class Restraint:
    """What a stage says of frozen and pulled adapters."""

    def __init__(self, bank: AdapterBank, stage: Stage) -> None:
        """Take the bank's weights of this moment as where the pulled adapters began."""
        self._anchor = Anchor(bank, stage.pull) if stage.pull is not None else None
        self._frozen = torch.tensor([name in stage.frozen for name in bank.names])
        self._freeze_steps = stage.freeze_steps

    def pull_(self) -> None:
        """Add the pull to the gradients, once per step."""
        if self._anchor is not None:
            self._anchor.add_gradient_()

    def free(self, step: int) -> Tensor:
        """Return which adapters may move in optimizer step ``step`` (from 0), shape (adapters,), bool."""
        thawed = self._freeze_steps is not None and step >= self._freeze_steps
        return torch.ones_like(self._frozen) if thawed else ~self._frozen
