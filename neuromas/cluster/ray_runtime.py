"""The runtime on Ray: rollout workers and the learner are actors, each in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from neuromas.cluster.actors import RolloutActor
from neuromas.cluster.base_copy import BaseCopy
from neuromas.cluster.connection import RayConnection, check_resources
from neuromas.cluster.failure import cause_of, first_line
from neuromas.cluster.learner_actor import CONCURRENCY_GROUPS, LearnerActor
from neuromas.cluster.machine import Machine
from neuromas.cluster.runtime import RuntimeSetup
from neuromas.cluster.threads import engine_share, learner_share
from neuromas.errors import RuntimeStartError
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Notice, Observer, Phase
from neuromas.spec.machine import RuntimeSpec
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.training.study import Study

_EVENTS_TIMEOUT_S = 2.0


class RayRuntime:
    """Runtime of Ray actors; see ``Runtime`` for the methods."""

    def __init__(self, setup: RuntimeSetup, on_event: Observer) -> None:
        """Connect to the cluster and start the actors: engines first, the learner while they load."""
        spec = setup.spec.runtime
        self._on_event = on_event
        self._stop = Flag()
        self._end_learner: Callable[[], None] = lambda: None
        self._connection = RayConnection(
            spec.address,
            min_cpus=spec.rollout_workers + spec.learner_workers,
            show_worker_logs=setup.show_worker_logs,
        )
        try:
            _check(spec)
            base = BaseCopy.of(setup.worker.engine.base_folder, Machine.here()) if _has_others() else None
            self._workers = start_workers(setup, base)
            self._learner, self._end_learner = start_learner(setup, self._workers)
            starting = [actor.start.remote() for actor in (*self._workers, self._learner)]
            wait_for_all(starting, spec.start_timeout_s, partial(self._tell_ready, len(starting)))
            self._tell_threads([unwrapped(call) for call in starting], setup.spec.training.overlap)
        except BaseException:
            self._end_learner()
            self._connection.close()
            raise

    def _tell_ready(self, processes: int, ready: int) -> None:
        done = f" ({ready} of {processes} processes ready)" if ready else ""
        self._on_event(Phase(name=f"importing libraries, loading base and engine{done}"))

    def _tell_threads(self, facts: Sequence[Mapping[str, Any]], overlap: int) -> None:
        *engines, learner = (fact["threads"] for fact in facts)
        counts = ", ".join(map(str, sorted(set(engines))))
        how = "at the same time" if overlap else "in turn"
        message = f"CPU threads: {counts} to sample in each engine, {learner} to train in each learner, {how}"
        self._on_event(Notice(message=message, source="threads"))

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train one stage and pass its events on."""
        outcome: StageOutcome = self._follow(self._learner.train_stage.remote(stage, resume))
        return outcome

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Evaluate a checkpoint or an untrained graph."""
        evaluation: Evaluation = self._follow(self._learner.evaluate.remote(request))
        return evaluation

    def study(self, study: Study) -> dict[str, Any]:
        """Return what a study finds out about a trained graph."""
        found: dict[str, Any] = self._follow(self._learner.study.remote(study))
        return found

    def request_stop(self) -> None:
        """Ask the stage under way to end; acts within a few seconds."""
        self._stop.set()

    def close(self) -> None:
        """End the actors and leave the cluster. Safe to call twice."""
        if not ray.is_initialized():
            return
        self._end_learner()
        for actor in self._workers:
            ray.kill(actor)
        self._connection.close()

    def _follow(self, work: Any) -> Any:
        """Return the result of a call to the learner; its events are passed on while it runs, and all before."""
        ended = False
        try:
            while True:
                # A call that has ended may have told its last events since they were taken.
                for event in unwrapped(self._learner.next_events.remote(0.0 if ended else _EVENTS_TIMEOUT_S)):
                    if event is None:  # the call's last
                        return unwrapped(work)
                    self._on_event(event)
                if ended:
                    return unwrapped(work)
                if self._stop.is_set():
                    self._stop.clear()
                    unwrapped(self._learner.request_stop.remote())
                ended = bool(ray.wait([work], timeout=0)[0])
        except RayActorError as error:
            raise RuntimeStartError(
                f"the learner's process died ({first_line(error)}); the run can be resumed from its last checkpoint"
            ) from error


def start_workers(setup: RuntimeSetup, base: BaseCopy | None) -> list[Any]:
    """Return handles of the run's rollout actors, whose engines have not been loaded."""
    spec, threads = setup.spec.runtime, engine_share(setup.spec, _machines())
    actor_class = ray.remote(
        num_cpus=1,
        num_gpus=spec.gpus_per_rollout_worker,
        max_restarts=spec.max_restarts,
        max_task_retries=0,
        scheduling_strategy="SPREAD",
    )(RolloutActor)
    return [actor_class.remote(setup.worker, threads, base) for _ in range(spec.rollout_workers)]


def start_learner(setup: RuntimeSetup, workers: Sequence[Any]) -> tuple[Any, Callable[[], None]]:
    """Return the handle of the run's learner, which has imported nothing, and what ends it.

    Several learners look like one. A single one stands on this machine, whose disk has the run's folder, unless there
    is no place on it.
    """
    threads = learner_share(setup.spec, _machines())
    if setup.spec.runtime.learner_workers > 1:
        from neuromas.cluster.data_parallel import Learners

        learners = Learners(setup, workers, threads)
        return learners.coordinator, learners.close
    here = NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True, _spill_on_unavailable=True
    )
    actor_class = ray.remote(
        num_cpus=1,
        num_gpus=setup.spec.runtime.gpus_per_learner,
        concurrency_groups=CONCURRENCY_GROUPS,
        scheduling_strategy=here,
    )(LearnerActor)
    actor = actor_class.remote(setup, list(workers), threads)
    return actor, partial(ray.kill, actor)


def wait_for_all(calls: Sequence[Any], timeout_s: float, tell: Callable[[int], None]) -> None:
    """Return when all calls have ended; the first that fails ends the wait. ``tell`` hears how many have, as they do.

    Raises:
        RuntimeStartError: an actor died, or the time is over.
        NeuroMASError: what an actor raised.
    """
    waiting, deadline = list(calls), time.monotonic() + timeout_s
    while waiting:
        tell(len(calls) - len(waiting))
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            raise RuntimeStartError(
                f"{len(waiting)} of {len(calls)} actors were not ready after runtime.start_timeout_s = {timeout_s:g}; "
                "raise it, or see Ray's logs for what they wait for"
            )
        for call in ready:
            try:
                unwrapped(call)
            except RayActorError as error:
                raise RuntimeStartError(f"an actor died while it started: {first_line(error)}") from error


def unwrapped(call: Any) -> Any:
    """Return the result of a remote call.

    Raises:
        NeuroMASError: what the actor's own code raised, as it was.
        RayActorError: the actor died.
    """
    try:
        return ray.get(call)
    except RayTaskError as error:
        raise cause_of(error) from error


def _machines() -> int:
    """Return how many machines of the cluster can hold an actor."""
    return max(1, len([node for node in ray.nodes() if node["Alive"] and "CPU" in node["Resources"]]))


def _has_others() -> bool:
    """Return whether the cluster has machines beside this one."""
    here = ray.get_runtime_context().get_node_id()
    return any(node["Alive"] and node["NodeID"] != here for node in ray.nodes())


def _check(spec: RuntimeSpec) -> None:
    check_resources(
        cpus=spec.rollout_workers + spec.learner_workers,
        gpus=spec.rollout_workers * spec.gpus_per_rollout_worker + spec.learner_workers * spec.gpus_per_learner,
    )
