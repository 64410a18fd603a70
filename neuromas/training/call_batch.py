"""A step in two forms: lists of tokens for TRL to score, and the batch of padded calls that the loss reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from neuromas.losses.contract import Tokens
from neuromas.training.step_plan import StepPlan


@dataclass(frozen=True, slots=True)
class TrlRows:
    """What TRL is told that was sampled, one item per row.

    Attributes:
        prompts: tokens.
        completions: tokens.
        mask: 0 for tokens that it shall leave out; None = none.
        logprobs: the sampler's; None = not told.
        rewards: terminal rewards.
    """

    prompts: Sequence[Sequence[int]]
    completions: Sequence[Sequence[int]]
    mask: Sequence[Sequence[int]] | None
    logprobs: Sequence[Sequence[float]] | None
    rewards: Sequence[float]


def rows_of_samples(plan: StepPlan, empty: int) -> TrlRows:
    """Return one row per sample of the output, with its reward and the token ``empty`` in place of its call."""
    rewards = plan.rows.rewards[:, :, -1].reshape(-1).tolist()
    nothing = [[empty]] * len(rewards)
    return TrlRows(nothing, nothing, None, None, rewards)


def rows_of_calls(plan: StepPlan, empty: int) -> TrlRows:
    """Return one row per call; rows that are not trained on are masked, missing calls are the token ``empty``."""
    calls = plan.rows.calls
    kept = np.zeros(len(calls), dtype=np.int64)
    kept[plan.kept] = 1
    completions = [[empty] if call is None else call.completion_token_ids for call in calls]
    return TrlRows(
        prompts=[[empty] if call is None else call.prompt_token_ids for call in calls],
        completions=completions,
        mask=None if kept.all() else [[keep] * len(ids) for keep, ids in zip(kept.tolist(), completions, strict=True)],
        logprobs=[[0.0] if call is None else call.logprobs for call in calls],
        rewards=plan.rows.per_row(plan.rows.rewards).tolist(),
    )


@dataclass(frozen=True, slots=True, eq=False)
class CallBatch:
    """What the loss reads of the kept calls, one a row, padded on the right to the longest completion.

    Attributes:
        mask: 1 for tokens, 0 for padding, float32, shape (kept, tokens).
        sampler_logprobs: of the tokens when they were sampled, shape (kept, tokens).
        old_logprobs: under the old policy of the ratio, shape (kept, tokens).
        advantages: shape (kept, 1).
        ref_logprobs: under the base, shape (kept, tokens); None without a KL.
        correction: see ``losses.contract.Tokens``.
    """

    mask: Tensor
    sampler_logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    ref_logprobs: Tensor | None
    correction: Tensor | None

    def rows(self, members: Tensor) -> CallBatch:
        """Return some of the calls, no wider than their longest completion."""
        mask = self.mask[members]
        width = int(mask.sum(1).max())

        def cut(values: Tensor) -> Tensor:
            return values[members][:, :width]

        return CallBatch(
            mask=mask[:, :width],
            sampler_logprobs=cut(self.sampler_logprobs),
            old_logprobs=cut(self.old_logprobs),
            advantages=self.advantages[members],
            ref_logprobs=None if self.ref_logprobs is None else cut(self.ref_logprobs),
            correction=None if self.correction is None else cut(self.correction),
        )

    def tokens(self, logprobs: Tensor, clip_low: float, clip_high: float) -> Tokens:
        """Return the calls as a loss sees them, with the trainer's log-probabilities."""
        return Tokens(logprobs, self.old_logprobs, self.advantages, self.mask, self.correction, clip_low, clip_high)


def call_batch(plan: StepPlan, scored: Mapping[str, Tensor], device: torch.device) -> CallBatch:
    """Return the kept calls of a step that has some.

    Args:
        plan: of the step.
        scored: what TRL computed of all calls, by its names, one row each; may be empty.
        device: where the tensors shall be.
    """
    calls = plan.kept_calls
    lengths = np.array([len(call.completion_token_ids) for call in calls], dtype=np.int64)
    mask = np.arange(lengths.max()) < lengths[:, None]
    logprobs = np.zeros(mask.shape, dtype=np.float32)
    logprobs[mask] = np.fromiter(
        chain.from_iterable(call.logprobs for call in calls), dtype=np.float32, count=int(lengths.sum())
    )
    kept = torch.from_numpy(plan.kept).to(device)

    def of_trl(name: str) -> Tensor | None:
        return scored[name][kept][:, : mask.shape[1]] if name in scored else None

    sampler = torch.from_numpy(logprobs).to(device)
    old = of_trl("old_per_token_logps")
    return CallBatch(
        mask=torch.from_numpy(mask.astype(np.float32)).to(device),
        sampler_logprobs=sampler,
        old_logprobs=sampler if old is None else old,
        advantages=torch.from_numpy(plan.advantages[plan.kept]).to(device, torch.float32)[:, None],
        ref_logprobs=of_trl("ref_per_token_logps"),
        correction=of_trl("importance_sampling_ratio"),
    )
