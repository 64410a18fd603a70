"""Held-out evaluation: accuracies with their intervals, and what each Node has come to say. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuromas.errors import RolloutError
from neuromas.rollout.record import Group, Rollout
from neuromas.tasks.base import Task
from neuromas.tasks.held_out import HeldOutPart
from neuromas.topology.graph import Topology
from neuromas.training.statistics import Interval, reward_interval

MAX_LABELS: Final = 16
"""Labels of a Node's messages that are told: where answers are numbers there may be one for each example."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Rewards on held-out examples, one rollout each.

    Attributes:
        rewards: terminal reward per example, in the examples' order; 0 for those that could not be asked.
        interval: mean of those that could, with its 95 % interval.
        unasked: examples that could not be asked, such as those whose prompt is longer than the context.
    """

    rewards: tuple[float, ...]
    interval: Interval
    unasked: int = 0

    @property
    def examples(self) -> int:
        """How many examples were asked."""
        return len(self.rewards) - self.unasked

    @property
    def value(self) -> float:
        """Mean reward."""
        return self.interval.value

    def to_document(self) -> dict[str, Any]:
        """Return the mean with its 95 % interval, and the method that gave it."""
        return {
            "correct": sum(self.rewards),
            "examples": self.examples,
            "value": self.value,
            "low": self.interval.low,
            "high": self.interval.high,
            "interval": self.interval.method,
            "unasked": self.unasked,
        }


@dataclass(frozen=True, slots=True)
class Said:
    """One label among a Node's messages: how often (share of all its messages), and how often correct."""

    label: str
    share: float
    correct: float


@dataclass(frozen=True, slots=True)
class NodeRole:
    """What a Node says, as far as the task can read it.

    Attributes:
        node: id of the Node.
        position: (layer, index) in the graph.
        said: the ``MAX_LABELS`` most frequent labels by falling share; messages that state nothing are left out.
        correct: share of all its messages that state something correct.
        tokens: mean length of its messages.
    """

    node: str
    position: tuple[int, int]
    said: tuple[Said, ...]
    correct: float
    tokens: float


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
    part: HeldOutPart
    greedy: bool = True
    votes: int = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found: rewards with their interval, and what each Node says, in topological order."""

    accuracy: Accuracy
    roles: tuple[NodeRole, ...]


def accuracy(groups: Sequence[Group]) -> Accuracy:
    """Return the accuracy of groups of one rollout.

    Raises:
        RolloutError: none of the examples could be asked.
    """
    rollouts = [group.rollouts[0] for group in groups]
    asked = [rollout.reward for rollout in rollouts if not _is_unasked(rollout)]
    if not asked:
        reasons = {rollout.failure for rollout in rollouts}
        raise RolloutError(f"none of {len(rollouts)} held-out examples could be asked; {next(iter(reasons), '')}")
    rewards = tuple(rollout.reward for rollout in rollouts)
    return Accuracy(rewards, reward_interval(asked), len(rollouts) - len(asked))


def vote(group: Group, task: Task) -> Group:
    """Return the group with one rollout: the first of those that give its most frequent answer.

    Of equally frequent answers the one that came first counts; rollouts without an answer have no vote. Source: Wang et
    al. 2022, arXiv 2203.11171 (self-consistency).
    """
    answers = [
        None if rollout.failure is not None else task.answer_in(group.example, rollout.answer)
        for rollout in group.rollouts
    ]
    counts = Counter(answer for answer in answers if answer is not None)
    place = answers.index(counts.most_common(1)[0][0]) if counts else 0
    return Group(group.example, (group.rollouts[place],))


def _is_unasked(rollout: Rollout) -> bool:
    """Whether the engine refused a call; an answer that was given and could not be scored is wrong."""
    return any(call.finish_reason == "error" for call in rollout.calls)


def node_roles(groups: Sequence[Group], task: Task, positions: dict[str, tuple[int, int]]) -> list[NodeRole]:
    """Return what each Node says over all rollouts of the groups; ``positions`` names the Nodes in order."""
    labels: dict[str, Counter[str]] = {node: Counter() for node in positions}
    right: dict[str, Counter[str]] = {node: Counter() for node in positions}
    calls: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for group in groups:
        for rollout in group.rollouts:
            for call in rollout.calls:
                calls[call.node] += 1
                tokens[call.node] += len(call.completion_token_ids)
                stated = task.describe(group.example, call.text)
                if stated is not None:
                    labels[call.node][stated.label] += 1
                    right[call.node][stated.label] += stated.correct
    return [
        NodeRole(
            node=node,
            position=position,
            said=tuple(
                Said(label, count / calls[node], right[node][label] / count)
                for label, count in labels[node].most_common(MAX_LABELS)
            ),
            correct=right[node].total() / max(1, calls[node]),
            tokens=tokens[node] / max(1, calls[node]),
        )
        for node, position in positions.items()
    ]
