"""The losses against TRL's own, and what must hold for each of them."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from neuromas.losses.contract import Loss, Tokens, Totals
from neuromas.losses.registry import LOSSES, sum_over_rollout
from neuromas.spec.training import TrainingSpec
from neuromas.training.trainer import JointTrainer

GRPO = JointTrainer.__mro__[1]
LENGTHS = (1, 3, 5, 4, 2, 5)
MAX_TOKENS = 7
TOTALS = Totals(rollouts=3, calls=len(LENGTHS), tokens=sum(LENGTHS), max_tokens=MAX_TOKENS)


def drawn(seed: int, spread: float = 0.4) -> Tokens:
    """Six calls whose ratios lie on both sides of the clip range, with advantages of either sign and of 0."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS))
    mask = (torch.arange(shape[1]) < torch.tensor(LENGTHS)[:, None]).float()
    old = (-torch.rand(shape, generator=generator) * 3 - 0.05) * mask
    logprobs = (old + spread * torch.randn(shape, generator=generator)) * mask
    advantages = torch.tensor([0.7, -0.4, 0.0, 1.3, -0.9, 0.2])[:, None]
    return Tokens(logprobs.requires_grad_(), old, advantages, mask, None, 0.2, 0.3)


def trl_loss(name: str, tokens: Tokens, ref: Tensor | None, kl_weight: float) -> Tensor:
    """TRL's loss of one process and one bucket; its trainer is a record of the attributes that the method reads."""
    accelerator = SimpleNamespace(num_processes=1, gather=lambda value: value, reduce=lambda value, reduction: value)
    trainer = SimpleNamespace(
        args=SimpleNamespace(
            delta=None,
            use_bias_correction_kl=True,
            steps_per_generation=1,
            sapo_temperature_pos=1.0,
            sapo_temperature_neg=1.05,
            vespo_k_pos=2.0,
            vespo_lambda_pos=3.0,
            vespo_k_neg=3.0,
            vespo_lambda_neg=2.0,
        ),
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        loss_type=name,
        importance_sampling_level="sequence" if name == "luspo" else "token",
        epsilon_low=tokens.clip_low,
        epsilon_high=tokens.clip_high + (name == "cispo"),
        max_completion_length=MAX_TOKENS,
        beta=kl_weight,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        use_vllm=tokens.correction is not None,
        vllm_importance_sampling_correction=True,
        current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        get_gamma_weights=GRPO.get_gamma_weights,
        _get_per_token_logps_and_entropies=lambda *_, **__: (tokens.logprobs, torch.ones_like(tokens.mask), None),
    )
    batch: dict[str, Any] = {
        "prompt_ids": torch.zeros(len(LENGTHS), 1),
        "prompt_mask": torch.ones(len(LENGTHS), 1),
        "completion_ids": torch.zeros_like(tokens.mask),
        "completion_mask": tokens.mask,
        "advantages": tokens.advantages[:, 0],
        "old_per_token_logps": tokens.old_logprobs,
        "ref_per_token_logps": ref,
        "importance_sampling_ratio": tokens.correction,
        "num_items_in_batch": tokens.mask.sum(),
    }
    loss: Tensor = GRPO._compute_loss(trainer, None, batch)
    return loss


def gradient(loss: Tensor, tokens: Tokens) -> Tensor:
    (found,) = torch.autograd.grad(loss, tokens.logprobs)
    return found


@pytest.mark.parametrize("corrected", ["", "token", "sequence"])
@pytest.mark.parametrize("kl_weight", [0.0, 0.3])
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"rollout"}))
def test_value_and_gradient_are_those_of_trl(name: str, kl_weight: float, corrected: str) -> None:
    for seed in range(5):
        tokens = drawn(seed)
        ref = tokens.old_logprobs - 0.3 * tokens.mask
        if corrected:
            width = tokens.mask.shape[1] if corrected == "token" else 1
            mask = tokens.mask if corrected == "token" else torch.ones(len(LENGTHS), 1)
            ratio = torch.rand(len(LENGTHS), width, generator=torch.Generator().manual_seed(seed)) * 3
            ratio[0] = 0.0  # masked
            tokens = Tokens(*(getattr(tokens, key) for key in ("logprobs", "old_logprobs", "advantages", "mask")),
                            torch.where(mask > 0, ratio, 1.0), tokens.clip_low, tokens.clip_high)  # fmt: skip
        ours, theirs = LOSSES[name](tokens, TOTALS, ref, kl_weight), trl_loss(name, tokens, ref, kl_weight)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-6)
        wanted = gradient(theirs, tokens)
        assert float((gradient(ours, tokens) - wanted).abs().max()) < 1e-6
        assert float(wanted.abs().max()) > 1e-3


def test_the_rollout_loss_by_hand() -> None:
    """Two calls of one rollout out of two: -(1.1 * 2 + 1.2 * 2 + 0.5 * -1) / 2, where 1.5 is held at 1.2."""
    ratios = torch.tensor([[1.1, 1.5], [0.9, 1.0]]).log()
    tokens = Tokens(
        logprobs=ratios.requires_grad_(),
        old_logprobs=torch.zeros(2, 2),
        advantages=torch.tensor([[2.0], [-1.0]]),
        mask=torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        correction=torch.tensor([[1.0, 1.0], [0.5, 1.0]]),
        clip_low=0.2,
        clip_high=0.2,
    )
    loss = LOSSES["rollout"](tokens, Totals(rollouts=2, calls=4, tokens=9, max_tokens=5))
    assert loss.item() == pytest.approx(-(1.1 * 2 + 1.2 * 2 - 0.9 * 0.5) / 2)
    assert gradient(loss, tokens).tolist() == [pytest.approx([-1.1, 0.0]), pytest.approx([0.225, 0.0])]


@pytest.mark.parametrize("name", LOSSES)
def test_calls_without_advantage_have_no_gradient(name: str) -> None:
    tokens = drawn(0)
    slope = gradient(LOSSES[name](tokens, TOTALS), tokens)
    assert slope[2].abs().max() == 0
    assert (slope * (1 - tokens.mask)).abs().max() == 0
    assert all(slope[row].abs().max() > 0 for row in (0, 1, 3, 4))


@pytest.mark.parametrize("name", LOSSES)
def test_parts_add_up(name: str) -> None:
    """A step cut into calls, each no wider than itself, as buckets and processes cut it."""
    tokens, entropies = drawn(1), torch.rand(len(LENGTHS), max(LENGTHS))
    weights = {"kl_weight": 0.2, "entropy_weight": 0.1}
    whole = LOSSES[name](tokens, TOTALS, tokens.old_logprobs - 0.2, entropies=entropies, **weights)
    parts = torch.zeros(())
    for row, length in enumerate(LENGTHS):
        cut = (slice(row, row + 1), slice(0, length))
        part = Tokens(
            tokens.logprobs[cut], tokens.old_logprobs[cut], tokens.advantages[cut[0]], tokens.mask[cut], None, 0.2, 0.3
        )
        parts = parts + LOSSES[name](part, TOTALS, part.old_logprobs - 0.2, entropies=entropies[cut], **weights)
    assert parts.item() == pytest.approx(whole.item(), abs=1e-6)
    assert float((gradient(parts, tokens) - gradient(whole, tokens)).abs().max()) < 1e-7


@pytest.mark.parametrize(("name", "counted"), [("dapo", (1, 2)), ("cispo", (2,)), ("sapo", ())])
def test_only_bounds_that_hold_count_as_clipped(name: str, counted: tuple[int, ...]) -> None:
    ratios = torch.tensor([[0.5], [0.5], [1.9], [1.9]]).log()
    advantages = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    tokens = Tokens(ratios, torch.zeros(4, 1), advantages, torch.ones(4, 1), None, 0.2, 0.3)
    assert LOSSES[name].clipped(tokens).flatten().tolist() == [row in counted for row in range(4)]


@pytest.mark.parametrize(("loss", "setting"), [("cispo", "clip_low"), ("sapo", "clip_high"), ("vespo", "clip_low")])
def test_a_bound_that_the_loss_does_not_have_is_refused(loss: str, setting: str) -> None:
    with pytest.raises(ValueError, match=f"does nothing with {setting}; those that do: 'rollout'"):
        TrainingSpec(loss=loss, **{setting: 0.1})


def test_an_unknown_loss_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match=r"got 'gpo'; did you mean 'grpo'\? allowed are rollout, grpo"):
        TrainingSpec(loss="gpo")


def test_a_loss_from_outside_is_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def squared(tokens: Tokens, ratio: Tensor) -> Tensor:
        return -tokens.advantages * (ratio - 1).square()

    monkeypatch.setitem(LOSSES, "squared", Loss(squared, sum_over_rollout, reads=()))
    tokens = drawn(2)
    slope = gradient(LOSSES[TrainingSpec(loss="squared").loss](tokens, TOTALS), tokens)
    ratio = (tokens.logprobs.detach() - tokens.old_logprobs).exp()
    wanted = -2 * tokens.advantages * (ratio - 1) * ratio * tokens.mask / TOTALS.rollouts
    assert float((slope - wanted).abs().max()) < 1e-6
