"""Evaluations: what is known of one, and how it gets from state to state."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, TypedDict

from neuromas.services.records.failure import Failure
from neuromas.services.records.record import Moves, Record


class EvaluationState(StrEnum):
    """States of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


_MOVES: Final[Moves] = {
    EvaluationState.QUEUED: frozenset({EvaluationState.RUNNING}),
    # To queued: its process was lost, and another one begins it anew.
    EvaluationState.RUNNING: frozenset({EvaluationState.QUEUED, EvaluationState.SUCCEEDED, EvaluationState.FAILED}),
}


class EvaluationUpdate(TypedDict, total=False):
    """What changes in an evaluation."""

    state: EvaluationState
    attempt: int
    job: str | None
    started: float
    ended: float
    result: dict[str, Any]
    error: Failure


class EvaluationRecord(Record):
    """A measurement of a checkpoint on held-out examples."""

    noun: ClassVar[str] = "evaluation"
    updatable: ClassVar[frozenset[str]] = frozenset(EvaluationUpdate.__annotations__)
    moves: ClassVar[Moves] = _MOVES

    object: Literal["evaluation"] = "evaluation"
    checkpoint: str
    run: str
    """Whose checkpoint it is."""
    state: EvaluationState = EvaluationState.QUEUED
    examples: int | None = None
    """None = as many as the run."""
    level: int | None = None
    """Task level; None = the target."""
    sampled: bool = True
    """Measure sampled answers beside greedy ones."""
    baselines: tuple[str, ...] = ()
    attempt: int = 0
    """Number of its job."""
    job: str | None = None
    started: float | None = None
    ended: float | None = None
    result: dict[str, Any] | None = None
    error: Failure | None = None
    owner: str
    """Id of the key that made it; "local" where keys are off."""
    project: str | None = None
    """Keys of this project may change it too."""

    @property
    def has_ended(self) -> bool:
        """Whether it is in a state that it never leaves."""
        return self.state in (EvaluationState.SUCCEEDED, EvaluationState.FAILED)
