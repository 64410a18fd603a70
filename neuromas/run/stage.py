"""One stage of a run: trains ONE immutable Topology to the stage's end, once, whatever breaks in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from neuromas.checkpoints.location import list_checkpoints, read_state, read_topology, resolve_checkpoint
from neuromas.cluster.evaluation import EvaluationRequest
from neuromas.cluster.runtime import Runtime
from neuromas.errors import NeuroMASError
from neuromas.growth.ledger import Spending
from neuromas.growth.request import StageOutcome, StageRequest
from neuromas.growth.triggers import Check, Reason
from neuromas.journal import lines as journal
from neuromas.journal.folder import STAGES_FILE, RunFolder
from neuromas.topology.graph import Topology
from neuromas.training.plan import StagePlan, StageResult

INTERRUPTED = "interrupted"


class StageInterruptedError(NeuroMASError, RuntimeError):
    """A stage was asked to stop and has written a checkpoint to go on from."""

    code = "interrupted"


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A finished stage as ``stages.jsonl`` keeps it.

    Attributes:
        name: of the stage.
        stage: its number in the order of training, from 0: what metrics and events call it.
        nodes: size of its graph.
        level: task level; None = the task's target.
        steps: optimizer steps done.
        reason: what ended it.
        accuracy: greedy accuracy on validation questions of its level.
        sampled_accuracy: the same, sampled as in training.
        examples: validation questions of both.
        checkpoint: name of its folder in the run's checkpoints.
        spending: what its training sampled.
        checks: (step, accuracy) of the trigger's held-out checks.
    """

    name: str
    stage: int
    nodes: int
    level: int | None
    steps: int
    reason: str
    accuracy: float
    sampled_accuracy: float
    examples: int
    checkpoint: str
    spending: Spending
    checks: tuple[Check, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return the record as plain data, equal to what its JSON is read back as."""
        return {**asdict(self), "checks": [asdict(check) for check in self.checks]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> StageRecord:
        """Return the record that ``to_document`` wrote."""
        fields = dict(document)
        fields["spending"] = Spending(**fields["spending"])
        fields["checks"] = tuple(Check(**check) for check in fields["checks"])
        return cls(**fields)


class StageBook:
    """The finished stages of a run: asked for again, after a resume, they are not trained again."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._path = folder.path / STAGES_FILE
        self.records = [StageRecord.from_document(document) for document in journal.read(self._path)]

    def find(self, name: str) -> StageRecord | None:
        """Return the record of a finished stage."""
        return next((record for record in self.records if record.name == name), None)

    def add(self, record: StageRecord) -> None:
        """Record a stage that has just finished."""
        file = journal.Journal(self._path)
        file.append(record.to_document())
        file.close()
        self.records.append(record)

    def unfinished(self) -> tuple[Path | None, int]:
        """Return the last checkpoint of the stage that was under way, and the steps in it; (None, 0) without one."""
        finished = {record.name for record in self.records}
        open_ones = [
            folder
            for folder in list_checkpoints(self._folder.checkpoints)
            if read_state(folder)["name"] not in finished
        ]
        return (open_ones[-1], int(read_state(open_ones[-1])["step"])) if open_ones else (None, 0)

    def checkpoint(self, record: StageRecord) -> Path:
        """Return the checkpoint at the end of a stage."""
        return self._folder.checkpoints / record.checkpoint


class StageRunner:
    """Trains the stages that the growth schedule asks for, on the runtime of the run."""

    def __init__(self, runtime: Runtime, book: StageBook) -> None:
        """Set up the runner.

        Args:
            runtime: workers and learner.
            book: finished stages; new ones are added.
        """
        self._runtime = runtime
        self._book = book

    def train(self, request: StageRequest) -> StageOutcome:
        """Train a stage to its end, from its last checkpoint where it has one.

        Raises:
            StageInterruptedError: it was asked to stop.
        """
        record = self._book.find(request.name)
        if record is None:
            record = run_stage(self._runtime, request, self._book)
            self._book.add(record)
        return StageOutcome(
            steps=record.steps,
            reason=cast(Reason, record.reason),
            accuracy=record.accuracy,
            sampled_accuracy=record.sampled_accuracy,
            checkpoint=self._book.checkpoint(record),
            spending=record.spending,
            checks=record.checks,
        )

    def evaluate(self, checkpoint: Path, level: int | None, examples: int) -> tuple[float, ...]:
        """Return, per validation question of the level, the reward of the greedy answer."""
        return self._runtime.evaluate(EvaluationRequest(checkpoint, level, examples, "validation")).accuracy.rewards

    def topology(self, checkpoint: str) -> Topology:
        """Return the graph of another checkpoint, named by a graft."""
        return read_topology(checkpoint)


def run_stage(runtime: Runtime, request: StageRequest, book: StageBook) -> StageRecord:
    """Train one stage and return its record.

    Raises:
        StageInterruptedError: it was asked to stop; its checkpoint is written.
    """
    resume, _ = book.unfinished()
    number = len(book.records)
    result = runtime.train_stage(plan_stage(request, number, resume))
    if result.reason == INTERRUPTED:
        raise StageInterruptedError(
            f"stopped after step {result.steps} of {request.name}; {result.checkpoint} holds it"
        )
    return _record(request, number, result)


def plan_stage(request: StageRequest, number: int, resume: Path | None) -> StagePlan:
    """Return what the learner is told of a stage.

    Args:
        request: of the schedule.
        number: of the stage in the order of training; seeds and metrics go by it.
        resume: the stage's own checkpoint to go on from.
    """
    return StagePlan(
        name=request.name,
        index=number,
        topology=request.topology,
        steps=request.steps,
        level=request.level,
        decay=request.decay,
        warmup=request.warmup,
        trigger=request.trigger,
        start=request.start,
        modules=tuple(resolve_checkpoint(module) for module in request.modules),
        sources=None if request.grown is None else request.grown.sources,
        keep_moments=request.keeps_moments,
        frozen=request.frozen,
        freeze_steps=request.freeze_steps,
        pull=request.pull,
        resume=resume,
    )


def _record(request: StageRequest, number: int, result: StageResult) -> StageRecord:
    return StageRecord(
        name=request.name,
        stage=number,
        nodes=len(request.topology.nodes),
        level=request.level,
        steps=result.steps,
        reason=result.reason,
        accuracy=result.accuracy,
        sampled_accuracy=result.sampled_accuracy,
        examples=len(result.correct),
        checkpoint=result.checkpoint.name,
        spending=result.spending,
        checks=result.checks,
    )
