"""The pull of adapters towards a snapshot of themselves."""

from pathlib import Path

import pytest
import torch

from neuromas.adapters.anchor import Anchor
from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.families.unilora.spec import UniLoraSpec
from neuromas.errors import AdapterError

NAMES = ("a", "b", "c")
SPECS = {"lora": LoraSpec(rank=2), "unilora": UniLoraSpec(rank=2, dimension=100)}


@pytest.fixture(params=list(SPECS))
def spec(request) -> AdapterSpec:
    return SPECS[request.param]


def test_an_anchor_measures_the_distance_and_pulls_only_its_own(small_base: Path, spec: AdapterSpec):
    bank = build_model(small_base, spec, NAMES, seed=0)[1]
    anchor = Anchor(bank, ("c", "a"))
    assert anchor.penalty().item() == 0.0
    for stack in bank.stacks():
        stack.rows(stack.tensor.data)[0] += 0.5
        stack.rows(stack.tensor.data)[1] += 9.0
    assert anchor.penalty().item() == pytest.approx(0.25 * bank.num_trainable("a"), rel=1e-5)
    (3.0 * anchor.penalty()).backward()
    norms = bank.grad_norms()
    assert norms.tolist() == pytest.approx([3 * 2 * 0.5 * bank.num_trainable("a") ** 0.5, 0.0, 0.0], rel=1e-5)


def test_the_added_gradient_is_that_of_the_penalty(small_base: Path, spec: AdapterSpec):
    bank = build_model(small_base, spec, NAMES, seed=0)[1]
    anchor = Anchor(bank, ("b",))
    for stack in bank.stacks():
        stack.tensor.data += torch.randn(stack.tensor.shape, generator=torch.Generator().manual_seed(0))
    (0.7 * anchor.penalty()).backward()
    expected = [stack.tensor.grad.clone() for stack in bank.stacks()]
    for stack in bank.stacks():
        stack.tensor.grad = None
    anchor.add_gradient_(0.7)
    for stack, gradient in zip(bank.stacks(), expected, strict=True):
        torch.testing.assert_close(stack.tensor.grad, gradient)


def test_an_unknown_name_is_refused(small_base: Path):
    bank = build_model(small_base, SPECS["lora"], NAMES, seed=0)[1]
    with pytest.raises(AdapterError, match="'z'"):
        Anchor(bank, ("a", "z"))
