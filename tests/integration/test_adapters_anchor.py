"""The pull of adapters towards a snapshot of themselves, against the same penalty written densely."""

from pathlib import Path

import pytest
import torch
from adapter_families import SPECS
from torch import Tensor

from neuromas.adapters.anchor import Anchor
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.families.contract import AdapterSpec
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.source import Pull
from neuromas.errors import AdapterError

NAMES = ("a", "b", "c")
ALONE = ["lora", "unilora", "loft-principal", "ssf-output", "adamss"]


@pytest.fixture(params=list(SPECS))
def spec(request) -> AdapterSpec:
    return SPECS[request.param]


def scramble(bank: AdapterBank, seed: int) -> AdapterBank:
    generator = torch.Generator().manual_seed(seed)
    for owned in bank.trained():
        owned.tensor.data += 0.3 * torch.randn(owned.tensor.shape, generator=generator)
    return bank


def made(base: Path, spec: AdapterSpec) -> AdapterBank:
    return scramble(build_model(base, spec, NAMES, seed=0, dtype=torch.float64)[1], seed=0)


def updates(bank: AdapterBank, *indices: int) -> list[Tensor]:
    return [(b @ a).double() for _, a, b in bank.pairs(torch.tensor(indices))]


def dense(bank: AdapterBank, start: list[Tensor], *indices: int) -> Tensor:
    found = updates(bank, *indices)
    return torch.stack([(now - before).square().sum() for now, before in zip(found, start, strict=True)]).sum()


def gradients(bank: AdapterBank) -> dict[str, Tensor]:
    found = {owned.key: owned.tensor.grad for owned in bank.trained()}
    for owned in bank.trained():
        owned.tensor.grad = None
    return {key: gradient for key, gradient in found.items() if gradient is not None}


@pytest.mark.parametrize("name", ALONE)
def test_distance_of_parameters_and_its_pull_on_the_named_adapters_alone(small_base: Path, name: str):
    bank = made(small_base, SPECS[name])
    anchor = Anchor(bank, Pull(("c", "a"), 3.0))
    assert anchor.penalty().item() == 0.0
    for stack in bank.stacks():
        stack.rows(stack.tensor.data)[0] += 0.5
        stack.rows(stack.tensor.data)[1] += 9.0
    assert anchor.penalty().item() == pytest.approx(0.25 * bank.num_trainable("a"), rel=1e-5)
    anchor.add_gradient_()
    expected = [3 * 2 * 0.5 * bank.num_trainable("a") ** 0.5, 0.0, 0.0]
    assert bank.grad_norms().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("by", ["parameters", "update"])
def test_the_added_gradient_is_that_of_the_penalty(small_base: Path, spec: AdapterSpec, by):
    bank = made(small_base, spec)
    anchor = Anchor(bank, Pull(("b",), 0.7, by))
    scramble(bank, seed=1)
    (0.7 * anchor.penalty()).backward()
    expected = gradients(bank)
    anchor.add_gradient_()
    anchor.add_gradient_()
    for key, gradient in gradients(bank).items():
        torch.testing.assert_close(gradient, 2 * expected[key])


@pytest.mark.parametrize("to", ["start", "base"])
def test_distance_of_updates_is_the_dense_one_with_its_gradient(small_base: Path, spec: AdapterSpec, to):
    bank = made(small_base, spec)
    start = [update.detach() if to == "start" else torch.zeros_like(update) for update in updates(bank, 2, 0)]
    anchor = Anchor(bank, Pull(("c", "a"), 1.0, "update", to))
    scramble(bank, seed=1)
    expected = dense(bank, start, 2, 0)
    assert expected.item() > 1e-3
    assert anchor.penalty().item() == pytest.approx(expected.item(), rel=1e-4)
    expected.backward()
    wanted = gradients(bank)
    largest = max(gradient.abs().max() for gradient in wanted.values())
    anchor.add_gradient_()
    found = gradients(bank)
    assert set(found) == set(wanted)
    for key, gradient in found.items():
        assert (gradient - wanted[key]).abs().max() < 1e-4 * largest
    stacks = [owned for owned in bank.stacks() if owned.key in found]
    assert not any(owned.rows(found[owned.key])[1].any() for owned in stacks)


def test_distance_of_updates_does_not_see_what_the_factors_trade(small_base: Path):
    bank = made(small_base, LoraSpec(rank=2))
    anchor = Anchor(bank, Pull(("a",), 1.0, "update"))
    by_parameters = Anchor(bank, Pull(("a",), 1.0))
    mixing = torch.tensor([[2.0, 1.0], [0.5, 1.5]])
    parts = bank.node_parameters("a")
    scale = sum(value.square().sum().item() for value in updates(bank, 0))
    for key, value in parts.items():
        value.copy_(torch.linalg.inv(mixing) @ value if key.endswith("/A") else value @ mixing)
    assert abs(anchor.penalty().item()) < 1e-5 * scale
    assert by_parameters.penalty().item() > 1.0


def test_a_selective_pull_leaves_out_the_adapters_whose_loss_it_would_raise(small_base: Path, spec: AdapterSpec):
    bank = made(small_base, spec)
    anchor = Anchor(bank, Pull(NAMES, 0.5, "update", is_selective=True))
    scramble(bank, seed=1)
    anchor.penalty().backward()
    pulls = gradients(bank)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    for owned in bank.trained():  # a loss that the pull lowers for "a" and "c", and raises for "b" and what is shared
        if owned.key in pulls:
            rows = owned.rows(pulls[owned.key])
            sign = signs[owned.positions(bank.groups)].view(-1, *[1] * (rows.ndim - 1))
            owned.tensor.grad = torch.empty_like(pulls[owned.key])
            owned.rows(owned.tensor.grad).copy_(sign * rows)
    anchor.add_gradient_()
    for owned in bank.trained():
        if owned.key in pulls:
            rows = owned.rows(pulls[owned.key])
            factor = torch.tensor([1.5, -1.0, 1.5, -1.0])[owned.positions(bank.groups)].view(-1, *[1] * (rows.ndim - 1))
            torch.testing.assert_close(owned.rows(owned.tensor.grad), factor * rows)


def test_an_unknown_name_is_refused(small_base: Path):
    bank = made(small_base, LoraSpec(rank=2))
    with pytest.raises(AdapterError, match="'z'"):
        Anchor(bank, Pull(("a", "z"), 1.0))
