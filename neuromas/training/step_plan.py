"""A step's rollouts, prepared for the update: rows, advantages, which rows are trained on, and their forward passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromas.errors import TrainingError
from neuromas.losses.contract import Totals
from neuromas.rollout.record import Group, NodeCall
from neuromas.spec.parts import SamplingSpec
from neuromas.spec.training import TrainingSpec
from neuromas.topology.graph import Topology
from neuromas.training.advantage import RunningBaseline, SumOver, call_advantages, with_signal
from neuromas.training.calls import CallRows, rows_of
from neuromas.training.packing import Bucket, pack

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NodePolicies:
    """Of each Node, in topological order: the adapter it trains and the temperature it samples at.

    Attributes:
        nodes: their ids.
        adapters: index of each one's adapter in the bank.
        temperatures: of each.
        max_tokens: largest token budget of any.
    """

    nodes: tuple[str, ...]
    adapters: tuple[int, ...]
    temperatures: tuple[float, ...]
    max_tokens: int

    @classmethod
    def of(cls, topology: Topology, adapters: Sequence[str], sampling: SamplingSpec) -> NodePolicies:
        """Read the Nodes of a topology; ``adapters`` are the bank's, ``sampling`` holds where a Node sets nothing."""
        nodes = [topology.node(node) for node in topology.order]
        return cls(
            nodes=topology.order,
            adapters=tuple(adapters.index(topology.adapter_of(node.id)) for node in nodes),
            temperatures=tuple(
                sampling.temperature if node.temperature is None else node.temperature for node in nodes
            ),
            max_tokens=max(sampling.max_tokens if node.max_tokens is None else node.max_tokens for node in nodes),
        )


@dataclass(frozen=True, slots=True, eq=False)
class StepPlan:
    """What the trainer does with one step's rollouts.

    Attributes:
        rows: all call rows.
        totals: of the step over all processes, whatever is kept.
        in_use: adapters that made a usable call in the step, in any process, shape (adapters,), bool.
        advantages: one per row, shape (rows,).
        kept: rows that are trained on, ascending, shape (kept,); "kept row k" is ``rows.calls[kept[k]]``. None where
            this process got no usable call, but another did.
        groups_kept: groups with a gradient.
        current: whether the published weights sampled a kept row, shape (kept,).
        buckets: forward passes over the kept rows; their ``call_rows`` count kept rows.
        routes: adapter of each packing group, shape (packing groups,).
        temperatures: temperature of each packing group, shape (packing groups,).
        padded_tokens: tokens that one padded row per call would have.
    """

    rows: CallRows
    totals: Totals
    in_use: NDArray[np.bool_]
    advantages: NDArray[np.float64]
    kept: Ints
    groups_kept: int
    current: NDArray[np.bool_]
    buckets: tuple[Bucket, ...]
    routes: Tensor
    temperatures: Tensor
    padded_tokens: int

    @property
    def kept_calls(self) -> list[NodeCall]:
        """The calls that are trained on."""
        return [call for index in self.kept if (call := self.rows.calls[index]) is not None]


def plan_step(
    groups: Sequence[Group],
    policies: NodePolicies,
    spec: TrainingSpec,
    running: RunningBaseline,
    *,
    keep_all: bool,
    current_version: int,
    tokens_per_forward: int,
    attention_scale: int,
    sum_over: SumOver | None = None,
) -> StepPlan:
    """Return the plan of a step; takes its rewards into the running baseline.

    Args:
        groups: the step's rollouts.
        policies: of the graph's Nodes.
        spec: the training section.
        running: baseline of estimator "reinforce".
        keep_all: train on groups without a policy gradient too, because a KL or entropy term acts on them.
        current_version: adapter version of the trainer's weights.
        tokens_per_forward: see ``packing.pack``.
        attention_scale: see ``packing.pack``.
        sum_over: sums numbers over the data-parallel processes; None for one.

    Raises:
        TrainingError: no rollout of any process has a single usable call.
    """
    rows = rows_of(groups, policies.nodes, spec)
    by_place = call_advantages(rows.rewards, rows.present_by_place, spec.estimator, running)
    running.update(rows.outcomes, sum_over)
    signal = with_signal(by_place)
    trained = signal if spec.drop_zero_variance and not keep_all else np.ones_like(signal)
    usable = rows.present
    totals, in_use = _totals(rows, policies, sum_over)
    kept = np.flatnonzero(usable & trained[rows.group_of_row, rows.node_of_row])
    if not kept.size and usable.any():
        # Nothing to learn from. One group stays, with advantages 0, so that the step is an ordinary one.
        kept = np.flatnonzero(usable & (rows.group_of_row == rows.group_of_row[np.argmax(usable)]))
    calls = [call for index in kept if (call := rows.calls[index]) is not None]
    keys, packing_group = _packing_groups(rows, kept, policies)
    buckets = pack(
        [call.prompt_token_ids for call in calls],
        [call.completion_token_ids for call in calls],
        packing_group,
        share=spec.forward == "packed",
        tokens_per_forward=tokens_per_forward,
        attention_scale=attention_scale,
    )
    lengths = [len(call.prompt_token_ids) + len(call.completion_token_ids) - 1 for call in calls]
    return StepPlan(
        rows=rows,
        totals=totals,
        in_use=in_use,
        advantages=np.asarray(rows.per_row(by_place), dtype=np.float64),
        kept=kept,
        groups_kept=int(signal.any(axis=1).sum()),
        current=np.array([call.adapter is None or call.adapter.version == current_version for call in calls]),
        buckets=tuple(buckets),
        routes=torch.tensor([adapter for _, adapter, _ in keys]),
        temperatures=torch.tensor([temperature for _, _, temperature in keys]),
        padded_tokens=max(lengths, default=0) * len(lengths),
    )


def _totals(rows: CallRows, policies: NodePolicies, sum_over: SumOver | None) -> tuple[Totals, NDArray[np.bool_]]:
    """Return the step's totals and which adapters made a usable call, over all processes.

    Raises:
        TrainingError: there is no usable call.
    """
    lengths = [0 if call is None else len(call.completion_token_ids) for call in rows.calls]
    by_node = np.bincount(rows.node_of_row[rows.present], minlength=len(rows.nodes))
    numbers = [float(number) for number in (rows.num_groups * rows.group_size, sum(lengths), *by_node)]
    rollouts, tokens, *calls = (int(number) for number in (numbers if sum_over is None else sum_over(numbers)))
    if not sum(calls):
        raise TrainingError("no rollout of this step has a usable call; see the failures in rollouts.jsonl")
    in_use = np.bincount(np.array(policies.adapters), calls, minlength=max(policies.adapters) + 1) > 0
    return Totals(rollouts, sum(calls), tokens, policies.max_tokens), in_use


def _packing_groups(rows: CallRows, kept: Ints, policies: NodePolicies) -> tuple[list[tuple[int, int, float]], Ints]:
    """Return the distinct (group, adapter, temperature) of the kept rows, and which one each row has."""
    found: dict[tuple[int, int, float], int] = {}
    index = []
    for group, node in zip(rows.group_of_row[kept].tolist(), rows.node_of_row[kept].tolist(), strict=True):
        key = (group, policies.adapters[node], policies.temperatures[node])
        index.append(found.setdefault(key, len(found)))
    return list(found), np.array(index, dtype=np.int64)
