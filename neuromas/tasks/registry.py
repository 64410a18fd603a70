"""From the task section of a run spec to the task."""

from __future__ import annotations

from neuromas.spec.parts import ChainTaskSpec, TaskSpec, TreeTaskSpec
from neuromas.tasks.base import Task
from neuromas.tasks.chain import ChainTask
from neuromas.tasks.file import FileTask
from neuromas.tasks.tree import TreeTask


def make_task(spec: TaskSpec, seed: int) -> Task:
    """Return the task that a spec describes; the seed selects its stream of examples.

    Raises:
        TaskError: a file of the task cannot be read or does not hold what the spec says.
    """
    match spec:
        case ChainTaskSpec():
            return ChainTask(hops=spec.hops, seed=seed, cycles=spec.cycles)
        case TreeTaskSpec():
            return TreeTask(depth=spec.depth, seed=seed)
        case _:
            return FileTask.load(spec, seed)
