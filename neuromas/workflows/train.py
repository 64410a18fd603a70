"""train(): a run from its spec to its result."""

from __future__ import annotations

from pathlib import Path

from neuromas.display.training import shown
from neuromas.errors import Fault, SpecError
from neuromas.journal.events import Observer
from neuromas.run.outcome import RunResult
from neuromas.run.run import run
from neuromas.spec.run import RunSpec
from neuromas.tasks.base import Task
from neuromas.tasks.given import Reward, give
from neuromas.tasks.registry import make_task


def train(
    spec: RunSpec,
    out: Path | str = "runs",
    on_event: Observer | None = None,
    *,
    task: Task | None = None,
    reward: Reward | None = None,
    resume: bool = False,
    overwrite: bool = False,
    show_worker_logs: bool = False,
) -> RunResult:
    """Train a spec, growing the graph where it says so, and return the result.

    Args:
        spec: the run.
        out: the run's folder is ``out/<spec.name>``.
        on_event: told what happens, in this thread; None = lines on stderr.
        task: asks the questions, instead of the spec's; the spec may leave ``task`` as it is.
        reward: scores the answers, instead of the task. Both are objects of this process and are called in it, without
            a limit of time: the run takes the runtime "local", and no other process can measure or grow its graph.
            Code that is named in the spec can (docs/extending.md).
        resume: go on from the last checkpoint in the folder, or begin where there is none.
        overwrite: delete an earlier run in the folder first.
        show_worker_logs: copy what the run's other processes print to this one.

    Raises:
        SpecError: the run cannot start, with all reasons; or the spec asks for Ray beside objects of this process.
        CheckpointError: the folder is in use or holds another run.
        StageInterruptedError: the run was interrupted; ``resume`` goes on.
        NeuroMASError: the run failed.
    """
    if task is not None or reward is not None:
        spec = _with_given(spec, task, reward)
    with shown(on_event) as tell:
        return run(spec, Path(out), tell, resume=resume, overwrite=overwrite, show_worker_logs=show_worker_logs)


def _with_given(spec: RunSpec, task: Task | None, reward: Reward | None) -> RunSpec:
    if spec.runtime.type == "ray" and "type" in spec.runtime.model_fields_set:
        fault = Fault(
            "runtime.type", 'got "ray", whose processes cannot have the objects task and reward; allowed is "local"'
        )
        raise SpecError("the run cannot start", [fault])
    given = give(task or make_task(spec.task, spec.seed), reward)
    runtime = spec.runtime.model_copy(update={"type": "local"})
    return spec.model_copy(update={"task": given, "runtime": runtime})
