"""What a run tells its observers while it goes on: typed, frozen, picklable, ready for JSON. Loads no torch.

The learner, the growth schedule and the run emit events; the run folder's writer, the CLI's display and (later) a
service receive them. An event is emitted before the checkpoint that contains its step is written, so a run folder
never holds a checkpoint whose metrics are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from neuromas.rollout.record import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Common part of all events; ``time_s`` is unix time in seconds."""

    type: ClassVar[str] = "event"
    time_s: float = field(default_factory=time.time)

    def to_document(self) -> dict[str, Any]:
        """Return the event as plain data for JSON."""
        return {"type": self.type} | {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run begins (or, with ``resumed``, goes on after a break)."""

    type: ClassVar[str] = "run_started"
    name: str
    spec_hash: str
    topology_hash: str
    resumed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted(Event):
    """A stage begins.

    Attributes:
        stage: index of the stage, from 0.
        name: name of the stage in lineage and logs.
        topology: the graph it trains, as a document.
        level: task level; None = the task's target.
        steps: upper bound of optimizer steps.
        trainable_parameters: of all adapters together.
        first_step: steps already done, > 0 after a resume.
    """

    type: ClassVar[str] = "stage_started"
    stage: int
    name: str
    topology: Mapping[str, Any]
    level: int | None
    steps: int
    trainable_parameters: int
    first_step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone(Event):
    """One optimizer step is done; ``step`` counts from 1 within the stage. One line of metrics.jsonl."""

    type: ClassVar[str] = "step"
    stage: int
    step: int
    metrics: Mapping[str, float]

    def to_document(self) -> dict[str, Any]:
        """Return the flat object of metrics.jsonl: stage, step, time_s and every metric under its own name."""
        return {"stage": self.stage, "step": self.step, "time_s": self.time_s, **self.metrics}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rollouts(Event):
    stage: int
    step: int
    rollouts: tuple[Rollout, ...]

    def to_documents(self) -> list[dict[str, Any]]:
        """Return one flat object per rollout: question, every Node's message, answer and reward."""
        return [{"stage": self.stage, "step": self.step, **_rollout_document(rollout)} for rollout in self.rollouts]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutsSampled(_Rollouts):
    """Some rollouts of a step with all their messages. Lines of rollouts.jsonl."""

    type: ClassVar[str] = "rollouts"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionsAsked(_Rollouts):
    """The validation questions that a stage asks again and again, answered greedily. Lines of questions.jsonl."""

    type: ClassVar[str] = "questions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Event):
    """An evaluation on validation questions.

    Attributes:
        stage: index of the stage.
        step: steps of the stage that were done.
        level: task level evaluated; None = the task's target.
        mode: how completions were decoded.
        correct: sum of rewards over the examples.
        examples: how many were asked.
        bootstrap: 95 % interval of the mean of graded rewards; None where all are 0 or 1 and Wilson's applies.
        unasked: examples that could not be asked.
        purpose: "check" decides when a stage ends, "evaluation" is reported.
    """

    type: ClassVar[str] = "evaluated"
    stage: int
    step: int
    level: int | None
    mode: Literal["greedy", "sampled"]
    correct: float
    examples: int
    bootstrap: tuple[float, float] | None = None
    unasked: int = 0
    purpose: Literal["check", "evaluation"] = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWritten(Event):
    """A checkpoint is complete on disk; ``path`` is its folder."""

    type: ClassVar[str] = "checkpoint"
    stage: int
    step: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEnded(Event):
    """A stage ends after ``steps`` optimizer steps; ``reason`` is a trigger's, "budget" or "interrupted"."""

    type: ClassVar[str] = "stage_ended"
    stage: int
    name: str
    steps: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something a person should know: a growth, a dead worker, an unusual metric.

    Attributes:
        message: for people.
        severity: a "warning" calls for a decision of theirs.
        source: what it is about, for programs.
        data: figures, for programs.
    """

    type: ClassVar[str] = "notice"
    message: str
    severity: Literal["info", "warning"] = "info"
    source: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase(Event):
    """What a run does from now on, until the next phase, stage, step or finding; for who watches, written nowhere."""

    type: ClassVar[str] = "phase"
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterImported(Event):
    """An adapter that was made elsewhere is a node's LoRA; for who watches, written nowhere.

    Attributes:
        adapter: its name in the graph.
        done: adapters that have been imported by now, of ``total``.
        became: its ``method``, ``rank``, ``error`` and ``worst_layer``.
    """

    type: ClassVar[str] = "adapter_imported"
    adapter: str
    done: int
    total: int
    became: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """A run is over."""

    type: ClassVar[str] = "run_ended"
    status: Literal["succeeded", "interrupted", "failed"]
    message: str = ""


Observer = Callable[[Event], None]
"""Receives events, in order, in the thread that emits them; must return quickly and must not raise."""


def ignore(event: Event) -> None:
    """Observe nothing."""


def _rollout_document(rollout: Rollout) -> dict[str, Any]:
    return {
        "example": rollout.example.id,
        "level": rollout.example.level,
        "question": rollout.example.prompt,
        "expected": rollout.example.answer,
        "index": rollout.index,
        **({} if rollout.replayed is None else {"replayed": rollout.replayed}),
        "answer": rollout.answer,
        "reward": rollout.reward,
        **({"parts": dict(rollout.parts)} if rollout.parts else {}),
        "failure": rollout.failure,
        "messages": [
            {
                "node": call.node,
                "adapter": None if call.adapter is None else str(call.adapter),
                "text": call.text,
                "finish_reason": call.finish_reason,
                "prompt_tokens": len(call.prompt_token_ids),
                "completion_tokens": len(call.completion_token_ids),
                "logprob": sum(call.logprobs),
            }
            for call in rollout.calls
        ],
    }
