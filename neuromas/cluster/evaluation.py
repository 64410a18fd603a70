"""Evaluation of a checkpoint or of an untrained graph: accuracy, and what every Node says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from neuromas.checkpoints.location import read_topology
from neuromas.rollout.record import Group
from neuromas.tasks.base import Task
from neuromas.tasks.held_out import Part
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import Accuracy, NodeRole, accuracy, node_roles, vote


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        source: a checkpoint, or a graph to run untrained on the bare base.
        level: task level; None = the task's target.
        examples: how many held-out examples, from the first of the part on.
        part: "test" for figures to report, "validation" for decisions.
        greedy: else sampled as in training.
        votes: answers to each example, of which the most frequent one counts.
    """

    source: Path | Topology
    level: int | None
    examples: int
    part: Part
    greedy: bool = True
    votes: int = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found: rewards with their interval, and what each Node says, in topological order."""

    accuracy: Accuracy
    roles: tuple[NodeRole, ...]


class Evaluating(Protocol):
    """What an evaluation needs of the learner."""

    def rollouts(
        self,
        source: Path | Topology,
        level: int | None,
        examples: int,
        part: Part,
        greedy: bool = True,
        group_size: int = 1,
    ) -> list[Group]:
        """Return rollouts of each held-out example of the part."""


def evaluate(learner: Evaluating, task: Task, request: EvaluationRequest) -> Evaluation:
    """Roll the graph out on held-out examples and count."""
    groups = learner.rollouts(
        request.source, request.level, request.examples, request.part, request.greedy, request.votes
    )
    groups = [vote(group, task) for group in groups]
    graph = request.source if isinstance(request.source, Topology) else read_topology(request.source)
    positions = {node: graph.position(node) for node in graph.order}
    return Evaluation(accuracy(groups), tuple(node_roles(groups, task, positions)))
