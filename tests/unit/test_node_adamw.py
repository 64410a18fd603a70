"""The per-adapter optimizer is AdamW, adapter by adapter."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuromas.adapters.families.map import Owned
from neuromas.errors import CheckpointError
from neuromas.training.optimizer import NodeAdamW

NAMES = ("a", "b", "c")
SETTINGS = {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}


def make() -> tuple[list[Owned], NodeAdamW]:
    generator = torch.Generator().manual_seed(0)
    first = nn.Parameter(torch.randn(3, 2, 4, generator=generator))
    second = nn.Parameter(torch.randn(5, 3, generator=generator))  # adapters last, as a Uni-LoRA vector
    stacks = [Owned("m/A", first, 0), Owned("theta", second, 1)]
    return stacks, NodeAdamW(stacks, NAMES, **SETTINGS)


def give_gradients(stacks: list[Owned], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for stack in stacks:
        stack.tensor.grad = torch.randn(stack.tensor.shape, generator=generator)


def test_equals_torch_when_all_are_active() -> None:
    stacks, ours = make()
    copies = [nn.Parameter(stack.tensor.detach().clone()) for stack in stacks]
    theirs = torch.optim.AdamW(copies, **SETTINGS)
    for step in range(6):
        give_gradients(stacks, step)
        for copy, stack in zip(copies, stacks, strict=True):
            copy.grad = stack.tensor.grad.clone()
        ours.step()
        theirs.step()
    for copy, stack in zip(copies, stacks, strict=True):
        assert torch.allclose(stack.tensor, copy, atol=1e-6)


def test_an_adapter_at_rest_keeps_every_bit_and_goes_on_as_if_no_step_had_been() -> None:
    stacks, optimizer = make()
    other_stacks, other = make()
    give_gradients(stacks, 0)
    give_gradients(other_stacks, 0)
    optimizer.step()
    other.step()
    before = [stack.rows(stack.tensor.detach())[1].clone() for stack in stacks]
    optimizer.set_active(torch.tensor([True, False, True]))
    for step in (1, 2):
        give_gradients(stacks, step)
        optimizer.step()
    for stack, value in zip(stacks, before, strict=True):
        assert torch.equal(stack.rows(stack.tensor.detach())[1], value)
    assert optimizer.counts.tolist() == [3, 1, 3]
    optimizer.set_active(torch.tensor([True, True, True]))
    give_gradients(stacks, 3)
    give_gradients(other_stacks, 3)
    optimizer.step()
    other.step()
    for stack, twin in zip(stacks, other_stacks, strict=True):
        assert torch.equal(stack.rows(stack.tensor.detach())[1], twin.rows(twin.tensor.detach())[1])


def test_moments_travel_by_name() -> None:
    stacks, optimizer = make()
    give_gradients(stacks, 0)
    optimizer.step()
    tensors, counts = optimizer.export(["b"])
    assert counts == {"b": 1}
    assert sorted(tensors) == ["b/m/A/exp_avg", "b/m/A/exp_avg_sq", "b/theta/exp_avg", "b/theta/exp_avg_sq"]
    _, grown = make()
    grown.restore(tensors, counts)
    again, _ = grown.export(["b"])
    assert all(torch.equal(again[key], tensors[key]) for key in tensors)
    assert grown.counts.tolist() == [0, 1, 0]
    with pytest.raises(CheckpointError, match="b/m/A/exp_avg is nothing"):
        grown.restore({}, {"b": 1})
