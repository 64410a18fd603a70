"""Evaluations: what is known of one, and how it gets from state to state."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, TypedDict

from neuromas.services.records.failure import Failure
from neuromas.services.records.record import Moves, Record

EvaluationKind = Literal["accuracy", "analysis", "diagnosis"]
"""What is found out: how many answers are right; what each node and edge contributes; what training can still move."""


class EvaluationState(StrEnum):
    """States of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


UNFINISHED: Final = (EvaluationState.QUEUED, EvaluationState.RUNNING)
"""States that an evaluation leaves some time; the others are its ends."""
_MOVES: Final[Moves] = {
    EvaluationState.QUEUED: frozenset({EvaluationState.RUNNING, EvaluationState.CANCELLED}),
    # To queued: its process was lost, and another one begins it anew.
    EvaluationState.RUNNING: frozenset(EvaluationState) - {EvaluationState.RUNNING},
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
    """What is found out about a checkpoint on held-out examples."""

    noun: ClassVar[str] = "evaluation"
    updatable: ClassVar[frozenset[str]] = frozenset(EvaluationUpdate.__annotations__)
    moves: ClassVar[Moves] = _MOVES

    object: Literal["evaluation"] = "evaluation"
    checkpoint: str
    run: str
    """Whose checkpoint it is."""
    kind: EvaluationKind = "accuracy"
    state: EvaluationState = EvaluationState.QUEUED
    examples: int | None = None
    """None = as many as the run; for a diagnosis as many as it usually has."""
    level: int | None = None
    """Task level; None = the target."""
    sampled: bool = True
    """Measure the accuracy of sampled answers beside that of greedy ones."""
    baselines: tuple[str, ...] = ()
    calls: int | None = None
    """Messages of each adapter in a diagnosis; None = as many as it usually has."""
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
        return self.state not in UNFINISHED
