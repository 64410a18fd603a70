"""Intervals and paired tests for held-out accuracies. Pure Python; loads no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the ends of its 95 % interval, and the method that gives them."""

    value: float
    low: float
    high: float
    method: Literal["wilson", "bootstrap"] = "wilson"

    @property
    def bootstrap(self) -> tuple[float, float] | None:
        """The ends where they were found by bootstrap."""
        return (self.low, self.high) if self.method == "bootstrap" else None


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two systems on the same examples.

    Attributes:
        gain: mean of the second minus mean of the first.
        low: end of the gain's 95 % bootstrap interval.
        high: the other end.
        p_value: two-sided; exact McNemar where all scores are 0 or 1, else a sign-flip permutation test.
        wins: examples on which the second scores higher.
        losses: examples on which it scores lower.
    """

    gain: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int


def wilson_interval(correct: float, examples: int, z: float = Z_95) -> Interval:
    """Return the score interval of a proportion. Source: Wilson 1927, JASA 22(158).

    Raises:
        ValueError: no examples, or more correct than there are.
    """
    if examples < 1 or not 0 <= correct <= examples:
        raise ValueError(f"wilson_interval: got {correct} of {examples}; expected 0..n of n >= 1")
    share = correct / examples
    centre = share + z * z / (2 * examples)
    spread = z * math.sqrt(share * (1 - share) / examples + z * z / (4 * examples * examples))
    scale = 1 + z * z / examples
    return Interval(share, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, resamples: int = 2000) -> Interval:
    """Return the percentile interval of a mean. Source: Efron 1979, Annals of Statistics 7(1).

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("bootstrap_interval: got no values; expected at least 1")
    random = Random(seed)
    means = sorted(_mean(random.choices(values, k=len(values))) for _ in range(resamples))
    low, high = means[int(0.025 * resamples)], means[min(resamples - 1, int(0.975 * resamples))]
    return Interval(_mean(values), low, high, "bootstrap")


def reward_interval(rewards: Sequence[float]) -> Interval:
    """Return the interval of a mean reward: Wilson's where all are 0 or 1, else by bootstrap.

    Raises:
        ValueError: no rewards.
    """
    if all(reward in (0, 1) for reward in rewards):
        return wilson_interval(sum(rewards), len(rewards))
    return bootstrap_interval(rewards)


def exact_mcnemar(wins: int, losses: int) -> float:
    """Return the two-sided p-value that wins and losses are equally likely (binomial, 1/2).

    Source: McNemar 1947, in the exact form.
    """
    total = wins + losses
    tail = sum(math.comb(total, k) for k in range(min(wins, losses) + 1))
    return float(min(1.0, 2 * tail / 2**total))


def paired_test(first: Sequence[float], second: Sequence[float], *, seed: int = 0, resamples: int = 2000) -> PairedTest:
    """Compare two systems by their scores on the same examples, in the same order.

    Raises:
        ValueError: the sequences are empty or of unequal length.
    """
    if not first or len(first) != len(second):
        raise ValueError(f"paired_test: got {len(first)} and {len(second)} scores; expected equally many, at least 1")
    differences = [after - before for before, after in zip(first, second, strict=True)]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    random = Random(seed)
    means = sorted(_mean(random.choices(differences, k=len(differences))) for _ in range(resamples))
    binary = all(score in (0, 1) for score in (*first, *second))
    return PairedTest(
        gain=_mean(differences),
        low=means[int(0.025 * resamples)],
        high=means[min(resamples - 1, int(0.975 * resamples))],
        p_value=exact_mcnemar(wins, losses) if binary else _sign_flips(differences, random, resamples),
        wins=wins,
        losses=losses,
    )


def _sign_flips(differences: Sequence[float], random: Random, resamples: int) -> float:
    observed = abs(_mean(differences)) - 1e-12
    extreme = sum(
        abs(_mean([d if random.random() < 0.5 else -d for d in differences])) >= observed for _ in range(resamples)
    )
    return (extreme + 1) / (resamples + 1)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
