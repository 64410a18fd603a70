"""Data-parallel learning through Ray Train: several learners, each with its share of every step's examples.

Ray Train places the processes and joins them by torch.distributed. Each runs the same Learner as a run with one
learner does; which commands they run, they fetch from a CoordinatorActor, in the same order. To the run it looks like
the LearnerActor of one process. Gradients are averaged by DDP inside the learner, so that the step equals that of one
process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.coordinator import CONTROL, LEARNERS, CoordinatorActor, LearnerCommand, LearnerReply
from neuromas.cluster.failure import first_line
from neuromas.cluster.runtime import RuntimeSetup
from neuromas.cluster.threads import ThreadShare, set_threads
from neuromas.growth.stage import Stage
from neuromas.journal.events import Event
from neuromas.journal.folder import TRACKING_FOLDER, RunWriter
from neuromas.loading import loading_libraries
from neuromas.training.evaluate import EvaluationRequest
from neuromas.training.study import Study

_END_S = 15.0


class SharedAdapters:
    """The adapters that workers must hold, shared by the pools of all learners."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def read(self) -> dict[AdapterRef, PlainLora]:
        """Return what was written last, by any learner."""
        held: dict[AdapterRef, PlainLora] = ray.get(self._coordinator.pinned.remote())
        return held

    def write(self, adapters: Mapping[AdapterRef, PlainLora]) -> None:
        """Replace it."""
        ray.get(self._coordinator.pin.remote([ray.put(dict(adapters))]))


class Learners:
    """The learners under Ray Train: ``coordinator`` stands for them; a thread of this process waits for their end."""

    def __init__(self, setup: RuntimeSetup, workers: Sequence[Any], threads: ThreadShare) -> None:
        """Start them, each with its share of threads; they load in the background."""
        spec = setup.spec.runtime
        # Paths in the spec are relative to where the run was started, so the learners stay there.
        os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
        groups = {CONTROL: 3, LEARNERS: 4 * spec.learner_workers}
        self.coordinator = ray.remote(num_cpus=0, concurrency_groups=groups)(CoordinatorActor).remote(
            spec.learner_workers
        )
        self._is_closing = threading.Event()
        config = {"setup": setup, "workers": list(workers), "coordinator": self.coordinator, "threads": threads}
        trainer = _trainer(setup, config)
        self._thread = threading.Thread(target=self._fit, args=(trainer,), name="ray-train", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End them and wait for it: Ray Train must not outlive the connection that it talks through."""
        self._is_closing.set()
        with suppress(RayActorError):
            ray.get(self.coordinator.stop.remote())
            self._thread.join(_END_S)
        ray.kill(self.coordinator)  # learners that are still busy fail at their next word to it
        self._thread.join(_END_S)

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the learners
            if not self._is_closing.is_set():
                self.coordinator.fail.remote(first_line(error))


def _trainer(setup: RuntimeSetup, config: dict[str, Any]) -> TorchTrainer:
    spec = setup.spec.runtime
    return TorchTrainer(
        _learn,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=spec.learner_workers,
            use_gpu=spec.gpus_per_learner > 0,
            placement_strategy="SPREAD",
            resources_per_worker={"CPU": 1, **({"GPU": spec.gpus_per_learner} if spec.gpus_per_learner else {})},
        ),
        torch_config=TorchConfig(backend="nccl" if spec.gpus_per_learner else "gloo"),
        run_config=RunConfig(
            name="learners",
            storage_path=str((setup.folder / TRACKING_FOLDER).resolve()),
            failure_config=FailureConfig(max_failures=0),
        ),
    )


def _learn(config: dict[str, Any]) -> None:
    """What every process of Ray Train runs: one command after the other, until it is told to stop."""
    coordinator, rank = config["coordinator"], get_context().get_world_rank()
    process = _LearnerProcess(config["setup"], config["workers"], coordinator, rank, config["threads"])
    while True:
        command: LearnerCommand = ray.get(coordinator.next_command.remote(rank))
        if command.kind == "stop":
            return
        try:
            reply = LearnerReply(process.run(command))
        except Exception as error:  # noqa: BLE001 - sent to the run, which raises it
            reply = LearnerReply(error=error)
        ray.get(coordinator.reply.remote(rank, reply))


class _LearnerProcess:
    """One learner of several."""

    def __init__(
        self, setup: RuntimeSetup, workers: Sequence[Any], coordinator: Any, rank: int, threads: ThreadShare
    ) -> None:
        self._threads = threads.count()
        set_threads(self._threads)
        with loading_libraries():
            from neuromas.cluster.pool import RolloutPool
            from neuromas.training.learner import Learner

        self._coordinator, self._rank = coordinator, rank
        self._writer = RunWriter(setup.folder, setup.lock) if rank == 0 else None
        pool = RolloutPool(workers, setup.spec.runtime.rollout_timeout_s, self._record, SharedAdapters(coordinator))
        self._learner = Learner(setup.spec, setup.folder, pool, self._record)

    def run(self, command: LearnerCommand) -> Any:
        """Carry out one command and return what it gives."""
        if isinstance(command.argument, Stage):
            return self._learner.train_stage(command.argument, command.resume)
        if isinstance(command.argument, EvaluationRequest) and self._rank == 0:
            return self._learner.evaluate(command.argument)
        if isinstance(command.argument, Study) and self._rank == 0:
            return self._learner.study(command.argument)
        return {"threads": self._threads}

    def _record(self, event: Event) -> None:
        if self._writer is None:
            return
        self._writer(event)
        if ray.get(self._coordinator.tell.remote(event)):
            self._learner.request_stop()
