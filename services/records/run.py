"""Runs: what is known of one, and how it gets from state to state."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, TypedDict

from pydantic import BaseModel, ConfigDict

from neuromas.report.verdict import verdict
from neuromas.services.records.failure import Failure
from neuromas.services.records.record import Moves, Record


class RunState(StrEnum):
    """States of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Wanted(StrEnum):
    """What the user asked of a run; the supervisor brings the run there."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


ENDED: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
"""States that a run never leaves."""
_MOVES: Final[Moves] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED}),
    # To queued: its driver died, or was stopped, and it waits to be resumed from its checkpoint.
    RunState.RUNNING: frozenset({RunState.QUEUED, RunState.PAUSED} | ENDED),
    RunState.PAUSED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
}


class RunProgress(BaseModel):
    """Where a running run is."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    stage: int = 0
    stage_name: str = ""
    step: int = 0
    steps: int = 0
    """Optimizer steps that the stage takes at most."""
    nodes: int = 0
    level: int | None = None
    eta_s: float | None = None
    """Seconds until the stage ends, by the steps so far."""


class RunOrigin(BaseModel):
    """What a grown run was grown from."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    run: str
    checkpoint: str
    plan: dict[str, Any]
    level: int | None = None


class RunImport(BaseModel):
    """Adapters that were brought along, for a run to begin with."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    adapters: dict[str, str]
    """Adapters of the graph -> names under which they were brought along."""
    max_error: float
    """Largest relative error of a layer."""
    train: bool
    """Whether the run trains on from them, or ends once it holds them."""


class RunUpdate(TypedDict, total=False):
    """What changes in a run."""

    state: RunState
    wanted: Wanted
    tags: tuple[str, ...]
    attempt: int
    failures: int
    job: str | None
    started: float | None
    ended: float | None
    heartbeat: float | None
    progress: RunProgress | None
    latest: Mapping[str, float | None] | None
    reward: float | None
    accuracy: float | None
    imported: dict[str, Any] | None
    result: dict[str, Any] | None
    error: Failure | None


class RunRecord(Record):
    """A run. It is driven by the job that it names."""

    noun: ClassVar[str] = "run"
    updatable: ClassVar[frozenset[str]] = frozenset(RunUpdate.__annotations__)
    moves: ClassVar[Moves] = _MOVES

    object: Literal["run"] = "run"
    name: str
    state: RunState = RunState.QUEUED
    wanted: Wanted = Wanted.RUN
    tags: tuple[str, ...] = ()
    spec: dict[str, Any]
    """The run spec with every default filled in."""
    task: str
    base: str
    topology: str
    """Id of the graph it begins with."""
    owner: str
    """Id of the key that made it; "local" where keys are off."""
    project: str | None = None
    """Keys of this project may change it too."""
    parent: RunOrigin | None = None
    parent_run: str = ""
    """Id of the run that it was grown from, for lists; empty where it was not."""
    imports: RunImport | None = None
    """Adapters that it begins with."""
    attempt: int = 0
    """Number of its job, of the next one while it waits; grows with every start."""
    max_attempts: int = 1
    failures: int = 0
    """How often a driver was lost."""
    job: str | None = None
    started: float | None = None
    ended: float | None = None
    heartbeat: float | None = None
    """Last sign of life of its driver, by the driver's clock."""
    progress: RunProgress | None = None
    latest: dict[str, float | None] | None = None
    """Metrics of the last step."""
    reward: float | None = None
    """Mean of the last ``REWARD_STEPS`` steps of the stage, fewer where it has no more yet."""
    accuracy: float | None = None
    """Greedy, held out, of the last evaluation."""
    imported: dict[str, Any] | None = None
    """What became of them: ``adapters`` by their names, and those of the graph that were not given, ``fresh``."""
    result: dict[str, Any] | None = None
    error: Failure | None = None
    folder: str = ""
    """Relative to the data folder."""

    @property
    def verdict(self) -> str | None:
        """What has come out of it, in one sentence; None before it has succeeded."""
        return None if self.result is None else verdict(self.result)

    @property
    def has_ended(self) -> bool:
        """Whether it is in a state that it never leaves."""
        return self.state in ENDED
