"""RolloutWorker: one engine, one renderer and one task in one process. Runs with and without Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import Engine
from neuromas.rollout.record import Group
from neuromas.rollout.renderer import Renderer
from neuromas.rollout.scorer import Scorer
from neuromas.rollout.stats import RolloutStats
from neuromas.tasks.base import Task


class RolloutWorker:
    """Executes batches of rollouts."""

    def __init__(self, engine: Engine, renderer: Renderer, task: Task) -> None:
        """Take an engine over.

        Args:
            engine: loaded; closed with the worker.
            renderer: writes prompts for the engine's base.
            task: scores batches that bring no task of their own.
        """
        self._engine = engine
        self._renderer = renderer
        self._task = task
        self._scorer = Scorer()
        self._last_stats = RolloutStats()
        self._total_stats = RolloutStats()

    @property
    def last_stats(self) -> RolloutStats:
        """What the last batch cost."""
        return self._last_stats

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        """Make adapter versions servable after forgetting the retired ones; see ``Engine.publish``."""
        self._engine.publish(adapters, retire)

    def rollout(self, batch: RolloutBatch) -> list[Group]:
        """Return the Groups of ``batch``, one per example, in their order."""
        flow = Dataflow(self._engine, self._renderer, self._scorer)
        groups = flow.run(self._task if batch.task is None else batch.task, batch)
        self._last_stats = flow.stats
        self._total_stats += flow.stats
        return groups

    def info(self) -> dict[str, str | int | float]:
        """Return facts about the worker for logs: process id, engine, and totals since its start."""
        total = self._total_stats
        return {
            "pid": os.getpid(),
            "engine": type(self._engine).__name__,
            "calls": total.calls,
            "generated_tokens": total.generated_tokens,
            "engine_s": total.engine_s,
        }

    def close(self) -> None:
        """Stop the engine. Safe to call twice."""
        self._scorer.close()
        self._engine.close()
