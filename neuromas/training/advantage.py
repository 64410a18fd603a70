"""Advantages: terminal rewards of groups -> one number per Node call. Pure numpy; knows no model and no trainer.

All estimators subtract a baseline b from the rollout's reward r and share the result among the rollout's calls:

- "reinforce": b is a running mean of earlier steps' rewards. Source: Williams 1992, section 2 (reinforcement baseline).
- "rloo": b is the mean reward of the other rollouts of the group. Source: arXiv:2402.14740, eq. 8.
- "grpo": b is the group's mean, and the difference is divided by the group's standard deviation + 1e-4 (with Bessel's
  correction, as TRL computes it). Source: arXiv:2402.03300, section 4.1.2.
- "dr_grpo": b is the group's mean, nothing is divided. Source: arXiv:2503.20783, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuromas.errors import TrainingError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SumOver = Callable[[list[float]], list[float]]
"""Sums numbers over the data-parallel processes, each in its place."""
Estimator = Literal["reinforce", "rloo", "grpo", "dr_grpo"]
BaselineGroup = Literal["prompt", "prompt_node"]

STD_EPSILON = 1e-4


@dataclass(slots=True)
class RunningBaseline:
    """Bias-corrected exponential means of past rewards, one per key; a key that was never seen has baseline 0.

    Attributes:
        decay: weight of the past at each update, in [0, 1).
        means: uncorrected mean per key.
        counts: updates per key.
    """

    decay: float
    means: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def value(self, key: str) -> float:
        """Return the baseline of ``key``: the mean corrected for its start at 0."""
        count = self.counts.get(key, 0)
        return self.means[key] / (1 - self.decay**count) if count else 0.0

    def update(self, key: str, reward_mean: float) -> None:
        """Take in the mean reward of one more step."""
        self.means[key] = self.decay * self.means.get(key, 0.0) + (1 - self.decay) * reward_mean
        self.counts[key] = self.counts.get(key, 0) + 1

    def to_document(self) -> dict[str, dict[str, float] | dict[str, int]]:
        """Return the state for a checkpoint."""
        return {"means": dict(self.means), "counts": dict(self.counts)}

    def restore(self, document: Mapping[str, Mapping[str, float]]) -> None:
        """Take over the state of a checkpoint."""
        self.means = {key: float(value) for key, value in document["means"].items()}
        self.counts = {key: int(value) for key, value in document["counts"].items()}


def call_advantages(
    rewards: Floats,
    present: Bools,
    estimator: Estimator,
    baseline_group: BaselineGroup,
    running: RunningBaseline,
    nodes: tuple[str, ...],
) -> Floats:
    """Return the advantage of every call, 0 where there is no call.

    Args:
        rewards: terminal reward per rollout, finite, shape (groups, G). A failed rollout keeps its reward.
        present: whether Node i of a rollout made a usable call, shape (groups, G, nodes).
        estimator: how the baseline is made; see the module.
        baseline_group: "prompt" takes the baseline over all rollouts of the group; "prompt_node" over those rollouts
            in which the Node made a call (and, for "reinforce", keeps one running mean per Node).
        running: baselines of "reinforce"; read here, never changed.
        nodes: ids of the Nodes, in the order of the last axis.

    Returns:
        Shape (groups, G, nodes).

    Raises:
        TrainingError: shapes do not fit.
    """
    if rewards.ndim != 2 or present.shape != (*rewards.shape, len(nodes)):
        raise TrainingError(
            f"advantages: got rewards {rewards.shape} and calls {present.shape} for {len(nodes)} nodes, "
            "expected (groups, G) and (groups, G, nodes)"
        )
    spread = np.broadcast_to(rewards[:, :, None], present.shape)
    counted = present if baseline_group == "prompt_node" else np.ones_like(present)
    if estimator == "reinforce":
        baseline = np.array([running.value(baseline_key(node, baseline_group)) for node in nodes])
        advantages = spread - baseline
    else:
        advantages = _GROUPED[estimator](spread, counted)
    return np.where(present, advantages, 0.0)


def baseline_key(node: str, baseline_group: BaselineGroup) -> str:
    """Return the key of the running baseline that a Node's calls use."""
    return node if baseline_group == "prompt_node" else ""


def update_running(
    running: RunningBaseline,
    rewards: Floats,
    present: Bools,
    baseline_group: BaselineGroup,
    nodes: tuple[str, ...],
    sum_over: SumOver | None = None,
) -> None:
    """Take a step's rewards into the running baselines, after its advantages were computed.

    ``sum_over`` sums numbers over data-parallel processes, so that all keep the same baselines; None for one process.
    """
    if baseline_group == "prompt":
        keys, amounts = [""], [float(rewards.sum()), float(rewards.size)]
    else:
        keys = list(nodes)
        made = present.sum(axis=(0, 1))
        earned = (rewards[:, :, None] * present).sum(axis=(0, 1))
        amounts = [float(value) for pair in zip(earned, made, strict=True) for value in pair]
    amounts = amounts if sum_over is None else sum_over(amounts)
    for key, total, count in zip(keys, amounts[::2], amounts[1::2], strict=True):
        if count:
            running.update(key, total / count)


def groups_with_signal(advantages: Floats) -> Bools:
    """Return which groups have any advantage that is not 0, shape (groups,): the others have no policy gradient."""
    return np.asarray((np.abs(advantages) > 1e-12).any(axis=(1, 2)))


def _mean(rewards: Floats, counted: Bools) -> tuple[Floats, Floats]:
    number = counted.sum(axis=1, keepdims=True).astype(np.float64)
    total = np.where(counted, rewards, 0.0).sum(axis=1, keepdims=True)
    return total / np.maximum(number, 1), number


def _leave_one_out(rewards: Floats, counted: Bools) -> Floats:
    """r_i minus the mean of the others = (r_i - mean) * n / (n - 1); 0 where a rollout has no others."""
    mean, number = _mean(rewards, counted)
    return np.where(number > 1, (rewards - mean) * number / np.maximum(number - 1, 1), 0.0)


def _centred(rewards: Floats, counted: Bools) -> Floats:
    return rewards - _mean(rewards, counted)[0]


def _standardised(rewards: Floats, counted: Bools) -> Floats:
    centred = _centred(rewards, counted)
    _, number = _mean(rewards, counted)
    variance = np.where(counted, centred**2, 0.0).sum(axis=1, keepdims=True) / np.maximum(number - 1, 1)
    return np.where(number > 1, centred / (np.sqrt(variance) + STD_EPSILON), 0.0)


_GROUPED: dict[str, Callable[[Floats, Bools], Floats]] = {
    "rloo": _leave_one_out,
    "grpo": _standardised,
    "dr_grpo": _centred,
}
