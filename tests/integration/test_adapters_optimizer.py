"""Frozen adapters, moments per adapter, anchors."""

from pathlib import Path

import pytest
import torch

from neuromas.adapters.anchor import Anchor
from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.optimizer import FreezeGuard, load_moments, moments
from neuromas.errors import AdapterError
from neuromas.spec.parts import AdapterSpec

NAMES = ("a", "b", "c")
SPECS = {"lora": AdapterSpec(rank=2), "unilora": AdapterSpec(type="unilora", rank=2, dimension=100)}


@pytest.fixture(params=list(SPECS))
def spec(request) -> AdapterSpec:
    return SPECS[request.param]


def made(folder: Path, spec: AdapterSpec, names=NAMES, weight_decay=0.1) -> tuple[AdapterBank, torch.optim.Optimizer]:
    _, bank = build_model(folder, spec, names, seed=0)
    parameters = [stack.parameter for stack in bank.stacks()]
    return bank, torch.optim.AdamW(parameters, lr=0.05, betas=(0.9, 0.95), weight_decay=weight_decay)


def step(bank: AdapterBank, optimizer: torch.optim.Optimizer, seed: int) -> None:
    """One step on gradients that depend on the seed and the adapter's name only."""
    for stack in bank.stacks():
        gradient = torch.zeros_like(stack.parameter)
        for k, name in enumerate(bank.names):
            generator = torch.Generator().manual_seed(1000 * seed + ord(name[0]))
            stack.rows(gradient)[k].copy_(torch.randn(stack.rows(gradient)[k].shape, generator=generator))
        stack.parameter.grad = gradient
    optimizer.step()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[key]) for key, value in one.items())


def test_frozen_adapters_and_their_moments_do_not_move(small_base: Path, spec: AdapterSpec):
    bank, optimizer = made(small_base, spec)
    guard = FreezeGuard(bank, optimizer)
    step(bank, optimizer, 0)
    weights, states = bank.state(["a", "c"]), moments(bank, optimizer, ["a", "c"])
    free = bank.state(["b"])
    guard.freeze(("a", "c"))
    for seed in (1, 2):
        step(bank, optimizer, seed)
    after = moments(bank, optimizer, ["a", "c"])
    assert same(bank.state(["a", "c"]), weights)
    assert all(torch.equal(after[key], value) for key, value in states.items() if not key.endswith("/step"))
    assert not same(bank.state(["b"]), free)


def test_freezing_some_does_not_change_how_others_move(small_base: Path, spec: AdapterSpec):
    results = []
    for frozen in ((), ("a",)):
        bank, optimizer = made(small_base, spec)
        FreezeGuard(bank, optimizer).freeze(frozen)
        for seed in (0, 1):
            step(bank, optimizer, seed)
        results.append(bank.state(["b", "c"]))
    assert same(results[0], results[1])


def test_a_thawed_adapter_moves_again(small_base: Path, spec: AdapterSpec):
    bank, optimizer = made(small_base, spec)
    guard = FreezeGuard(bank, optimizer)
    guard.freeze(("a",))
    step(bank, optimizer, 0)
    before = bank.state(["a"])
    guard.freeze(())
    step(bank, optimizer, 1)
    assert not same(bank.state(["a"]), before)


def test_without_the_guard_old_momentum_moves_an_adapter_without_rows(small_base: Path):
    bank, optimizer = made(small_base, SPECS["lora"], weight_decay=0.0)
    step(bank, optimizer, 0)
    before = bank.state(["a"])
    for stack in bank.stacks():
        stack.parameter.grad = torch.zeros_like(stack.parameter)
    optimizer.step()
    assert not same(bank.state(["a"]), before)


def test_masked_gradients_leave_norms_and_clipping(small_base: Path, spec: AdapterSpec):
    bank, optimizer = made(small_base, spec)
    guard = FreezeGuard(bank, optimizer)
    guard.freeze(("b",))
    step(bank, optimizer, 0)
    for stack in bank.stacks():
        stack.parameter.grad = torch.ones_like(stack.parameter)
    guard.mask_gradients_()
    norms = bank.grad_norms()
    assert norms[1] == 0
    assert norms[0] == pytest.approx(bank.num_trainable("a") ** 0.5, rel=1e-5)


def test_a_removed_guard_does_nothing(small_base: Path):
    bank, optimizer = made(small_base, SPECS["lora"])
    guard = FreezeGuard(bank, optimizer)
    guard.freeze(("a",))
    guard.remove()
    before = bank.state(["a"])
    step(bank, optimizer, 0)
    assert not same(bank.state(["a"]), before)


def test_freezing_an_unknown_name_is_refused(small_base: Path):
    bank, optimizer = made(small_base, SPECS["lora"])
    with pytest.raises(AdapterError, match="'z'"):
        FreezeGuard(bank, optimizer).freeze(("z",))


def test_moments_carried_to_a_larger_graph_give_the_same_next_step(small_base: Path, spec: AdapterSpec):
    bank, optimizer = made(small_base, spec)
    for seed in (0, 1):
        step(bank, optimizer, seed)
    saved, weights = moments(bank, optimizer), bank.state()
    grown, grown_optimizer = made(small_base, spec, ("new", "c", "a", "b"))
    for name in NAMES:
        grown.load(name, weights)
        load_moments(grown, grown_optimizer, name, saved)
    step(bank, optimizer, 2)
    step(grown, grown_optimizer, 2)
    for key, value in bank.state().items():
        assert torch.equal(grown.state()[key], value)
    assert not any(value.any() for key, value in saved.items() if key.startswith("new/"))


def test_moments_of_another_shape_are_refused(small_base: Path):
    bank, optimizer = made(small_base, SPECS["lora"])
    step(bank, optimizer, 0)
    wrong = {key: value[:1] if value.ndim else value for key, value in moments(bank, optimizer).items()}
    other, other_optimizer = made(small_base, SPECS["lora"])
    with pytest.raises(AdapterError, match="optimizer state a/"):
        load_moments(other, other_optimizer, "a", wrong)


def test_an_anchor_measures_the_distance_and_pulls_only_its_own(small_base: Path, spec: AdapterSpec):
    bank, _ = made(small_base, spec)
    anchor = Anchor(bank, ("c", "a"))
    assert anchor.penalty().item() == 0.0
    for stack in bank.stacks():
        stack.rows(stack.parameter.data)[0] += 0.5
        stack.rows(stack.parameter.data)[1] += 9.0
    assert anchor.penalty().item() == pytest.approx(0.25 * bank.num_trainable("a"), rel=1e-5)
    (3.0 * anchor.penalty()).backward()
    norms = bank.grad_norms()
    assert norms.tolist() == pytest.approx([3 * 2 * 0.5 * bank.num_trainable("a") ** 0.5, 0.0, 0.0], rel=1e-5)


def test_the_added_gradient_is_that_of_the_penalty(small_base: Path, spec: AdapterSpec):
    bank, _ = made(small_base, spec)
    anchor = Anchor(bank, ("b",))
    for stack in bank.stacks():
        stack.parameter.data += torch.randn(stack.parameter.shape, generator=torch.Generator().manual_seed(0))
    (0.7 * anchor.penalty()).backward()
    expected = [stack.parameter.grad.clone() for stack in bank.stacks()]
    for stack in bank.stacks():
        stack.parameter.grad = None
    anchor.add_gradient_(0.7)
    for stack, gradient in zip(bank.stacks(), expected, strict=True):
        torch.testing.assert_close(stack.parameter.grad, gradient)
