"""The contract of a stage: what to do, and what came of it. Pure data, known from the schedule down to the learner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from neuromas.adapters.source import Pull
from neuromas.growth.ledger import Spending
from neuromas.growth.plan import Grown
from neuromas.growth.triggers import Check, Reason, Trigger
from neuromas.spec.growth import InheritanceSpec
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class Stage:
    """Training of one immutable Topology on one level.

    Attributes:
        name: unique in the run, and the same when the run is resumed; names its checkpoints and adapter versions.
        index: its number in the order of training, from 0: what seeds, metrics and events go by.
        topology: the graph to train.
        steps: upper bound of optimizer steps.
        level: task level; None = the task's target.
        decay: whether the learning rate falls towards the end; False keeps it constant after the warm-up.
        warmup: whether the learning rate warms up; False for a stage that goes on where another left off.
        trigger: rule that may end the stage before ``steps``; None = it runs to its end.
        start: checkpoint whose weights it starts from; None = new adapters.
        grown: how the weights of ``start`` become those of ``topology``; None = they fit as they are.
        trains: adapters that train; None = all that the growth does not freeze.
    """

    name: str
    index: int
    topology: Topology
    steps: int
    level: int | None = None
    decay: bool = True
    warmup: bool = True
    trigger: Trigger | None = None
    start: Path | None = None
    grown: Grown | None = None
    trains: tuple[str, ...] | None = None

    @property
    def inherit(self) -> InheritanceSpec | None:
        """Treatment of old adapters and their optimizer state; None = all go on training, moments kept."""
        return None if self.grown is None else self.grown.plan.inherit

    @property
    def frozen(self) -> tuple[str, ...]:
        """Adapters that do not train for ``freeze_steps`` steps."""
        if self.trains is not None:
            return tuple(name for name in self.topology.adapters if name not in self.trains)
        return self._old_adapters("freeze")

    @property
    def freeze_steps(self) -> int | None:
        """Steps after which ``frozen`` adapters train too; None = they stay frozen for the whole stage."""
        return None if self.inherit is None else self.inherit.freeze_steps

    @property
    def pull(self) -> Pull | None:
        """What pulls old adapters to where they were; None = nothing."""
        names, inherit = self._old_adapters("pull"), self.inherit
        if inherit is None or not names:
            return None
        return Pull(names, inherit.pull_weight, inherit.pull_by, inherit.pull_to, inherit.pull_selective)

    @property
    def keeps_moments(self) -> bool:
        """Whether the optimizer's moments of old adapters are carried over from ``start``."""
        return self.start is not None and (self.inherit is None or self.inherit.optimizer == "keep")

    def _old_adapters(self, treatment: str) -> tuple[str, ...]:
        if self.grown is None or self.grown.plan.inherit.old != treatment:
            return ()
        return self.grown.old_adapters


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a stage left behind. Its document is a line of ``stages.jsonl``.

    Attributes:
        name: of the stage.
        stage: its index.
        nodes: size of its graph.
        level: task level; None = the task's target.
        steps: optimizer steps done.
        reason: what ended it.
        accuracy: greedy accuracy on validation questions of its level at its end; NaN where it was interrupted.
        sampled_accuracy: the same, sampled as in training.
        examples: validation questions of both.
        checkpoint: weights and optimizer state at its end.
        spending: what its training sampled.
        checks: held-out checks of the trigger, oldest first.
    """

    name: str
    stage: int
    nodes: int
    level: int | None
    steps: int
    reason: Reason
    accuracy: float
    sampled_accuracy: float
    examples: int
    checkpoint: Path
    spending: Spending
    checks: tuple[Check, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return plain data for JSON; of the checkpoint it holds the name, as a run folder may be moved."""
        checks = [asdict(check) for check in self.checks]
        return {**asdict(self), "checkpoint": self.checkpoint.name, "checks": checks}

    @classmethod
    def from_document(cls, document: Mapping[str, Any], checkpoints: Path) -> StageOutcome:
        """Return the outcome that ``to_document`` wrote; ``checkpoints`` is the folder that holds the run's."""
        return cls(
            **{
                **document,
                "checkpoint": checkpoints / document["checkpoint"],
                "spending": Spending(**document["spending"]),
                "checks": tuple(Check(**check) for check in document["checks"]),
            }
        )


@dataclass(frozen=True, slots=True)
class GrowthNotice:
    """Something the user should read: ``kind`` for programs, ``message`` for people, ``data`` for both."""

    kind: str
    message: str
    data: Mapping[str, object] = field(default_factory=dict)


class StageRunner(Protocol):
    """What the schedule needs of the run that carries it."""

    def train(self, stage: Stage) -> StageOutcome:
        """Train a stage to its end. A stage of this name that has ended already is not trained again."""

    def evaluate(self, checkpoint: Path, level: int | None, examples: int) -> tuple[float, ...]:
        """Return the reward of the greedy answer to each validation question 0 .. examples-1 of the level."""

    def topology(self, checkpoint: str) -> Topology:
        """Return the graph of another checkpoint, named by a graft."""
