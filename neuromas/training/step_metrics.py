"""Fills a step's meter from its rollouts and from the scores of its buckets; names in ``metrics``."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromas.training.metrics import StepMeter
from neuromas.training.sampler import StepRollouts
from neuromas.training.step_plan import StepPlan

Ints = NDArray[np.int64]


def count_rollouts(meter: StepMeter, plan: StepPlan, sampled: StepRollouts) -> None:
    """Add what the step's rollouts were and cost."""
    rows, stats = plan.rows, sampled.stats
    meter.add("rollout/reward_mean", rows.rewards.sum(), rows.rewards.size)
    meter.add("rollout/failed_fraction", rows.failed.sum(), rows.failed.size)
    meter.add("rollout/truncated_fraction", stats.truncated_calls, stats.calls)
    for name, amount in (
        ("rollouts", stats.rollouts),
        ("calls", stats.calls),
        ("tokens", stats.generated_tokens),
        ("prompt_tokens", stats.prompt_tokens),
        ("refilled_groups", sampled.refilled),
    ):
        meter.total(f"rollout/{name}", amount)
    lengths = np.array([0 if call is None else len(call.completion_token_ids) for call in rows.calls], dtype=np.float64)
    meter.add_by_node("rollout/length_mean", rows.nodes, rows.node_of_row, lengths, rows.present.astype(np.float64))
    meter.total("train/groups_kept", plan.groups_kept)
    computed = sum(bucket.num_tokens for bucket in plan.buckets)
    meter.add("train/packed_fraction", computed, plan.padded_tokens)
    meter.add("time/rollout_s", sampled.wait_s)
    meter.add("time/sync_s", sampled.sync_s)


@torch.no_grad()
def measure_bucket(
    meter: StepMeter,
    plan: StepPlan,
    members: Ints,
    part: Mapping[str, Tensor],
    scores: tuple[Tensor, Tensor],
    clip: tuple[float, float],
    top_p: float,
) -> None:
    """Add a bucket's per-Node metrics and its difference from the engine.

    Args:
        meter: of the step.
        plan: of the step.
        members: kept rows of the bucket, in the order of the other arguments' rows.
        part: TRL's batch of these rows.
        scores: the trainer's logprobs and entropies, each (rows, tokens).
        clip: how far below and above 1 a ratio may lie.
        top_p: nucleus mass of the sampling. A nucleus renormalises, so the engine's logprob of a token may exceed the
            trainer's by up to -ln(top_p) without disagreement.
    """
    nodes = plan.rows.nodes
    node = plan.rows.node_of_row[plan.kept[members]]
    mask = part["completion_mask"].float()
    counts = _numbers(mask.sum(1))
    logprobs, entropies = (values.detach() for values in scores)
    ratio = (logprobs - part["old_per_token_logps"]).exp()
    gain = part["advantages"][:, None]
    clipped = ((ratio < 1 - clip[0]) & (gain < 0)) | ((ratio > 1 + clip[1]) & (gain > 0))
    per_token = {"train/entropy": entropies, "train/clip_fraction": clipped.float()}
    if "ref_per_token_logps" in part:
        away = part["ref_per_token_logps"] - logprobs
        per_token["train/kl"] = away.exp() - away - 1
    for name, values in per_token.items():
        meter.add_by_node(name, nodes, node, _numbers((values * mask).sum(1)), counts)
    apart = part["sampling_per_token_logps"] - logprobs
    excess = (apart - apart.clamp(0, -math.log(top_p))).abs() * mask
    sums, peaks, current = _numbers(excess.sum(1)), _numbers(excess.amax(1)), plan.current[members]
    meter.add("parity/logprob_diff_mean", sums[current].sum(), counts[current].sum())
    meter.add("parity/drift_mean", sums[~current].sum(), counts[~current].sum())
    meter.add("parity/stale_fraction", (~current).sum(), len(current))
    meter.peak("parity/logprob_diff_max", peaks[current].max(initial=0.0))


def describe_nan(plan: StepPlan, members: Ints, scores: tuple[Tensor, Tensor] | None) -> str:
    """Return which Nodes' logprobs are not finite, for an error message."""
    if scores is None:
        return "before any logprob was computed"
    bad = members[_numbers((~torch.isfinite(scores[0])).any(1).float()) > 0]
    nodes = sorted({plan.rows.nodes[index] for index in plan.rows.node_of_row[plan.kept[bad]]})
    return f"logprobs of nodes {nodes} are not finite" if nodes else "all logprobs are finite"


def _numbers(values: Tensor) -> NDArray[np.float64]:
    return values.double().cpu().numpy()
