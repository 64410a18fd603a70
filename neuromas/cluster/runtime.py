"""Runtime: the processes of one run behind one interface, be they Ray actors or objects of this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from neuromas.cluster.setup import WorkerSetup
from neuromas.cluster.threads import wait_passively
from neuromas.engines.noise import quiet_libraries
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Observer, Phase
from neuromas.loading import loading_libraries
from neuromas.spec.run import RunSpec
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.training.study import Study


@dataclass(frozen=True, slots=True)
class RuntimeSetup:
    """What a runtime is made of.

    Attributes:
        spec: the run.
        folder: the run's folder; the learner writes checkpoints and metrics there.
        worker: of every rollout worker.
        lock: token of the folder's lock, so that a learner that outlived its run writes nothing more.
        show_worker_logs: copy what actors print to this process.
    """

    spec: RunSpec
    folder: Path
    worker: WorkerSetup
    lock: str | None = None
    show_worker_logs: bool = False


class Runtime(Protocol):
    """Rollout workers and a learner, ready to train. All methods but ``request_stop`` belong to one thread."""

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train one stage; events reach the observer as they happen.

        Raises:
            NeuroMASError: what the learner or a worker raised.
        """

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Evaluate a checkpoint or an untrained graph.

        Raises:
            CheckpointError: there is no such checkpoint, or it is altered.
            NeuroMASError: what the learner or a worker raised.
        """

    def study(self, study: Study) -> dict[str, Any]:
        """Return what a study finds out about a trained graph; its phases reach the observer as they happen.

        Raises:
            NeuroMASError: what the study, the learner or a worker raised.
        """

    def request_stop(self) -> None:
        """Ask the stage under way to write a checkpoint after its current step and end; from any thread."""

    def close(self) -> None:
        """End the workers and the learner. Safe to call twice."""


def open_runtime(setup: RuntimeSetup, on_event: Observer) -> Runtime:
    """Start the processes that ``setup.spec.runtime`` names and return when they are ready.

    Raises:
        RuntimeStartError: a process could not be started.
        NeuroMASError: the engine or the learner refused its setup.
    """
    quiet_libraries()
    if setup.spec.runtime.type == "local":
        wait_passively()
        with loading_libraries():
            from neuromas.cluster.local import LocalRuntime

        return LocalRuntime(setup, on_event)
    on_event(Phase(name="connecting to Ray" if setup.spec.runtime.address else "starting Ray"))
    from neuromas.cluster.ray_runtime import RayRuntime

    return RayRuntime(setup, on_event)
