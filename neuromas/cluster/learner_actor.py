"""The Ray actor of the learner: a thin shell around ``training.learner.Learner`` and the pool that samples for it.

Training runs in the actor's only working thread. Two more threads answer while it does: one hands over events, one
takes the request to stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from neuromas.cluster.mailbox import Mailbox
from neuromas.cluster.runtime import RuntimeSetup
from neuromas.cluster.threads import ThreadShare, set_threads
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Event
from neuromas.journal.folder import RunWriter
from neuromas.loading import loading_libraries
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.training.study import Study

if TYPE_CHECKING:
    from neuromas.training.learner import Learner

CONTROL = "control"
CONCURRENCY_GROUPS = {CONTROL: 2}


class LearnerActor:
    """A process with a Learner; see ``Runtime`` for what its methods mean."""

    def __init__(self, setup: RuntimeSetup, workers: Sequence[Any], threads: ThreadShare) -> None:
        """Prepare the process.

        Args:
            setup: of the run.
            workers: handles of the rollout actors.
            threads: of the process.
        """
        self._threads = threads.count()
        set_threads(self._threads)
        self._setup = setup
        self._workers = workers
        self._events = Mailbox()
        self._writer = RunWriter(setup.folder, setup.lock)
        self._learner: Learner | None = None

    def start(self) -> dict[str, int]:
        """Import what training needs, while the rollout workers load their engines; returns the learner's facts."""
        with loading_libraries():
            from neuromas.cluster.pool import RolloutPool
            from neuromas.training.learner import Learner

        pool = RolloutPool(self._workers, self._setup.spec.runtime.rollout_timeout_s, self._record)
        self._learner = Learner(self._setup.spec, self._setup.folder, pool, self._record)
        return {"threads": self._threads}

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train one stage."""
        try:
            return self._started().train_stage(stage, resume)
        finally:
            self._events.put(None)

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Evaluate a checkpoint or an untrained graph."""
        try:
            return self._started().evaluate(request)
        finally:
            self._events.put(None)

    def study(self, study: Study) -> dict[str, Any]:
        """Return what a study finds out about a trained graph."""
        try:
            return self._started().study(study)
        finally:
            self._events.put(None)

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def request_stop(self) -> None:
        """Ask the stage under way to end."""
        self._started().request_stop()

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def next_events(self, timeout_s: float) -> list[Event | None]:
        """Return all events since the last call; waits up to ``timeout_s`` seconds for the first.

        None stands for the end of a call to ``train_stage``, ``evaluate`` or ``study``.
        """
        return self._events.take(timeout_s)

    def _record(self, event: Event) -> None:
        self._writer(event)
        self._events.put(event)

    def _started(self) -> Learner:
        assert self._learner is not None, "start() comes first"
        return self._learner
