"""A step in the forms that TRL wants: lists of tokens to score, and the batch of padded rows that its loss reads.

The batch is padded here where TRL need not score calls before: its own padding works row by row, in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def rows_of_rollouts(plan: StepPlan, empty: int) -> TrlRows:
    """Return one row per rollout, with its reward and the token ``empty`` in place of its calls."""
    nothing = [[empty]] * plan.rows.rewards.size
    return TrlRows(nothing, nothing, None, None, plan.rows.rewards.reshape(-1).tolist())


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
        rewards=plan.rows.rewards_per_row().tolist(),
    )


def call_batch(plan: StepPlan, padding: int, device: torch.device) -> dict[str, Tensor]:
    """Return what TRL's loss reads of the kept calls, by TRL's names, each of shape (kept, longest completion).

    The prompts are one padding token wide: the forward pass takes them from the plan's buckets.

    Args:
        plan: of the step.
        padding: token past a completion's end.
        device: where the tensors shall be.
    """
    calls = plan.kept_calls
    lengths = np.array([len(call.completion_token_ids) for call in calls], dtype=np.int64)
    mask = np.arange(lengths.max()) < lengths[:, None]
    tokens = np.full(mask.shape, padding, dtype=np.int64)
    tokens[mask] = _flat([call.completion_token_ids for call in calls], np.int64)
    logprobs = np.zeros(mask.shape, dtype=np.float32)
    logprobs[mask] = _flat([call.logprobs for call in calls], np.float32)
    prompts = torch.full((len(calls), 1), padding)
    batch = {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": torch.from_numpy(tokens),
        "completion_mask": torch.from_numpy(mask.astype(np.int64)),
        "sampling_per_token_logps": torch.from_numpy(logprobs),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _flat(rows: Sequence[Sequence[float]], dtype: type[np.generic]) -> NDArray[np.generic]:
    return np.fromiter(chain.from_iterable(rows), dtype=dtype, count=sum(map(len, rows)))
