"""The runtime of a graph: its rollout workers and learner, for as long as something is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.runtime import Runtime, RuntimeSetup, open_runtime
from neuromas.errors import SpecError
from neuromas.journal.events import Observer, Phase
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import level_fault, make_task


def check_level(spec: RunSpec, level: int | None) -> None:
    """Refuse a level that a run's task does not have; None is the task's target.

    Raises:
        SpecError: says which it has.
        TaskError: the task cannot be made.
    """
    if level is not None and (fault := level_fault(make_task(spec.task, spec.seed), level)):
        raise SpecError("the level does not exist", [fault])


@contextmanager
def opened(
    spec: RunSpec, on_event: Observer, *, scratch: Path | None = None, show_worker_logs: bool = False
) -> Iterator[Runtime]:
    """Give the runtime that a spec names, set up to ask its graph held-out questions.

    Args:
        spec: as ``TrainedCheckpoint.as_run`` has it where the graph is trained.
        on_event: told what goes on.
        scratch: folder that every process of the runtime can write to; None = a temporary one of this machine.
        show_worker_logs: copy what other processes print to this one.

    Raises:
        SpecError: the base, the task or the engine do not fit, with all reasons.
        RuntimeStartError: a process could not be started.
    """
    with TemporaryDirectory(prefix="neuromas-study-") as temporary:
        on_event(Phase(name="checking the spec"))
        worker = worker_setup(spec, check_run(spec, find_trained, ("test",)))
        setup = RuntimeSetup(spec, scratch or Path(temporary), worker, None, show_worker_logs)
        runtime = open_runtime(setup, on_event)
        try:
            yield runtime
        finally:
            runtime.close()
