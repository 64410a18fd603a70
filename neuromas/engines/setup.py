"""What an engine is started with, in training, evaluation and serving. Loads no torch and no vLLM."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from neuromas.base.resolve import read_base
from neuromas.engines.choice import engine_type
from neuromas.loading import loading_libraries
from neuromas.rollout.engine import Engine
from neuromas.spec.machine import EngineSpec
from neuromas.spec.run import RunSpec


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What an engine is started with beside its number of slots. Graphs with equal setups can share one engine.

    Attributes:
        base_folder: folder of the base model.
        engine: kind and sizes; the kind is decided.
        rank: largest LoRA rank that will be published.
        targets: names of the linear layers that carry adapters.
        gpus: GPUs (or a share of one) that the engine's process gets.
    """

    base_folder: Path
    engine: EngineSpec
    rank: int
    targets: tuple[str, ...]
    gpus: float = 0

    def __post_init__(self) -> None:
        """Refuse a kind that nobody decided."""
        if self.engine.type == "auto":
            raise ValueError("engine.type is 'auto'; EngineSetup.of decides it")

    @classmethod
    def of(cls, spec: RunSpec, base_folder: Path, *, serves: bool = False) -> EngineSetup:
        """Return the engine of a run, or of what serves the graphs it trained; equal runs have equal ones.

        Raises:
            BaseModelError: the base cannot be read.
        """
        return cls(
            base_folder=base_folder,
            engine=spec.engine.model_copy(update={"type": engine_type(spec, read_base(base_folder), serves=serves)}),
            rank=spec.adapters.served_rank,
            targets=tuple(sorted(spec.adapters.targets)),
            gpus=spec.runtime.gpus_per_rollout_worker,
        )

    @property
    def name(self) -> str:
        """The same for equal setups: ``engine-`` and 12 hex digits. Names the application and its route."""
        parts = [str(self.base_folder), self.engine.model_dump(mode="json"), self.rank, sorted(self.targets), self.gpus]
        return f"engine-{sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}"

    def start(self, slots: int) -> Engine:
        """Return the engine, loaded; takes about 15 s for vLLM on CPU.

        Args:
            slots: adapter versions that it holds at a time.

        Raises:
            BaseModelError: the engine cannot run this base.
            EngineError: it did not start.
        """
        # Imported here because they load torch.
        if self.engine.type == "vllm":
            from neuromas.engines.vllm import VllmEngine

            return VllmEngine(self.base_folder, self.engine, slots, self.rank, self.targets)
        with loading_libraries():
            from neuromas.engines.transformers import TransformersEngine

        return TransformersEngine(self.base_folder, self.engine, slots, self.rank)
