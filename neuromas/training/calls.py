"""A step's rollouts as rows for the trainer: one row per (question, Node, sample), in that order.

With shared credit sample g of every Node is its call in rollout g. With counterfactual credit the samples of a Node are
those of one context: its call in the anchor, then those in its own replays. The calls that follow in a replay say what
that call was worth; they are samples of contexts that have no others, and are not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromas.errors import RolloutError
from neuromas.rollout.record import Group, NodeCall, Rollout
from neuromas.spec.training import TrainingSpec

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CallRows:
    """The calls of all groups of a step.

    Row (p * nodes + i) * G + g is sample g of Node i in group p; there is a row for each, also where the call is
    missing.

    Attributes:
        nodes: ids of the Nodes, in topological order.
        group_size: samples of each Node per group, G.
        calls: the call of each row; None where the rollout failed before it, or in it.
        rewards: terminal reward of the rollout that a sample belongs to, shape (groups, G, nodes).
        outcomes: terminal reward of every rollout of the groups, shape (rollouts,).
        failed: whether a rollout failed, shape (rollouts,).
    """

    nodes: tuple[str, ...]
    group_size: int
    calls: tuple[NodeCall | None, ...]
    rewards: Floats
    outcomes: Floats
    failed: Bools

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return int(self.rewards.shape[0])

    @property
    def present(self) -> Bools:
        """Whether a row has a usable call, shape (rows,)."""
        return np.array([call is not None for call in self.calls])

    @property
    def present_by_place(self) -> Bools:
        """Whether sample g of Node i is usable, shape (groups, G, nodes)."""
        return self.present.reshape(self.num_groups, len(self.nodes), self.group_size).transpose(0, 2, 1)

    @property
    def node_of_row(self) -> Ints:
        """Index of each row's Node, shape (rows,)."""
        return np.tile(np.repeat(np.arange(len(self.nodes)), self.group_size), self.num_groups)

    @property
    def group_of_row(self) -> Ints:
        """Index of each row's group, shape (rows,)."""
        return np.repeat(np.arange(self.num_groups), len(self.nodes) * self.group_size)

    def per_row(self, values: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return values given per (group, sample, node) as one value per row."""
        return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(-1)


def rows_of(groups: Sequence[Group], nodes: tuple[str, ...], training: TrainingSpec) -> CallRows:
    """Return the rows of a step's groups, by the credit and the group size of the run.

    Raises:
        RolloutError: as ``call_rows``.
    """
    return call_rows(groups, nodes, training.group_size if training.credit == "counterfactual" else None)


def call_rows(groups: Sequence[Group], nodes: tuple[str, ...], context_size: int | None = None) -> CallRows:
    """Return the rows of some groups.

    Args:
        groups: their rollouts; of an anchor and its replays where ``context_size`` is given.
        nodes: ids of the Nodes, in topological order.
        context_size: samples of each Node in its context, the anchor's included; None = groups have no replays. Where
            an anchor failed and has none, its group's samples beside it are missing and share its reward.

    Raises:
        RolloutError: groups of unequal size, a call of a Node that the graph does not have, or a reward that is not
            finite.
    """
    size = _group_size(groups) if context_size is None else context_size
    place = {node: index for index, node in enumerate(nodes)}
    rows: list[NodeCall | None] = [None] * (len(groups) * len(nodes) * size)
    rewards = np.empty((len(groups), size, len(nodes)))
    for number, group in enumerate(groups):
        if context_size is not None:
            rewards[number] = group.rollouts[0].reward
        for rollout in group.rollouts:
            _check_reward(rollout)
            sample, asked = rollout.index, slice(None)
            if rollout.replayed is not None:
                node = place[rollout.replayed]
                sample, asked = rollout.index - node * (size - 1), slice(node, node + 1)
            rewards[number, sample, asked] = rollout.reward
            for call in rollout.calls:
                if call.node not in place:
                    raise RolloutError(f"a rollout has a call of node {call.node!r}, the graph has {list(nodes)}")
                is_sample = rollout.replayed in (None, call.node)
                if is_sample and call.finish_reason != "error" and call.completion_token_ids:
                    rows[(number * len(nodes) + place[call.node]) * size + sample] = call
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return CallRows(
        nodes=nodes,
        group_size=size,
        calls=tuple(rows),
        rewards=rewards,
        outcomes=np.array([rollout.reward for rollout in rollouts], dtype=np.float64),
        failed=np.array([rollout.failure is not None for rollout in rollouts]),
    )


def _group_size(groups: Sequence[Group]) -> int:
    sizes = {len(group.rollouts) for group in groups}
    if len(sizes) != 1:
        raise RolloutError(f"groups of a step have sizes {sorted(sizes)}, expected one size for all")
    return sizes.pop()


def _check_reward(rollout: Rollout) -> None:
    if not math.isfinite(rollout.reward):
        raise RolloutError(
            f"step {rollout.provenance.step}: rollout {rollout.index} of question {rollout.example.id!r} has reward "
            f"{rollout.reward}; the task's score() must return a number in [0, 1]"
        )
