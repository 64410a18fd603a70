"""What a stage is told and what it gives back. Pure data; loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neuromas.adapters.source import AdapterSource, Pull
from neuromas.growth.ledger import Spending
from neuromas.growth.triggers import Check, Trigger
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Training of one immutable Topology on one level.

    Attributes:
        name: unique in the run, the same when the run is resumed; names the stage's checkpoints.
        index: position among the run's stages.
        topology: the graph to train.
        steps: upper bound of optimizer steps.
        level: task level; None = the task's target.
        decay: whether the learning rate falls towards the end.
        warmup: whether the learning rate warms up.
        trigger: rule that may end the stage earlier; None = it runs to its end.
        start: checkpoint whose weights it starts from; None = new adapters.
        modules: further checkpoints that ``sources`` may name, from module 1 on.
        sources: where each adapter's weights come from; None = those of ``start`` fit as they are.
        keep_moments: carry over the optimizer's moments of adapters that are kept from ``start``.
        frozen: adapters that do not train for ``freeze_steps`` steps.
        freeze_steps: None = the whole stage.
        pull: what pulls adapters to where they were; None = nothing.
        resume: checkpoint of this very stage to go on from; then ``start`` only tells where pulled adapters began.
        attempt: raise it when a learner starts anew against rollout workers that lived on; it keeps the names of
            adapter versions unique.
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
    modules: tuple[Path, ...] = ()
    sources: Mapping[str, AdapterSource] | None = None
    keep_moments: bool = False
    frozen: tuple[str, ...] = ()
    freeze_steps: int | None = None
    pull: Pull | None = None
    resume: Path | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage left behind.

    Attributes:
        steps: optimizer steps done.
        reason: the trigger's, "budget" when it ran its full length, or "interrupted".
        accuracy: greedy held-out accuracy on the stage's level at its end.
        sampled_accuracy: the same sampled as in training.
        correct: greedy reward per held-out example.
        checks: held-out checks of the trigger, oldest first.
        spending: what its training sampled.
        checkpoint: weights and optimizer state at its end.
    """

    steps: int
    reason: str
    accuracy: float
    sampled_accuracy: float
    correct: tuple[float, ...]
    spending: Spending
    checkpoint: Path
    checks: tuple[Check, ...] = field(default=())
