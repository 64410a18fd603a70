"""Score kernels by hooks against autograd, and the linearity gap against differences."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.build import build_model
from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.rollout.record import NodeCall
from neuromas.training.kernel import linearity_gap, score_grams
from neuromas.training.scoring import add_scoring

TEMPERATURES = (1.0, 0.7, 1.0, 1.3)


def calls() -> list[NodeCall]:
    return [
        NodeCall(
            node="b",
            adapter=None,
            prompt_token_ids=tuple(range(5, 10 + length)),
            completion_token_ids=tuple(range(6, 8 + length)),
            logprobs=(0.0,) * (2 + length),
            text="",
            finish_reason="stop",
        )
        for length in range(4)
    ]


@pytest.fixture
def world(small_base: Path) -> tuple[torch.nn.Module, AdapterBank]:
    model, bank = build_model(small_base, LoraSpec(rank=3, alpha=6), ["a", "b"], seed=1)
    add_scoring(model.get_base_model())
    return model.eval(), bank


def scores(model: torch.nn.Module, bank: AdapterBank) -> Tensor:
    """One call at a time through the model's own forward."""
    found = []
    bank.set_routes([bank.index("b")])
    for call, temperature in zip(calls(), TEMPERATURES, strict=True):
        ids = torch.tensor([[*call.prompt_token_ids, *call.completion_token_ids]])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(call.prompt_token_ids) - 1 : -1] / temperature
        found.append(logits.log_softmax(-1).gather(1, torch.tensor(call.completion_token_ids)[:, None]).sum())
    return torch.stack(found)


def train(bank: AdapterBank, size: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for owned in bank.trained():
            owned.tensor.add_(torch.randn(owned.tensor.shape, generator=generator) * size)


@pytest.mark.parametrize("trained", [False, True])
def test_the_parts_are_those_of_autograd_and_their_sum_is_the_kernel(
    world: tuple[torch.nn.Module, AdapterBank], trained: bool
) -> None:
    model, bank = world
    if trained:
        train(bank, 0.1)
    grams = score_grams(model, bank, "b", calls(), TEMPERATURES)
    assert all(owned.tensor.grad is None for owned in bank.trained())
    own = scores(model, bank)
    parts: dict[str, np.ndarray] = {}
    for owned in bank.trained():
        rows = [torch.autograd.grad(score, owned.tensor, retain_graph=True)[0].flatten().double() for score in own]
        jacobian = torch.stack(rows).numpy()
        path = owned.key.rpartition("/")[0]
        parts[path] = parts.get(path, 0.0) + jacobian @ jacobian.T
    assert len(grams) == len(parts)
    whole = sum(parts.values())
    assert np.allclose(sum(grams.values()), whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())
    for path, part in parts.items():
        (found,) = (gram for name, gram in grams.items() if name.endswith(path))
        assert np.allclose(found, part, rtol=1e-3, atol=1e-5 * np.abs(whole).max())


def test_the_gap_is_the_distance_from_the_scores_derivative_along_training(
    world: tuple[torch.nn.Module, AdapterBank],
) -> None:
    model, bank = world
    start = bank.state()
    train(bank, 0.05)
    after = bank.state()
    found = linearity_gap(model, bank, "b", calls(), TEMPERATURES, start)
    assert all(torch.equal(bank.state()[key], value) for key, value in after.items())

    def at(share: float) -> Tensor:
        bank.load_all({key: start[key] + share * (after[key] - start[key]) for key in start})
        with torch.no_grad():
            return scores(model, bank).double()

    moved = (at(0.01) - at(-0.01)) / 0.02
    gap = (at(1.0) - at(0.0) - moved).norm() / (at(1.0) - at(0.0)).norm()
    assert found == pytest.approx(gap.item(), rel=0.02)


def test_little_training_is_linear_and_none_has_no_gap(world: tuple[torch.nn.Module, AdapterBank]) -> None:
    model, bank = world
    start = bank.state()
    assert linearity_gap(model, bank, "b", calls(), TEMPERATURES, start) is None
    train(bank, 1e-3)
    found = linearity_gap(model, bank, "b", calls(), TEMPERATURES, start)
    assert found is not None
    assert found < 0.05
