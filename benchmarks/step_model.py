"""How long an optimizer step takes, by the size of graph, model and cluster: a linear model of its parts. Pure.

With c calls of x computed tokens over w weights, whose longest path takes p passes of the engine:

    rollouts = p (a + w_bytes / B) + c (h + 2 w x / F)
    update   = f + c (u + 4 w x / T)
    publish  = e nodes

2 and 4 operations per weight and token are those of a forward pass, and of a forward and a backward pass through frozen
weights, which need no gradient of their own. What is read once a pass are the weights.
Workers share calls, not passes: a message cannot be written before those that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Work:
    """What a step computes.

    Attributes:
        nodes, depth: of the graph: calls of a rollout, and those on its longest path.
        questions, group: of a step, and rollouts of each.
        prompt_tokens, message_tokens: of a call, on average.
        read_tokens: of its prompt, those that differ between the rollouts of a group: messages.
        weights, weight_bytes: numbers of the base, and bytes of one.
        kept: share of groups whose answers differ, which are trained on.
    """

    nodes: int
    depth: int
    questions: int
    group: int
    prompt_tokens: float
    message_tokens: float
    read_tokens: float
    weights: float
    weight_bytes: float = 2.0
    kept: float = 1.0

    @property
    def calls(self) -> int:
        """Calls of a step."""
        return self.nodes * self.questions * self.group

    @property
    def passes(self) -> float:
        """Passes of the engine one after the other: one for each token on the longest path, and one for each prompt."""
        return self.depth * (self.message_tokens + 1)

    @property
    def computed_tokens(self) -> float:
        """Tokens of a call that pass through the base; what a group's prompts have in common does once a group."""
        common = self.prompt_tokens - self.read_tokens
        return common / self.group + self.read_tokens + self.message_tokens


@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine does; seconds of its processor, and what its accelerator reaches.

    Attributes:
        pass_s, call_s: of the rollouts, for each pass of the engine and for each call.
        update_s, row_s: of the update, for all of it and for each call.
        adapter_s: of publishing, for each node.
        read_bytes_s: bytes of weights that a pass reads, per second; infinite where none was seen to matter.
        sample_flops, train_flops: operations per second in rollouts and in the update.
    """

    pass_s: float
    call_s: float
    update_s: float
    row_s: float
    adapter_s: float
    read_bytes_s: float = math.inf
    sample_flops: float = math.inf
    train_flops: float = math.inf


@dataclass(frozen=True, slots=True)
class Cluster:
    """Rollout workers and learners, one device each, and the bytes per second between them."""

    workers: int = 1
    learners: int = 1
    link_bytes_s: float = math.inf


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step's parts."""

    rollout: float
    update: float
    publish: float

    def total(self, *, overlap: bool = False) -> float:
        """Return the seconds of a step; with overlap the next rollouts are sampled while these are trained on."""
        return self.publish + (max if overlap else _plus)(self.rollout, self.update)


def predict(work: Work, rates: Rates, cluster: Cluster = Cluster(), trained: float = 0.0) -> StepTime:
    """Return how long a step takes.

    Args:
        work: of the step.
        rates: of each of the cluster's devices and its host.
        cluster: what the step is spread over.
        trained: numbers of one node; float32 gradients go once around all learners, and adapters to every worker.
    """
    operations = 2 * work.weights * work.computed_tokens
    rollout = work.passes * (rates.pass_s + work.weights * work.weight_bytes / rates.read_bytes_s)
    rollout += work.calls / cluster.workers * (rates.call_s + operations / rates.sample_flops)
    rows = work.calls * work.kept / cluster.learners
    update = rates.update_s + rows * (rates.row_s + 2 * operations / rates.train_flops)
    sent = 4 * trained * work.nodes / cluster.link_bytes_s
    update += 2 * sent * (1 - 1 / cluster.learners)
    return StepTime(rollout, update, work.nodes * rates.adapter_s + sent)


def fit(measured: Sequence[tuple[Work, StepTime]]) -> Rates:
    """Return the rates that predict measured steps of one worker and learner best.

    Least squares of relative errors, no rate below zero. Steps of at least two bases tell the host's seconds from the
    device's.

    Raises:
        ValueError: there are fewer steps than rates.
    """
    if len(measured) < 4:
        raise ValueError(f"{len(measured)} measured steps; four or more tell the parts of a step apart")
    works = [work for work, _ in measured]
    passes, calls = _column(work.passes for work in works), _column(work.calls for work in works)
    operations = _column(2 * work.weights * work.computed_tokens for work in works)
    weight_bytes = _column(work.weights * work.weight_bytes for work in works)
    rows = calls * _column(work.kept for work in works)
    rollouts = [passes, passes * weight_bytes, calls, calls * operations]
    pass_s, read, call_s, sample = _nonnegative(rollouts, [seconds.rollout for _, seconds in measured])
    updates = [np.ones(len(works)), rows, 2 * rows * operations]
    update_s, row_s, train = _nonnegative(updates, [seconds.update for _, seconds in measured])
    (adapter_s,) = _nonnegative([_column(work.nodes for work in works)], [seconds.publish for _, seconds in measured])
    return Rates(pass_s, call_s, update_s, row_s, adapter_s, _per(read), _per(sample), _per(train))


def _nonnegative(columns: Sequence[Floats], seconds: Sequence[float]) -> list[float]:
    """Return the factors, none below zero, whose sum of columns has the least squares of relative errors.

    The best of all sets of columns whose own least squares need no negative factor, which are few.
    """
    scaled = np.stack(columns, axis=1) / np.asarray(seconds)[:, None]
    sizes = np.abs(scaled).max(axis=0)
    scaled /= sizes
    best, least = np.zeros(len(columns)), float(len(seconds))
    for number in range(1, len(columns) + 1):
        for chosen in map(list, combinations(range(len(columns)), number)):
            found, *_ = np.linalg.lstsq(scaled[:, chosen], np.ones(len(seconds)))
            error = float(((scaled[:, chosen] @ found - 1) ** 2).sum())
            if found.min() >= 0 and error < least:
                best, least = np.zeros(len(columns)), error
                best[chosen] = found
    return [float(value) for value in best / sizes]


def _column(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)


def _per(seconds: float) -> float:
    return 1 / seconds if seconds > 0 else math.inf


def _plus(a: float, b: float) -> float:
    return a + b
