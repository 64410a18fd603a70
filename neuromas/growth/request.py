"""One stage as the schedule asks for it, and what came of it. Pure data; the run layer turns it into training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from neuromas.adapters.source import Pull
from neuromas.growth.ledger import Spending
from neuromas.growth.plan import Grown
from neuromas.growth.triggers import Check, Reason, Trigger
from neuromas.spec.growth import InheritanceSpec
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class StageRequest:
    """Training of one immutable Topology on one level.

    Attributes:
        name: unique in the run, and the same when the run is resumed; names the stage's folder and metrics.
        index: position among the run's scheduled stages; the arms of a trial share the index of the stage they open.
        topology: the graph to train.
        level: task level; None = the task's target.
        steps: upper bound of optimizer steps.
        decay: whether the learning rate falls towards the end; False keeps it constant after the warm-up.
        warmup: whether the learning rate warms up; False for a stage that goes on where another left off.
        trigger: rule that may end the stage before ``steps``; None = it runs to its end.
        start: checkpoint whose weights it starts from; None = new adapters.
        grown: how the weights of ``start`` become those of ``topology``; None = they fit as they are.
        modules: further checkpoints, in the order in which ``grown`` counts them from 1.
        trains: adapters that train; None = all that ``inherit`` does not freeze.
        inherit: treatment of old adapters and their optimizer state; None = all go on training, moments kept.
    """

    name: str
    index: int
    topology: Topology
    level: int | None
    steps: int
    decay: bool
    warmup: bool = True
    trigger: Trigger | None = None
    start: Path | None = None
    grown: Grown | None = None
    modules: tuple[str, ...] = ()
    inherit: InheritanceSpec | None = None
    trains: tuple[str, ...] | None = None

    @property
    def frozen(self) -> tuple[str, ...]:
        """Adapters that do not train for ``freeze_steps`` steps (None = the whole stage)."""
        if self.trains is not None:
            return tuple(name for name in self.topology.adapters if name not in self.trains)
        return self._old_adapters("freeze")

    @property
    def freeze_steps(self) -> int | None:
        """Steps after which ``frozen`` adapters train too; None = they stay frozen for the whole stage."""
        return self.inherit.freeze_steps if self.inherit is not None else None

    @property
    def pull(self) -> Pull | None:
        """What pulls old adapters to where they were."""
        names, inherit = self._old_adapters("pull"), self.inherit
        if inherit is None or not names:
            return None
        return Pull(names, inherit.pull_weight, inherit.pull_by, inherit.pull_to, inherit.pull_selective)

    @property
    def keeps_moments(self) -> bool:
        """Whether the optimizer's moments of old adapters are carried over from ``start``."""
        return self.start is not None and (self.inherit is None or self.inherit.optimizer == "keep")

    def _old_adapters(self, treatment: str) -> tuple[str, ...]:
        if self.grown is None or self.inherit is None or self.inherit.old != treatment:
            return ()
        return self.grown.old_adapters


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What a finished stage left behind.

    Attributes:
        steps: optimizer steps done.
        reason: what ended the stage; "budget" when it ran its full length.
        accuracy: greedy held-out accuracy on the stage's level at its end.
        sampled_accuracy: the same, sampled as in training.
        checkpoint: weights and optimizer state at its end.
        spending: what its training sampled.
        checks: held-out checks, oldest first.
    """

    steps: int
    reason: Reason
    accuracy: float
    sampled_accuracy: float
    checkpoint: Path
    spending: Spending
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should read: ``kind`` for programs, ``message`` for people, ``data`` for both."""

    kind: str
    message: str
    data: Mapping[str, object] = field(default_factory=dict)


class StageRunner(Protocol):
    """What the schedule needs of the run that carries it."""

    def train(self, request: StageRequest) -> StageOutcome:
        """Train a stage to its end. A stage of this name that has ended already is not trained again."""

    def evaluate(self, checkpoint: Path, level: int | None, examples: int) -> tuple[float, ...]:
        """Return the reward of the greedy answer to each validation question 0 .. examples-1 of the level."""

    def topology(self, checkpoint: str) -> Topology:
        """Return the graph of another checkpoint, named by a graft."""
