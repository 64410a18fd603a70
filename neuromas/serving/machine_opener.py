"""MachineOpener: checkpoints and bases that lie on one machine of a cluster, opened on any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.base_copy import BaseCopy
from neuromas.cluster.machine import Machine, file_sizes
from neuromas.engines.setup import EngineSetup
from neuromas.errors import BaseModelError, CheckpointError
from neuromas.journal.folder import BASE_FILE, SPEC_FILE, RunFolder
from neuromas.rollout.engine import Engine
from neuromas.serving.endpoint import CheckpointOpener
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.group import GraphSource


@dataclass(frozen=True, slots=True)
class MachineOpener:
    """Opens what paths mean on one machine; see ``serving.group.Opener``.

    On another machine the base is brought into the cache, and the files of a graph into a folder that is gone once its
    weights are in the engine.

    Attributes:
        home: the machine that has the files.
    """

    home: Machine

    def start(self, setup: EngineSetup, slots: int) -> Engine:
        """Return a running engine."""
        return CheckpointOpener().start(self._here(setup), slots)

    def load(self, setup: EngineSetup, source: GraphSource) -> ServableGraph:
        """Return the graph of a checkpoint.

        Raises:
            RuntimeStartError: the machine that has it cannot be reached.
            NeuroMASError: it cannot be read there, or cannot be brought; see ``CheckpointOpener.load``.
        """
        if self.home.is_here:
            return CheckpointOpener().load(setup, source)
        local = self._here(setup)
        try:
            with TemporaryDirectory(prefix="neuromas-graph-") as folder:
                checkpoint = self._bring(source.checkpoint, Path(folder), local.base_folder)
                return CheckpointOpener().load(local, replace(source, checkpoint=str(checkpoint)))
        except OSError as error:
            raise CheckpointError(f"checkpoint {source.checkpoint} cannot be brought here: {error}") from error

    def _here(self, setup: EngineSetup) -> EngineSetup:
        """Return the setup with the base's folder on this machine."""
        if self.home.is_here:
            return setup
        try:
            base = BaseCopy.of(setup.base_folder, self.home)
        except OSError as error:
            raise BaseModelError(f"base {setup.base_folder} cannot be read on its machine: {error}") from error
        return replace(setup, base_folder=base.local().resolve())

    def _bring(self, name: str, folder: Path, base: Path) -> Path:
        """Copy a checkpoint, and what goes with it of its run, into a folder here; the run's base is then ``base``."""
        checkpoint, sizes, run_sizes = self.home.call(checkpoint_files, name)
        run = RunFolder(folder)
        target = run.checkpoints / checkpoint.name
        target.mkdir(parents=True)
        self.home.bring(checkpoint, sizes, target)
        self.home.bring(checkpoint.parents[1], run_sizes, folder)
        run.write_json(SPEC_FILE, {**run.read_json(SPEC_FILE), "base": str(base)})
        return target


def checkpoint_files(name: str) -> tuple[Path, Mapping[str, int], Mapping[str, int]]:
    """Return the folder of a checkpoint, the bytes of each of its files, and of those of its run that go with it.

    Raises:
        NeuroMASError: see ``find_trained``.
    """
    checkpoint = find_trained(name).checkpoint.resolve()
    run = file_sizes(checkpoint.parents[1])
    return checkpoint, file_sizes(checkpoint), {file: run[file] for file in (SPEC_FILE, BASE_FILE) if file in run}
