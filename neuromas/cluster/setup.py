"""What a rollout worker is made of, as data that travels to the process which makes it. Loads no Ray."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from neuromas.rollout.worker import RolloutWorker
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.spec import TaskSpec


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """Arguments of a RolloutWorker; see there."""

    base_folder: Path
    engine: EngineSpec
    prompt: PromptSpec
    task: TaskSpec
    max_adapters: int
    max_rank: int
    targets: tuple[str, ...] | None = None

    def make(self) -> RolloutWorker:
        """Return a worker with its engine loaded; takes seconds."""
        return RolloutWorker(
            self.base_folder, self.engine, self.prompt, self.task, self.max_adapters, self.max_rank, self.targets
        )


def set_threads(num_threads: int) -> None:
    """Bound this process's CPU threads; acts only before torch is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(num_threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # vLLM would bind this process to cores of its choice; the learner and other engines share them.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
