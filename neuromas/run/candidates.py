"""Trying growths of a checkpoint side by side: what `growth.search` needs of the run layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neuromas.checkpoints.location import read_topology, resolve_checkpoint
from neuromas.cluster.connection import RayConnection
from neuromas.cluster.runtime import RuntimeSetup, open_runtime
from neuromas.cluster.setup import WorkerSetup
from neuromas.growth.plan import module_names
from neuromas.journal.events import ignore
from neuromas.journal.folder import RunFolder
from neuromas.run.parent import worked_level
from neuromas.run.search import Ranked, make_candidates, search
from neuromas.run.stages import RuntimeStages, StageBook
from neuromas.spec.growth import PlanSpec, TrialSpec
from neuromas.spec.machine import RuntimeSpec
from neuromas.spec.run import RunSpec


@dataclass(frozen=True, slots=True)
class LocalRunners:
    """Makes the runner of a candidate inside the candidate's own process.

    Attributes:
        spec: the run; its runtime becomes "local", since the candidate's process is the one it may use.
        worker: of the rollouts.
        folder: each candidate writes to a folder of its own in it.
    """

    spec: RunSpec
    worker: WorkerSetup
    folder: Path

    def __call__(self, name: str) -> RuntimeStages:
        """Return a runner whose engine and learner are loaded."""
        threads = _threads(self.spec)
        local = RuntimeSpec(type="local", learner_threads=threads)
        engine = self.spec.engine.model_copy(update={"threads": threads})
        spec = self.spec.model_copy(update={"runtime": local, "engine": engine, "growth": None})
        folder = RunFolder(self.folder / name)
        folder.create(spec.model_dump(mode="json"), overwrite=True)
        runtime = open_runtime(RuntimeSetup(spec, folder.path, self.worker), ignore)
        return RuntimeStages(runtime, StageBook(folder))


def search_growth(
    spec: RunSpec,
    worker: WorkerSetup,
    checkpoint: Path,
    plans: Sequence[PlanSpec],
    trial: TrialSpec,
    folder: Path,
    *,
    level: int | None = None,
) -> tuple[Ranked, ...]:
    """Try growths of a checkpoint and return them, and the parent trained on, best first.

    Args:
        spec: the run that made the checkpoint.
        worker: of the rollouts; it gets at least as many adapter slots as the largest candidate needs.
        checkpoint: the trained graph to grow.
        plans: growths to try.
        trial: length and judgement.
        folder: of all candidates' runs and of Ray Tune's records.
        level: task level to train and judge on; None = the target.

    Raises:
        GrowthError: a plan does not fit, or the parent's own trial failed.
        CheckpointError: a checkpoint is missing or altered.
        RuntimeStartError: no Ray cluster could be reached or started.
    """
    start = resolve_checkpoint(checkpoint).resolve()
    modules = {name: read_topology(name) for name in module_names(plans)}
    candidates = make_candidates(
        read_topology(start), start, plans, trial, level=level, modules=modules, examples_of=worked_level(start)
    )
    slots = max(len(candidate.stage.topology.adapters) for candidate in candidates)
    runners = LocalRunners(spec, replace(worker, slots=max(slots, worker.slots)), folder.resolve())
    runtime = spec.runtime
    cpus = _threads(spec)
    connection = RayConnection(runtime.address, cpus)
    try:
        return search(
            candidates,
            runners,
            trial,
            folder / "tune",
            cpus_per_candidate=cpus,
            gpus_per_candidate=runtime.gpus_per_learner + runtime.gpus_per_rollout_worker,
        )
    finally:
        connection.close()


def _threads(spec: RunSpec) -> int:
    """Return the threads of a candidate's one process; "auto" is one, since as many candidates run as there is room."""
    told = (spec.runtime.learner_threads, spec.engine.threads)
    return max((threads for threads in told if threads != "auto"), default=1)
