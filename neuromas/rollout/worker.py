"""RolloutWorker: one engine, one renderer and one task in one process. Runs with and without Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import Engine
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Group
from neuromas.rollout.scorer import Scorer
from neuromas.rollout.stats import RolloutStats
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.registry import make_task
from neuromas.tasks.spec import TaskSpec

# Scoring does not depend on the seed: it selects which examples a task draws, and a batch brings its examples.
_SCORING_SEED = 0


class RolloutWorker:
    """Executes batches of rollouts; built from picklable arguments in the process that is to hold the engine."""

    def __init__(
        self,
        base_folder: Path,
        engine: EngineSpec,
        prompt: PromptSpec,
        task: TaskSpec,
        max_adapters: int,
        max_rank: int,
        targets: Sequence[str] | None = None,
    ) -> None:
        """Start the engine; takes about 15 s for vLLM on CPU.

        Args:
            base_folder: folder of the base model.
            engine: which engine, and its sizes.
            prompt: how prompts are written.
            task: scores batches that bring no task of their own.
            max_adapters: adapter versions held at a time; ``engine.max_adapters`` overrides it.
            max_rank: largest LoRA rank that will be published.
            targets: names of the linear layers that will carry adapters; None allows every layer.

        Raises:
            BaseModelError: the engine cannot run this base.
            EngineError: the engine did not start.
        """
        self._renderer = make_renderer(prompt, base_folder)
        self._task = make_task(task, _SCORING_SEED)
        self._engine = start_engine(base_folder, engine, engine.max_adapters or max_adapters, max_rank, targets)
        self._scorer = Scorer()
        self._engine_type = engine.type
        self._base_folder = base_folder
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
        """Return facts about the worker for logs: process id, engine, base, and totals since its start."""
        total = self._total_stats
        return {
            "pid": os.getpid(),
            "engine": self._engine_type,
            "base": self._base_folder.name,
            "calls": total.calls,
            "generated_tokens": total.generated_tokens,
            "engine_s": total.engine_s,
        }

    def close(self) -> None:
        """Stop the engine. Safe to call twice."""
        self._scorer.close()
        self._engine.close()


def start_engine(
    base_folder: Path, spec: EngineSpec, max_adapters: int, max_rank: int, targets: Sequence[str] | None
) -> Engine:
    """Return the engine that ``spec`` names, loaded; see ``RolloutWorker`` for the arguments.

    The one place where rollouts meet concrete engines, which are imported here because they load torch.
    """
    if spec.type == "vllm":
        from neuromas.engines.vllm import VllmEngine

        return VllmEngine(base_folder, spec, max_adapters, max_rank, targets)
    from neuromas.engines.transformers import TransformersEngine

    return TransformersEngine(base_folder, spec, max_adapters, max_rank)
