"""The stages of a run: which they are, and each trained to its end, once, whatever breaks in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from neuromas.checkpoints.location import list_checkpoints, read_state, read_topology
from neuromas.cluster.runtime import Runtime
from neuromas.errors import NeuroMASError
from neuromas.growth.lineage import Lineage
from neuromas.growth.schedule import ScheduleResult
from neuromas.growth.stage import Stage, StageOutcome
from neuromas.journal import lines as journal
from neuromas.journal.folder import STAGES_FILE, RunFolder
from neuromas.run.parent import Parent
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import EvaluationRequest


class StageInterruptedError(NeuroMASError, RuntimeError):
    """A stage was asked to stop and has written a checkpoint to go on from."""

    code = "interrupted"


def planned_stages(spec: RunSpec, parent: Parent | None) -> Iterator[Stage]:
    """Yield the stages of a run without a growth schedule: one, or with ``training.in_turn`` one per adapter.

    Args:
        spec: the run.
        parent: the checkpoint that the graph of this run was grown from.
    """
    graph, steps = spec.topology, spec.training.steps
    if parent is not None:
        grown = parent.grow()
        yield Stage("stage-0", 0, grown.topology, steps, parent.level, start=parent.checkpoint, grown=grown)
    elif spec.training.in_turn:
        count = len(graph.adapters)
        for place, adapter in enumerate(graph.adapters):
            share = steps * (place + 1) // count - steps * place // count
            yield Stage(f"turn-{place}", place, graph, share, trains=(adapter,))
    else:
        yield Stage("stage-0", 0, graph, steps)


class StageBook:
    """The finished stages of a run: asked for again, after a resume, they are not trained again."""

    def __init__(self, folder: RunFolder) -> None:
        self._checkpoints = folder.checkpoints
        self._path = folder.path / STAGES_FILE
        self.outcomes = [
            StageOutcome.from_document(document, folder.checkpoints) for document in journal.read(self._path)
        ]

    def find(self, name: str) -> StageOutcome | None:
        """Return the outcome of a finished stage."""
        return next((outcome for outcome in self.outcomes if outcome.name == name), None)

    def add(self, outcome: StageOutcome) -> None:
        """Record a stage that has just finished."""
        with closing(journal.Journal(self._path)) as file:
            file.append(outcome.to_document())
        self.outcomes.append(outcome)

    def unfinished(self) -> tuple[Path | None, int]:
        """Return the last checkpoint of the stage that was under way, and the steps in it; (None, 0) without one."""
        finished = {outcome.name for outcome in self.outcomes}
        open_ones = [
            folder for folder in list_checkpoints(self._checkpoints) if read_state(folder)["name"] not in finished
        ]
        return (open_ones[-1], int(read_state(open_ones[-1])["step"])) if open_ones else (None, 0)


class RuntimeStages:
    """Trains stages on the runtime of the run; see ``growth.stage.StageRunner``."""

    def __init__(self, runtime: Runtime, book: StageBook) -> None:
        """Set up the runner.

        Args:
            runtime: workers and learner.
            book: finished stages; new ones are added.
        """
        self._runtime = runtime
        self._book = book

    def train(self, stage: Stage) -> StageOutcome:
        """Train a stage to its end, from its last checkpoint where it has one.

        Raises:
            StageInterruptedError: it was asked to stop; its checkpoint is written.
        """
        if (outcome := self._book.find(stage.name)) is not None:
            return outcome
        resume, _ = self._book.unfinished()
        outcome = self._runtime.train_stage(stage, resume)
        if outcome.reason == "interrupted":
            raise StageInterruptedError(
                f"stopped after step {outcome.steps} of {stage.name}; {outcome.checkpoint} holds it"
            )
        self._book.add(outcome)
        return outcome

    def train_in_order(self, stages: Iterable[Stage]) -> ScheduleResult:
        """Train stages one after the other, each after the first from the checkpoint of the one before."""
        lineage, trained = Lineage(), list[tuple[Stage, StageOutcome]]()
        for planned in stages:
            before = trained[-1][1] if trained else None
            stage = planned if before is None else replace(planned, start=before.checkpoint)
            trained.append((stage, self.train(stage)))
            lineage.add(*trained[-1], before)
        last, outcome = trained[-1]
        return ScheduleResult(last.topology, outcome, finished=True, lineage=lineage)

    def evaluate(self, checkpoint: Path, level: int | None, examples: int) -> tuple[float, ...]:
        """Return, per validation question of the level, the reward of the greedy answer."""
        return self._runtime.evaluate(EvaluationRequest(checkpoint, level, examples, "validation")).accuracy.rewards

    def topology(self, checkpoint: str) -> Topology:
        """Return the graph of another checkpoint, named by a graft."""
        return read_topology(checkpoint)
