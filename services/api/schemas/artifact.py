"""Wire models of what runs leave behind and what is made of it: checkpoints, endpoints, evaluations, events."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from neuromas.errors import Fault, SpecError
from neuromas.schema.bounds import MAX_STEPS
from neuromas.schema.model import SpecModel
from neuromas.services.api.schemas.run import CHECKPOINT_PATTERN
from neuromas.services.api.schemas.view import View
from neuromas.services.records.endpoint import EndpointState
from neuromas.services.records.evaluation import EvaluationKind, EvaluationState
from neuromas.services.records.failure import Failure
from neuromas.topology.graph import NAME

MAX_EXAMPLES: Final = 100_000
MAX_REPLICAS: Final = 1024
MAX_CALLS: Final = 256
"""Messages of each adapter in a diagnosis: its kernel has a row and a column for each."""
_READ_BY: Final[dict[EvaluationKind, tuple[str, ...]]] = {
    "accuracy": ("sampled", "baselines"),
    "diagnosis": ("calls",),
}
"""Settings of an evaluation that only one kind reads."""


class CheckpointView(View):
    """A state of a run that can be resumed, grown, served and exported."""

    id: str
    object: Literal["checkpoint"] = "checkpoint"
    run: str
    stage: int
    stage_name: str = ""
    step: int
    kind: str = "training"
    nodes: int = 0
    accuracy: float | None = None
    """Greedy, on validation questions."""
    aliases: list[str] = Field(default_factory=list)
    """"latest" and "best", where they mean this one among its run's."""
    created: int


class EndpointRequest(SpecModel):
    """A checkpoint to serve under a name."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "solver", "checkpoint": "run_0123456789abcdef@best", "replicas": 1}}
    )
    name: str = Field(pattern=f"^{NAME.pattern}$")
    """The model id that clients of the chat route ask for."""
    checkpoint: str = Field(pattern=CHECKPOINT_PATTERN)
    """Its id, or ``<run>@latest``, ``<run>@best``."""
    replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    """Copies that answer; null = the service's default."""
    max_replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    """Copies that a high load may add up to; null = ``replicas``."""


class EndpointChange(SpecModel):
    """A newer checkpoint for an endpoint, or another number of copies."""

    model_config = ConfigDict(json_schema_extra={"example": {"checkpoint": "run_0123456789abcdef@latest"}})
    checkpoint: str | None = Field(default=None, pattern=CHECKPOINT_PATTERN)
    """Swapped in while the endpoint answers: requests under way end on the old one, no request fails."""
    replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)
    max_replicas: int | None = Field(default=None, ge=1, le=MAX_REPLICAS)


class EndpointView(View):
    """A served checkpoint."""

    id: str
    object: Literal["endpoint"] = "endpoint"
    name: str
    checkpoint: str
    run: str
    state: EndpointState
    wanted: Literal["run", "stop"] = "run"
    replicas: int = 1
    max_replicas: int = 1
    generation: int = 1
    """Raised by every swap."""
    served: int | None = None
    """Generation that answers; while a swap is under way still an earlier one. null = none does."""
    error: Failure | None = None
    owner: str = "local"
    """Id of the key that made it."""
    project: str | None = None
    """Keys of this project may change it too."""
    created: int
    version: int = 1


class EvaluationRequest(SpecModel):
    """What to find out about a checkpoint on held-out examples."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"checkpoint": "run_0123456789abcdef@best", "examples": 256}}
    )
    checkpoint: str = Field(pattern=CHECKPOINT_PATTERN)
    """Its id, or ``<run>@latest``, ``<run>@best``."""
    kind: EvaluationKind = "accuracy"
    """"accuracy" = how many answers are right; "analysis" = what each node and edge contributes and what nodes say, as
    ``neuromas analyze``; "diagnosis" = what training can still move, as ``neuromas diagnose``."""
    examples: int | None = Field(default=None, ge=1, le=MAX_EXAMPLES)
    """Held-out examples; null = as many as its run, of a diagnosis 16."""
    level: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    """Task level; null = the target."""
    sampled: bool = True
    """Of an accuracy: measure sampled answers beside greedy ones."""
    baselines: tuple[Literal["untrained"], ...] = Field(default=(), max_length=1)
    """Of an accuracy, what it is compared with: "untrained" = the same graph on the bare base."""
    calls: int | None = Field(default=None, ge=1, le=MAX_CALLS)
    """Of a diagnosis: messages of each adapter; null = 32."""

    @model_validator(mode="after")
    def _reads_all_that_is_set(self) -> EvaluationRequest:
        unread = {name for kind, names in _READ_BY.items() if kind != self.kind for name in names}
        if faults := [
            Fault(name, f"is not read by kind {self.kind!r}; leave it out")
            for name in sorted(unread & self.model_fields_set)
        ]:
            raise SpecError("the evaluation is not valid", faults)
        return self


class EvaluationView(View):
    """What was asked about a checkpoint, and what was found."""

    id: str
    object: Literal["evaluation"] = "evaluation"
    checkpoint: str
    run: str
    kind: EvaluationKind = "accuracy"
    examples: int | None = None
    level: int | None = None
    sampled: bool = True
    baselines: list[str] = Field(default_factory=list)
    calls: int | None = None
    state: EvaluationState
    result: dict[str, Any] | None = None
    error: Failure | None = None
    owner: str = "local"
    """Id of the key that made it."""
    project: str | None = None
    """Keys of this project may change it too."""
    created: int
    version: int = 1


class EventView(View):
    """One thing that happened, with what belongs to its type."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "id": 17,
                "type": "step",
                "stage": 0,
                "step": 3,
                "time_s": 1700000000.5,
                "metrics": {"rollout/reward_mean": 0.25},
            }
        },
    )
    id: int
    """Grows within the stream; ask for what follows with ``after``, or ``Last-Event-ID``."""
    type: str = "message"
    """run_started, stage_started, step, evaluated, checkpoint, grown, notice, state ..."""


class EntryView(View):
    """One entry of a stream of rollouts or log lines, with what belongs to it."""

    model_config = ConfigDict(extra="allow")
    id: int
    """Grows within the stream; ask for what follows with ``after``, or ``Last-Event-ID``."""


class StreamEnd(View):
    """Data of the last event of a stream that is followed: nothing comes after it."""

    type: Literal["end"]
    state: str
    """How the run has ended; "deleted" where it is gone."""


class StreamPage(View):
    """Entries of a stream."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]
    has_more: bool
    """Whether more are there already."""
    last_id: int
    """Pass as ``after`` to go on."""


class PromptView(View):
    """What a node read before it wrote its message."""

    object: Literal["prompt"] = "prompt"
    node: str
    text: str
    """All of the prompt, control tokens by their names."""


class MetricPoint(View):
    """Metrics of one optimizer step."""

    id: int
    stage: int
    step: int
    time_s: float = 0.0
    metrics: dict[str, float | None]


class MetricPage(View):
    """A run's metrics, step by step."""

    object: Literal["list"] = "list"
    data: list[MetricPoint]
    has_more: bool
    last_id: int
    """Pass as ``after`` to go on."""
