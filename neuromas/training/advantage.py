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
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuromas.errors import TrainingError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SumOver = Callable[[list[float]], list[float]]
"""Sums numbers over the data-parallel processes, each in its place."""
Estimator = Literal["reinforce", "rloo", "grpo", "dr_grpo"]

STD_EPSILON = 1e-4


@dataclass(slots=True)
class RunningBaseline:
    """Bias-corrected exponential mean of past rewards; 0 before the first.

    Attributes:
        decay: weight of the past at each update, in [0, 1).
        mean: uncorrected mean.
        count: updates.
    """

    decay: float = 0.9
    mean: float = 0.0
    count: int = 0

    @property
    def value(self) -> float:
        """The mean corrected for its start at 0."""
        return self.mean / (1 - self.decay**self.count) if self.count else 0.0

    def update(self, rewards: Floats, sum_over: SumOver | None = None) -> None:
        """Take in the rewards of one more step, after its advantages were computed.

        ``sum_over`` sums numbers over data-parallel processes, so that all keep the same baseline; None for one.
        """
        amounts = [float(rewards.sum()), float(rewards.size)]
        total, number = amounts if sum_over is None else sum_over(amounts)
        if number:
            self.mean = self.decay * self.mean + (1 - self.decay) * total / number
            self.count += 1

    def to_document(self) -> dict[str, dict[str, float] | dict[str, int]]:
        """Return the state for a checkpoint, whose format holds it under the key ""."""
        return {"means": {"": self.mean}, "counts": {"": self.count}} if self.count else {"means": {}, "counts": {}}

    def restore(self, document: Mapping[str, Mapping[str, float]]) -> None:
        """Take over the state of a checkpoint."""
        self.mean = float(document["means"].get("", 0.0))
        self.count = int(document["counts"].get("", 0))


def call_advantages(rewards: Floats, present: Bools, estimator: Estimator, running: RunningBaseline) -> Floats:
    """Return the advantage of every call, 0 where there is no call.

    Args:
        rewards: terminal reward per rollout, finite, shape (groups, G). A failed rollout keeps its reward.
        present: whether Node i of a rollout made a usable call, shape (groups, G, nodes).
        estimator: how the baseline is made; see the module.
        running: baseline of "reinforce"; read here, never changed.

    Returns:
        Shape (groups, G, nodes).

    Raises:
        TrainingError: shapes do not fit.
    """
    if rewards.ndim != 2 or present.shape[:2] != rewards.shape:
        raise TrainingError(
            f"advantages: got rewards {rewards.shape} and calls {present.shape}, "
            "expected (groups, G) and (groups, G, nodes)"
        )
    advantages = rewards - running.value if estimator == "reinforce" else _GROUPED[estimator](rewards)
    return np.where(present, advantages[:, :, None], 0.0)


def groups_with_signal(advantages: Floats) -> Bools:
    """Return which groups have any advantage that is not 0, shape (groups,): the others have no policy gradient."""
    return np.asarray((np.abs(advantages) > 1e-12).any(axis=(1, 2)))


def _centred(rewards: Floats) -> Floats:
    return np.asarray(rewards - rewards.mean(axis=1, keepdims=True))


def _leave_one_out(rewards: Floats) -> Floats:
    """r_i minus the mean of the others = (r_i - mean) * n / (n - 1); 0 where a rollout has no others."""
    number = rewards.shape[1]
    return np.asarray(_centred(rewards) * number / max(number - 1, 1))


def _standardised(rewards: Floats) -> Floats:
    centred = _centred(rewards)
    variance = (centred**2).sum(axis=1, keepdims=True) / max(rewards.shape[1] - 1, 1)
    return np.asarray(centred / (np.sqrt(variance) + STD_EPSILON))


_GROUPED: dict[str, Callable[[Floats], Floats]] = {
    "rloo": _leave_one_out,
    "grpo": _standardised,
    "dr_grpo": _centred,
}
