"""Checkpoints: what is known of a state of a run."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal, TypedDict

from neuromas.services.records.record import Moves, Record


class CheckpointState(StrEnum):
    """States of a checkpoint; one that is there has none."""

    DELETING = "deleting"
    """The supervisor removes it with its files."""


class CheckpointUpdate(TypedDict, total=False):
    """What changes in a checkpoint."""

    state: CheckpointState
    accuracy: float


class CheckpointRecord(Record):
    """A state of a run that can be resumed, grown, served and exported."""

    noun: ClassVar[str] = "checkpoint"
    updatable: ClassVar[frozenset[str]] = frozenset(CheckpointUpdate.__annotations__)
    moves: ClassVar[Moves] = {None: frozenset({CheckpointState.DELETING})}

    object: Literal["checkpoint"] = "checkpoint"
    state: CheckpointState | None = None
    run: str
    stage: int
    stage_name: str = ""
    step: int
    kind: str = "training"
    path: str
    """Of its folder, relative to the data folder."""
    nodes: int = 0
    level: int | None = None
    topology_hash: str = ""
    accuracy: float | None = None
    """Greedy, held out; None where it was not evaluated."""
