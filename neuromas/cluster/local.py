"""The runtime of one process: the same worker and learner without Ray, for small machines, tests and debugging."""

from __future__ import annotations

from contextlib import ExitStack

from neuromas.cluster.runtime import RuntimeSetup
from neuromas.cluster.threads import set_threads, single_share
from neuromas.journal.events import Event, Notice, Observer, Phase
from neuromas.journal.folder import RunWriter
from neuromas.rollout.client import LocalRolloutClient
from neuromas.training.learner import Learner


class LocalRuntime(Learner):
    """Runtime in this process: a learner with an engine of its own; see ``Runtime`` for the methods."""

    def __init__(self, setup: RuntimeSetup, on_event: Observer) -> None:
        """Load the engine and the learner, one after the other; where one cannot be, nothing is left open."""
        self._on_event = on_event
        threads = single_share(setup.spec).count()
        set_threads(threads)
        on_event(Notice(message=f"CPU threads: {threads}", source="threads"))
        on_event(Phase(name="importing and starting the engine"))
        with ExitStack() as opened:
            client = LocalRolloutClient(setup.worker.make())
            opened.callback(client.close)
            self._journal = RunWriter(setup.folder, setup.lock)
            opened.callback(self._journal.close)
            on_event(Phase(name="loading the base for training"))
            super().__init__(setup.spec, setup.folder, client, self._record)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Stop the engine and close the files. Safe to call twice."""
        self._opened.close()

    def _record(self, event: Event) -> None:
        self._journal(event)
        self._on_event(event)
