"""Parent: the trained checkpoint that the graph of a run was grown from, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuromas.checkpoints.location import read_state, read_topology
from neuromas.growth.plan import Grown, apply_plan, module_names
from neuromas.journal.folder import SPEC_FILE, RunFolder
from neuromas.spec.growth import PlanSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task


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
        return apply_plan(read_topology(self.checkpoint), self.plan, graphs, worked_level(self.checkpoint))


def worked_level(checkpoint: Path) -> int | None:
    """Return the level whose worked examples a checkpoint's graph has read; None where no level has its own.

    Raises:
        CheckpointError: the checkpoint, or the spec of its run, is missing or altered.
    """
    folder = RunFolder(checkpoint.resolve().parents[1])
    spec = parse_run_spec(folder.read_json(SPEC_FILE)) if folder.is_started else None
    if spec is None or not spec.prompt.worked_levels:
        return None
    level: int | None = read_state(checkpoint)["level"]
    trained_on = make_task(spec.task, spec.seed).levels[-1] if level is None else level
    return trained_on if trained_on in spec.prompt.worked_levels else None
