"""Passes of the model that processes make together: where the base is in shares, none can make one alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuromas.adapters.bank import AdapterBank
from neuromas.training.packing import idle_bucket
from neuromas.training.peers import Alone, Peers
from neuromas.training.scoring import score_bucket
from neuromas.training.sharded_base import average_gradients
from neuromas.training.workplace import Workplace


class Passes:
    """The forward passes of this process, and those that it takes part in because another one makes more.

    Attributes:
        are_joint: whether a pass is one of several processes. Then they must make equally many, in the same order, with
            a backward pass or without.
    """

    def __init__(self, bank: AdapterBank, place: Workplace) -> None:
        """Make passes of the bank's model with the processes at ``place`` that hold shares of its base."""
        self._bank = bank
        self.are_joint = place.sharding is not None
        self._partners: Peers = place.peers if self.are_joint else Alone()

    def more(self, own: int) -> int:
        """Return how many passes follow this process's own; all ask this before their first."""
        return max(self._partners.gather(own)) - own

    def idle(self, model: nn.Module) -> Tensor:
        """Make a pass over one token that is no call's; returns 0 by way of all that is trained."""
        self._bank.set_routes([0])
        device = self._bank.trained()[0].tensor.device
        return score_bucket(model, idle_bucket(), torch.ones(1), device).logprobs.sum() * 0.0

    @torch.no_grad()
    def take_part(self, model: nn.Module, passes: int) -> None:
        """Make so many passes without a gradient for the others."""
        for _ in range(passes):
            self.idle(model)

    def is_any(self, flag: bool) -> bool:
        """Return whether it is so in any of the processes."""
        return any(self._partners.gather(flag))

    def average_gradients(self) -> None:
        """Average the gradients over the processes where nothing else has done so."""
        if self.are_joint:
            average_gradients(self._bank)
