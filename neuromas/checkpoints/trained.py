"""A trained graph on disk: a checkpoint with the spec of the run that made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuromas.checkpoints.location import read_topology, resolve_checkpoint
from neuromas.errors import CheckpointError
from neuromas.journal.base_record import check_base
from neuromas.journal.folder import SPEC_FILE, RunFolder
from neuromas.spec.machine import EngineType
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class TrainedCheckpoint:
    """What evaluation, growth, export and serving start from.

    Attributes:
        checkpoint: folder of the checkpoint.
        topology: the graph in it, which growth may have made larger than the spec's.
        spec: of the run.
    """

    checkpoint: Path
    topology: Topology
    spec: RunSpec

    def on_machine(
        self,
        engine: EngineType | None = None,
        runtime: Literal["ray", "local"] | None = None,
    ) -> TrainedCheckpoint:
        """Return the same with another engine or runtime; None leaves the run's own."""
        return TrainedCheckpoint(self.checkpoint, self.topology, self.spec.on_machine(engine, runtime))

    def as_run(self) -> RunSpec:
        """Return the spec of the run as if it had begun with this graph, without its growth."""
        return self.spec.with_topology(self.topology).model_copy(update={"growth": None})


def find_trained(path: str | Path) -> TrainedCheckpoint:
    """Return the trained graph of a run folder (its latest checkpoint), a checkpoint, or an alias.

    Raises:
        CheckpointError: there is no checkpoint, it is altered, it does not lie in a run folder, or the run's base was
            changed since.
        BaseModelError: the run's base is not there any more.
        SpecError: the run's spec is not valid any more.
    """
    checkpoint = resolve_checkpoint(path)
    run_folder = RunFolder(checkpoint.resolve().parents[1])
    if not run_folder.is_started:
        raise CheckpointError(
            f"checkpoint {checkpoint} does not lie in the folder of a run: {run_folder.path / SPEC_FILE} is missing, "
            "which says what base and adapters it was trained with"
        )
    spec = parse_run_spec(run_folder.read_json(SPEC_FILE))
    check_base(run_folder, spec.base)
    return TrainedCheckpoint(checkpoint, read_topology(checkpoint), spec)
