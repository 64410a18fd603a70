"""What a step reports: names, and a meter whose parts add up over buckets and processes.

Names are ``area/name_unit`` with the Node or Adapter last where there is one:

- rollout/: reward_mean, rollouts, calls, tokens (generated), prompt_tokens, truncated_fraction, failed_fraction,
  length_mean/<node> (tokens), refilled_groups
- reward/: what the task tells beside the reward, by its names; means over the rollouts that it told them of
- train/: loss, learning_rate, groups_kept, entropy/<node> (nats per token), kl/<node> (to the base, nats per token),
  clip_fraction/<node> (ratios that the clip of the loss holds), grad_norm/<adapter> (before clipping),
  packed_fraction (tokens computed of padded ones), budget_share/<adapter> (of its parts that train, where its kind has
  a budget)
- parity/: logprob_diff_mean and logprob_diff_mean/<node>, logprob_diff_max (of a token), call_diff_max/<node> (mean of
  the worst call), all trainer against engine in nats; stale_fraction (rows that an earlier version sampled: a few are
  compared, with its weights); drift_mean is their difference from the trained weights, which is no error
- stage/: level (where the task has levels), chance (reward of a guess at that level, where the task knows it)
- time/: rollout_s (waiting for rollouts), sync_s (publishing), plan_s (advantages and packing), step_s

Where a step trains on the rollouts of an earlier one (training.num_iterations), their cost and parity/ are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class StepMeter:
    """Ratios of sums, and maxima, collected during one step."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}
        self._peaks: dict[str, float] = {}

    def add(self, name: str, amount: float, count: float = 1.0) -> None:
        """Add to a mean: ``amount`` to its numerator, ``count`` to its denominator."""
        pair = self._sums.setdefault(name, [0.0, 0.0])
        pair[0] += float(amount)
        pair[1] += float(count)

    def total(self, name: str, amount: float) -> None:
        """Add to a plain sum."""
        self._sums.setdefault(name, [0.0, -1.0])[0] += float(amount)

    def peak(self, name: str, value: float) -> None:
        """Raise a maximum."""
        self._peaks[name] = max(self._peaks.get(name, 0.0), float(value))

    def add_by_node(self, name: str, nodes: Sequence[str], node_of_row: Ints, amounts: Floats, counts: Floats) -> None:
        """Add per-row sums (shape (rows,)) to one mean per Node, ``<name>/<node>``."""
        numerators = np.bincount(node_of_row, amounts, minlength=len(nodes))
        denominators = np.bincount(node_of_row, counts, minlength=len(nodes))
        for node, numerator, denominator in zip(nodes, numerators, denominators, strict=True):
            self.add(f"{name}/{node}", numerator, denominator)

    def means(self, prefix: str) -> dict[str, float]:
        """Return the means collected so far in this process under names with a prefix, by the rest of their names."""
        found = {name.removeprefix(prefix): pair for name, pair in self._sums.items() if name.startswith(prefix)}
        return {name: amount / count for name, (amount, count) in found.items() if count > 0}

    def peaks(self, prefix: str) -> dict[str, float]:
        """Return the maxima collected so far in this process under names with a prefix, by the rest of their names."""
        return {name.removeprefix(prefix): value for name, value in self._peaks.items() if name.startswith(prefix)}

    def include(self, other: StepMeter) -> None:
        """Add what another process collected; it may lack names that this one has, and the reverse."""
        for name, (amount, count) in other._sums.items():
            pair = self._sums.setdefault(name, [0.0, 0.0])
            pair[0] += amount
            pair[1] += count
        for name, value in other._peaks.items():
            self.peak(name, value)

    def values(self) -> dict[str, float]:
        """Return all metrics; means of nothing are left out."""
        values = {}
        for name, (amount, count) in self._sums.items():
            if count < 0:
                values[name] = amount
            elif count > 0:
                values[name] = amount / count
        return values | self._peaks
