"""Parent: the trained checkpoint that the graph of a run was grown from, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuromas.checkpoints.location import read_topology
from neuromas.growth.plan import Grown, apply_plan, module_names
from neuromas.spec.growth import PlanSpec


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a child run starts.

    Attributes:
        checkpoint: folder of the checkpoint, whose weights are inherited.
        plan: how its graph was grown.
        level: task level of the child; None = the task's target.
    """

    checkpoint: Path
    plan: PlanSpec
    level: int | None = None

    @property
    def modules(self) -> tuple[str, ...]:
        """Further checkpoints that the plan grafts."""
        return module_names((self.plan,))

    def grow(self) -> Grown:
        """Return the grown graph with its inheritance.

        Raises:
            GrowthError: the plan does not fit the graph.
            CheckpointError: a checkpoint is missing or altered.
        """
        graphs = {name: read_topology(name) for name in self.modules}
        return apply_plan(read_topology(self.checkpoint), self.plan, graphs)
