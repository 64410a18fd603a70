"""A step's rollouts as rows for the trainer: one row per (prompt, Node, rollout), in that order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuromas.errors import RolloutError
from neuromas.rollout.record import Group, NodeCall

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CallRows:
    """The calls of all groups of a step.

    Row (p * nodes + i) * G + g is the call of Node i in rollout g of group p; there is a row for every Node of every
    rollout, also where the call is missing.

    Attributes:
        nodes: ids of the Nodes, in topological order.
        group_size: rollouts per group, G.
        calls: the call of each row; None where the rollout failed before it, or in it.
        rewards: terminal reward of each rollout, shape (groups, G).
        failed: whether a rollout failed, shape (groups, G).
    """

    nodes: tuple[str, ...]
    group_size: int
    calls: tuple[NodeCall | None, ...]
    rewards: Floats
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
    def present_by_rollout(self) -> Bools:
        """Whether Node i made a usable call, shape (groups, G, nodes)."""
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
        """Return values given per (group, rollout, node) as one value per row."""
        return np.ascontiguousarray(values.transpose(0, 2, 1)).reshape(-1)

    def rewards_per_row(self) -> Floats:
        """Return every row's terminal reward, shape (rows,)."""
        return np.repeat(self.rewards, len(self.nodes), axis=0).reshape(-1)


def call_rows(groups: Sequence[Group], nodes: tuple[str, ...]) -> CallRows:
    """Return the rows of a step's groups.

    Raises:
        RolloutError: groups of unequal size, a call of a Node that the graph does not have, or a reward that is not
            finite.
    """
    sizes = {len(group.rollouts) for group in groups}
    if len(sizes) != 1:
        raise RolloutError(f"groups of a step have sizes {sorted(sizes)}, expected one size for all")
    place = {node: index for index, node in enumerate(nodes)}
    size = sizes.pop()
    rows: list[NodeCall | None] = [None] * (len(groups) * len(nodes) * size)
    for number, group in enumerate(groups):
        for index, rollout in enumerate(group.rollouts):
            if not math.isfinite(rollout.reward):
                raise RolloutError(
                    f"step {rollout.provenance.step}: rollout {index} of question {group.example.id!r} has reward "
                    f"{rollout.reward}; the task's score() must return a number in [0, 1]"
                )
            for call in rollout.calls:
                if call.node not in place:
                    raise RolloutError(f"a rollout has a call of node {call.node!r}, the graph has {list(nodes)}")
                if call.finish_reason != "error" and call.completion_token_ids:
                    rows[(number * len(nodes) + place[call.node]) * size + index] = call
    return CallRows(
        nodes=nodes,
        group_size=size,
        calls=tuple(rows),
        rewards=np.array([[rollout.reward for rollout in group.rollouts] for group in groups], dtype=np.float64),
        failed=np.array([[rollout.failure is not None for rollout in group.rollouts] for group in groups]),
    )
