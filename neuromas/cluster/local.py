"""The runtime of one process: the same worker and learner without Ray, for small machines, tests and debugging."""

from __future__ import annotations

from pathlib import Path

from neuromas.cluster.runtime import RuntimeSetup
from neuromas.cluster.threads import set_threads, single_share
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal.events import Event, Notice, Observer, Phase
from neuromas.journal.folder import RunWriter
from neuromas.rollout.client import LocalRolloutClient
from neuromas.training.evaluate import Evaluation, EvaluationRequest
from neuromas.training.learner import Learner


class LocalRuntime:
    """Runtime in this process; see ``Runtime`` for the methods."""

    def __init__(self, setup: RuntimeSetup, on_event: Observer) -> None:
        """Load the engine and the learner, one after the other."""
        self._on_event = on_event
        threads = single_share(setup.spec).count()
        set_threads(threads)
        on_event(Notice(message=f"CPU threads: {threads}", source="threads"))
        on_event(Phase(name="importing and starting the engine"))
        self._client = LocalRolloutClient(setup.worker.make())
        self._writer = RunWriter(setup.folder, setup.lock)
        on_event(Phase(name="loading the base for training"))
        self._learner = Learner(setup.spec, setup.folder, self._client, self._record)

    def train_stage(self, stage: Stage, resume: Path | None = None) -> StageOutcome:
        """Train one stage."""
        return self._learner.train_stage(stage, resume)

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Evaluate a checkpoint or an untrained graph."""
        return self._learner.evaluate(request)

    def request_stop(self) -> None:
        """Ask the stage under way to end."""
        self._learner.request_stop()

    def close(self) -> None:
        """Stop the engine and close the files. Safe to call twice."""
        self._client.close()
        self._writer.close()

    def _record(self, event: Event) -> None:
        self._writer(event)
        self._on_event(event)
