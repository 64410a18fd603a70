"""Advantages: terminal rewards -> one number per Node call. Pure numpy; knows no model and no trainer.

The G calls of a Node to one question are compared with each other. With shared credit they are those of G rollouts,
and all calls of a rollout get the same advantage; with counterfactual credit they are samples in one context, so that
their rewards differ by what this Node said and by chance after it. All estimators subtract a baseline b from the reward
r of the rollout that a call belongs to:

- "reinforce": b is a running mean of earlier steps' rewards. Source: Williams 1992, section 2 (reinforcement baseline).
- "rloo": b is the mean reward of the other calls. Source: arXiv:2402.14740, eq. 8; in a context: arXiv:2603.06859 (C3).
- "grpo": b is the calls' mean, and the difference is divided by their standard deviation + 1e-4 (with Bessel's
  correction, as TRL computes it). Source: arXiv:2402.03300, section 4.1.2.
- "dr_grpo": b is the calls' mean, nothing is divided. Source: arXiv:2503.20783, section 3.2.
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
        rewards: terminal reward of the rollout that call g of Node i belongs to, finite, shape (groups, G, nodes). A
            failed rollout keeps its reward.
        present: whether the call is usable, shape (groups, G, nodes).
        estimator: how the baseline is made; see the module.
        running: baseline of "reinforce"; read here, never changed.

    Returns:
        Shape (groups, G, nodes).

    Raises:
        TrainingError: shapes do not fit.
    """
    if rewards.ndim != 3 or present.shape != rewards.shape:
        raise TrainingError(
            f"advantages: got rewards {rewards.shape} and calls {present.shape}, expected (groups, G, nodes) of both"
        )
    advantages = rewards - running.value if estimator == "reinforce" else _GROUPED[estimator](rewards)
    return np.where(present, advantages, 0.0)


def with_signal(advantages: Floats) -> Bools:
    """Return in which groups a Node has any advantage that is not 0, shape (groups, nodes): else it has no gradient."""
    return np.asarray((np.abs(advantages) > 1e-12).any(axis=1))


def _centred(rewards: Floats) -> Floats:
    return np.asarray(rewards - rewards.mean(axis=1, keepdims=True))


def _leave_one_out(rewards: Floats) -> Floats:
    """r_i minus the mean of the others = (r_i - mean) * n / (n - 1); 0 where a call has no others."""
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
