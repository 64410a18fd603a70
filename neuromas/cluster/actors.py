"""The Ray actor of a rollout worker: a thin shell that sets up a process and then holds a class which knows no Ray.

This module imports nothing heavy and the constructor neither: thread counts must be in the environment before torch or
vLLM are imported, and an actor must answer before its engine has loaded. ``start`` does the loading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.setup import WorkerSetup
from neuromas.cluster.threads import ThreadShare, set_threads
from neuromas.errors import RuntimeStartError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.record import Group
from neuromas.rollout.stats import RolloutStats
from neuromas.rollout.worker import RolloutWorker

if TYPE_CHECKING:
    from neuromas.cluster.base_copy import BaseCopy


class WorkerNotStartedError(RuntimeStartError):
    """A rollout worker has no engine: its process was started anew and has not been set up since."""

    code = "worker_not_started"


class RolloutActor:
    """A process with a RolloutWorker. Its methods are called through ``apply``, as RLlib's actor manager does."""

    def __init__(self, setup: WorkerSetup, threads: ThreadShare, base: BaseCopy | None = None) -> None:
        """Prepare the process.

        Args:
            setup: of the worker.
            threads: of the process.
            base: where the setup's base comes from on other machines; None = it is on this one.
        """
        self._threads = threads.count()
        set_threads(self._threads)
        self._setup = setup
        self._base = base
        self._worker: RolloutWorker | None = None
        self._published: set[AdapterRef] = set()

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` with this object; an error goes back to the caller and leaves the process alive."""
        return func(self, *args, **kwargs)

    def ping(self) -> str:
        """Answer a health check."""
        return "pong"

    def start(self) -> dict[str, str | int | float]:
        """Load the engine, unless that was done; returns the worker's facts.

        Raises:
            BaseModelError: the engine cannot run the base, or it is not here and cannot be brought.
            EngineError: the engine did not start.
        """
        if self._worker is None:
            setup = self._setup
            if self._base is not None:
                setup = replace(setup, engine=replace(setup.engine, base_folder=self._base.local()))
            self._worker = setup.make()
        return {**self._worker.info(), "threads": self._threads}

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """See ``RolloutWorker.publish``."""
        self._started().publish(adapters, retire)
        self._published = (self._published - set(retire)) | set(adapters)

    def restore(self, adapters: Mapping[AdapterRef, PlainLora]) -> None:
        """Make exactly these versions servable, whatever was published before."""
        missing = {ref: lora for ref, lora in adapters.items() if ref not in self._published}
        self.publish(missing, sorted(self._published - set(adapters)))

    def rollout(self, batch: RolloutBatch) -> tuple[list[Group], RolloutStats]:
        """Return the Groups of a batch and what they cost."""
        worker = self._started()
        groups = worker.rollout(batch)
        return groups, worker.last_stats

    def _started(self) -> RolloutWorker:
        if self._worker is None:
            raise WorkerNotStartedError("this rollout worker lost its engine when its process was started anew")
        return self._worker
