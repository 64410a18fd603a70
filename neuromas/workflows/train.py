"""train(): a run from its spec to its result."""

from __future__ import annotations

from pathlib import Path

from neuromas.display.training import shown
from neuromas.journal.events import Observer
from neuromas.run.outcome import RunResult
from neuromas.run.run import run
from neuromas.spec.run import RunSpec


def train(
    spec: RunSpec,
    out: Path | str = "runs",
    on_event: Observer | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    show_worker_logs: bool = False,
) -> RunResult:
    """Train a spec, growing the graph where it says so, and return the result.

    Args:
        spec: the run.
        out: the run's folder is ``out/<spec.name>``.
        on_event: told what happens, in this thread; None = lines on stderr.
        resume: go on from the last checkpoint in the folder, or begin where there is none.
        overwrite: delete an earlier run in the folder first.
        show_worker_logs: copy what the run's other processes print to this one.

    Raises:
        SpecError: the run cannot start, with all reasons.
        CheckpointError: the folder is in use or holds another run.
        StageInterruptedError: the run was interrupted; ``resume`` goes on.
        NeuroMASError: the run failed.
    """
    with shown(on_event) as tell:
        return run(spec, Path(out), tell, resume=resume, overwrite=overwrite, show_worker_logs=show_worker_logs)
