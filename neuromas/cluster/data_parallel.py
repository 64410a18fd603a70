"""Data-parallel learning through Ray Train: several learners, each with its share of every step's examples.

Ray Train places the processes and joins them by torch.distributed. Each runs the same Learner as a run with one
learner does; which commands they run, they fetch from a CoordinatorActor, in the same order. To the run it looks like
the LearnerActor of one process. Gradients are averaged by DDP inside the learner, so that the step equals that of one
process.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.failure import first_line
from neuromas.cluster.mailbox import Mailbox
from neuromas.cluster.runtime import RuntimeSetup
from neuromas.cluster.threads import ThreadShare, set_threads
from neuromas.errors import RuntimeStartError
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Event
from neuromas.journal.folder import TRACKING_FOLDER, RunWriter
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.training.study import Study

CONTROL, LEARNERS = "control", "learners"
_END_S = 15.0


@dataclass(frozen=True, slots=True)
class LearnerCommand:
    """One thing that all learners do together."""

    kind: Literal["start", "train", "evaluate", "study", "stop"]
    argument: Stage | EvaluationRequest | Study | None = None
    resume: Path | None = None


@dataclass(frozen=True, slots=True)
class LearnerReply:
    """What a learner answers: a value, or the error that it raised."""

    value: Any = None
    error: Exception | None = None


class CoordinatorActor:
    """Hands commands to the learners and their answers and events back; see ``Runtime`` for the public methods."""

    def __init__(self, num_learners: int) -> None:
        self._commands: list[queue.SimpleQueue[LearnerCommand]] = [queue.SimpleQueue() for _ in range(num_learners)]
        self._replies: queue.SimpleQueue[tuple[int, LearnerReply]] = queue.SimpleQueue()
        self._events = Mailbox()
        self._stop = threading.Event()
        self._published: Any = None

    # -- for the run

    def start(self) -> dict[str, int]:
        """Wait until all learners have imported what training needs; returns the facts of the first."""
        facts: dict[str, int] = self._command(LearnerCommand("start"))
        return facts

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train one stage with all learners."""
        self._stop.clear()
        try:
            outcome: StageOutcome = self._command(LearnerCommand("train", stage, resume))
            return outcome
        finally:
            self._events.put(None)

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Evaluate on the first learner."""
        try:
            evaluation: Evaluation = self._command(LearnerCommand("evaluate", request))
            return evaluation
        finally:
            self._events.put(None)

    def study(self, study: Study) -> dict[str, Any]:
        """Return what a study finds out about a trained graph, on the first learner."""
        try:
            found: dict[str, Any] = self._command(LearnerCommand("study", study))
            return found
        finally:
            self._events.put(None)

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def request_stop(self) -> None:
        """Ask the stage under way to end."""
        self._stop.set()

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def next_events(self, timeout_s: float) -> list[Event | None]:
        """Return all events since the last call; see ``LearnerActor.next_events``."""
        return self._events.take(timeout_s)

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Let the learners go home once they have done what they were told before."""
        for commands in self._commands:
            commands.put(LearnerCommand("stop"))

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def fail(self, reason: str) -> None:
        """Fail the command under way: Ray Train has ended."""
        self._replies.put((-1, LearnerReply(error=RuntimeStartError(f"a data-parallel learner died: {reason}"))))

    # -- for the learners

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def next_command(self, rank: int) -> LearnerCommand:
        """Wait for the next command."""
        return self._commands[rank].get()

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def reply(self, rank: int, reply: LearnerReply) -> None:
        """Answer the last command."""
        self._replies.put((rank, reply))

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def tell(self, event: Event) -> bool:
        """Pass an event on; returns whether the stage shall end."""
        self._events.put(event)
        return self._stop.is_set()

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def pin(self, published: Sequence[Any]) -> None:
        """Remember a reference to the adapters that workers must hold, for those that start anew."""
        (self._published,) = published

    @ray.method(concurrency_group=LEARNERS)  # type: ignore[untyped-decorator]
    def pinned(self) -> Any:
        """Return what was pinned last."""
        return {} if self._published is None else ray.get(self._published)

    def _command(self, command: LearnerCommand) -> Any:
        for commands in self._commands:
            commands.put(command)
        values: dict[int, Any] = {}
        while len(values) < len(self._commands):
            rank, reply = self._replies.get()
            if reply.error is not None:
                raise reply.error
            values[rank] = reply.value
        return values[0]


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
