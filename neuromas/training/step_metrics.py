"""Fills a step's meter from its rollouts and from the scores of its buckets; names in ``metrics``."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromas.losses.contract import Loss, Tokens, divergence
from neuromas.training.call_batch import CallBatch
from neuromas.training.metrics import StepMeter
from neuromas.training.sampler import StepRollouts
from neuromas.training.step_plan import StepPlan

Ints = NDArray[np.int64]


def count_batch(meter: StepMeter, plan: StepPlan) -> None:
    """Add what the step trains on; the same for all iterations over one batch of rollouts."""
    rows = plan.rows
    meter.add("rollout/reward_mean", rows.outcomes.sum(), rows.outcomes.size)
    meter.add("rollout/failed_fraction", rows.failed.sum(), rows.failed.size)
    lengths = np.array([0 if call is None else len(call.completion_token_ids) for call in rows.calls], dtype=np.float64)
    meter.add_by_node("rollout/length_mean", rows.nodes, rows.node_of_row, lengths, rows.present.astype(np.float64))
    meter.total("train/groups_kept", plan.groups_kept)
    computed = sum(bucket.num_tokens for bucket in plan.buckets)
    meter.add("train/packed_fraction", computed, plan.padded_tokens)


def count_sampling(meter: StepMeter, sampled: StepRollouts) -> None:
    """Add a step's rollouts: parts of their rewards, and costs; nothing where it trains on those of an earlier one."""
    stats = sampled.stats
    for rollout in (rollout for group in sampled.groups for rollout in group.rollouts):
        for name, part in rollout.parts.items():
            meter.add(f"reward/{name}", part)
    meter.add("rollout/truncated_fraction", stats.truncated_calls, stats.calls)
    for name, amount in (
        ("rollouts", stats.rollouts),
        ("calls", stats.calls),
        ("tokens", stats.generated_tokens),
        ("prompt_tokens", stats.prompt_tokens),
        ("refilled_groups", sampled.refilled),
    ):
        meter.total(f"rollout/{name}", amount)
    meter.add("time/rollout_s", sampled.wait_s)
    meter.add("time/sync_s", sampled.sync_s)


@torch.no_grad()
def measure_bucket(
    meter: StepMeter, plan: StepPlan, members: Ints, batch: CallBatch, loss: Loss, tokens: Tokens, entropies: Tensor
) -> None:
    """Add a bucket's per-Node metrics.

    Args:
        meter: of the step.
        plan: of the step.
        members: kept rows of the bucket, in the order of the other arguments' rows.
        batch: these rows.
        loss: that is trained with.
        tokens: the rows as the loss saw them.
        entropies: of the trainer, shape (rows, tokens).
    """
    nodes, node = plan.rows.nodes, plan.rows.node_of_row[plan.kept[members]]
    counts = numbers(tokens.mask.sum(1))
    per_token = {"train/entropy": entropies}
    if loss.reads:
        per_token["train/clip_fraction"] = loss.clipped(tokens).float()
    if batch.ref_logprobs is not None:
        per_token["train/kl"] = divergence(tokens.logprobs, batch.ref_logprobs)
    for name, values in per_token.items():
        meter.add_by_node(name, nodes, node, numbers((values * tokens.mask).sum(1)), counts)


def numbers(values: Tensor) -> NDArray[np.float64]:
    """Return a tensor's values on the CPU."""
    return values.double().cpu().numpy()
