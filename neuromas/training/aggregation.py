"""How token losses become one number: weights that make a step's buckets and processes add up exactly.

TRL computes each loss as a mean over the rows or tokens it is given. A step is cut into buckets, and over processes;
the weights here turn the sum of the buckets' losses into the loss of the whole step, whatever the cut. Gradients of
several processes are averaged (data parallel), hence the factor ``processes``.
"""

from __future__ import annotations

from dataclasses import dataclass

from neuromas.spec.training import Loss


@dataclass(frozen=True, slots=True)
class Amount:
    """Call rows and completion tokens of a bucket, or of a whole step over all processes."""

    rows: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The normalisation of one step's loss.

    Attributes:
        loss: which loss. "rollout" is the sum over the tokens of a rollout's calls, mean over ``rollouts``: TRL's
            dr_grpo without its constant, so that learning rate and clip do not depend on nodes or token budget.
        total: rows and tokens that are trained on in this step, over all processes.
        rollouts: rollouts of the step over all processes, those without gradient included.
        max_tokens: TRL's ``max_completion_length``.
        processes: data-parallel processes.
    """

    loss: Loss
    total: Amount
    rollouts: int
    max_tokens: int
    processes: int = 1

    def weight(self, bucket: Amount) -> float:
        """Return the factor on TRL's loss of a bucket."""
        if self.loss == "rollout":
            return bucket.rows * self.max_tokens * self.processes / self.rollouts
        if self.loss == "bnpo":
            return bucket.tokens * self.processes / max(1, self.total.tokens)
        if self.loss in ("dapo", "cispo", "vespo"):  # TRL divides by the tokens of the whole step already
            return 1.0
        return bucket.rows * self.processes / max(1, self.total.rows)

    def entropy_coefficient(self, bucket: Amount, weight: float) -> float:
        """Return the coefficient on TRL's bonus (a mean over the bucket's tokens) that stands for ``weight``.

        The bonus then is ``weight`` times the entropy, aggregated over tokens, calls and rollouts as the loss is.
        """
        if self.loss in ("rollout", "dr_grpo"):
            return weight * bucket.tokens / (bucket.rows * self.max_tokens)
        if self.loss == "luspo":
            return weight * bucket.tokens / bucket.rows
        if self.loss in ("dapo", "cispo", "vespo"):
            return weight * bucket.tokens * self.processes / max(1, self.total.tokens)
        return weight
