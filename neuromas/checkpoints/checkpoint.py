"""Writes and reads checkpoints: whole, checked and without pickle. The format is described in ``location``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from neuromas.checkpoints.location import (
    ADAPTERS,
    FILES,
    MANIFEST,
    OPTIMIZER,
    RNG,
    STATE,
    TOPOLOGY,
    list_checkpoints,
    read_alias,
    read_state,
    resolve_checkpoint,
    sha256,
    verify,
)
from neuromas.errors import CheckpointError, writing
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

_DRAFT = ".draft-"


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Everything a stage needs to go on.

    Attributes:
        topology: the graph.
        adapters: tensors by ``<adapter>/<key>``, as ``AdapterBank.state`` gives them.
        moments: optimizer moments by ``<adapter>/<key>/<moment>``, and what a budget has weighed.
        counts: optimizer steps per adapter.
        rng: what all random choices are made from: seed, stage, step.
        state: plain data: name and index of the stage, step, cursor, level, baseline, checks, spending, lineage, and
            ``accuracy``, by which the best checkpoint is chosen (None = not known).
    """

    topology: Topology
    adapters: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    counts: Mapping[str, int]
    rng: Mapping[str, int]
    state: Mapping[str, Any]

    @property
    def folder_name(self) -> str:
        """Name of the folder it is written to."""
        return f"{self.state['name']}-{self.state['step']:06d}"


class CheckpointWriter:
    """Writes the checkpoints of a run and deletes those that are no longer kept."""

    def __init__(self, root: Path, keep_last: int) -> None:
        """Open a ``checkpoints`` folder and remove what an interrupted write left there.

        Args:
            root: the folder, made if missing.
            keep_last: newest checkpoints kept of each stage, at least 1, beside the one of the highest accuracy.
        """
        self._root = root
        self._keep_last = keep_last
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
            for draft in root.glob(f"{_DRAFT}*"):
                _remove(draft)

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint and move the aliases; returns its folder.

        It is written beside, its manifest last, and renamed: a crash at any moment leaves the earlier ones as they
        are. A checkpoint of the same name is replaced.

        Raises:
            StorageError: there is no space for it; nothing of it is left.
        """
        target = self._root / checkpoint.folder_name
        draft = self._root / f"{_DRAFT}{checkpoint.folder_name}"
        with writing(target):
            try:
                self._write_draft(checkpoint, draft)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
            if target.exists():
                shutil.rmtree(target)
            draft.rename(target)
            _flush(self._root)
            self._point("latest", target)
            if self._is_best(target):
                self._point("best", target)
            self._prune(checkpoint.state["name"])
        return target

    def _write_draft(self, checkpoint: Checkpoint, draft: Path) -> None:
        draft.mkdir()
        _write_json(draft / TOPOLOGY, checkpoint.topology.to_document())
        save_file(dict(checkpoint.adapters), draft / ADAPTERS)
        save_file(dict(checkpoint.moments), draft / OPTIMIZER, {"counts": json.dumps(dict(checkpoint.counts))})
        _write_json(draft / RNG, checkpoint.rng)
        _write_json(draft / STATE, {**checkpoint.state, "counts": dict(checkpoint.counts)})
        for name in FILES:
            _flush(draft / name)
        written = list_checkpoints(self._root)
        sequence = 1 + max((_sequence(folder) for folder in written), default=0)
        sums = {name: sha256(draft / name) for name in FILES}
        _write_json(draft / MANIFEST, {"format": 1, "sequence": sequence, "sha256": sums})
        _flush(draft / MANIFEST)

    def _is_best(self, target: Path) -> bool:
        """Whether the checkpoint is at least as good as the best one, which a later stage or level replaces."""
        mine = read_state(target)
        best = read_alias(self._root, "best")
        if mine["accuracy"] is None:
            return False
        if best is None or not (best / STATE).is_file():
            return True
        theirs = read_state(best)
        return bool((mine["index"], mine["accuracy"]) >= (theirs["index"], theirs["accuracy"]))

    def _point(self, alias: str, target: Path) -> None:
        draft = self._root / f"{_DRAFT}{alias}.json"
        _write_json(draft, {"checkpoint": target.name})
        _flush(draft)
        draft.replace(self._root / f"{alias}.json")

    def _prune(self, stage: str) -> None:
        folders = [folder for folder in list_checkpoints(self._root) if read_state(folder)["name"] == stage]
        rated = [folder for folder in folders if read_state(folder)["accuracy"] is not None]
        rated.sort(key=lambda folder: float(read_state(folder)["accuracy"]))
        kept = {*folders[-self._keep_last :], *rated[-1:]}
        kept |= {best} if (best := read_alias(self._root, "best")) is not None else set()
        for folder in folders:
            if folder not in kept:
                shutil.rmtree(folder)


def read_checkpoint(name: str | Path) -> Checkpoint:
    """Return a checkpoint after checking every file in it.

    Raises:
        CheckpointError: it is incomplete, altered or not readable; the message names the file.
    """
    folder = resolve_checkpoint(name)
    verify(folder)
    state = read_state(folder)
    return Checkpoint(
        topology=topology_from_document(json.loads((folder / TOPOLOGY).read_text())),
        adapters=_tensors(folder / ADAPTERS),
        moments=_tensors(folder / OPTIMIZER),
        counts={name: int(count) for name, count in state.pop("counts").items()},
        rng=json.loads((folder / RNG).read_text()),
        state=state,
    )


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f"checkpoint file {file}: cannot be read ({error}); use another checkpoint") from error
    return tensors


def _sequence(folder: Path) -> int:
    return int(json.loads((folder / MANIFEST).read_text())["sequence"])


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink()


def _write_json(file: Path, document: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(document, indent=1, sort_keys=True))


def _flush(path: Path) -> None:
    """Force a file's content, or a folder's entries, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
