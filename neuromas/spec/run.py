"""RunSpec: a whole run as frozen, strict data."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from neuromas.spec.growth import GrowthSpec
from neuromas.spec.machine import CheckpointSpec, EngineSpec, EvaluationSpec, RuntimeSpec, TrackingSpec
from neuromas.spec.model import SpecModel
from neuromas.spec.parts import AdapterSpec, PromptSpec, SamplingSpec, TaskSpec
from neuromas.spec.training import TrainingSpec
from neuromas.topology.graph import Topology


class RunSpec(SpecModel):
    """Everything a run needs. ``topology`` holds the built, validated Topology (a document in TOML and JSON)."""

    name: str = Field(default="run", pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    seed: int = Field(default=0, ge=0, lt=2**31)
    base: str = "tiny"
    """"tiny" is the base shipped with NeuroMAS; else a folder or the id of a hub model."""
    topology: Any
    """A topology document: ``nodes`` and ``edges``, or a shorthand (layers, chain, tree, star, dense, random)."""
    task: TaskSpec
    adapter: AdapterSpec = AdapterSpec()
    prompt: PromptSpec = PromptSpec()
    sampling: SamplingSpec = SamplingSpec()
    training: TrainingSpec = TrainingSpec()
    growth: GrowthSpec | None = None
    evaluation: EvaluationSpec = EvaluationSpec()
    engine: EngineSpec = EngineSpec()
    runtime: RuntimeSpec = RuntimeSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    tracking: TrackingSpec = TrackingSpec()

    @field_validator("topology")
    @classmethod
    def _build(cls, value: Any) -> Any:
        from neuromas.topology.document import topology_from_document

        return value if isinstance(value, Topology) else topology_from_document(value)
