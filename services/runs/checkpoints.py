"""Makes the checkpoints of a run known to the store, and keeps each as long as its record stands.

The run deletes its older checkpoints as its spec says. One that the service has told about must not vanish under a
child run or an endpoint, so every checkpoint gets a second name, in the folder ``kept`` beside ``checkpoints``: hard
links, which cost no space. Retention removes record and second name together.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, Final

from neuromas.checkpoints.location import FOLDER, list_checkpoints, read_state, topology_in
from neuromas.errors import CheckpointError
from neuromas.services.records.checkpoint import CheckpointRecord, CheckpointUpdate
from neuromas.services.store.base import ConflictError, Store

KEPT: Final = "kept"
_DRAFT: Final = ".draft-"


def checkpoint_id(run_id: str, name: str) -> str:
    """Return the id of a run's checkpoint; ``name`` is its folder's."""
    return f"ckpt_{hashlib.sha256(f'{run_id}/{name}'.encode()).hexdigest()[:16]}"


class CheckpointRegistrar:
    """Registers the checkpoints of one run. Used by one task."""

    def __init__(self, store: Store, run_id: str, folder: Path, data_dir: Path) -> None:
        """Prepare.

        Args:
            store: gets the records.
            run_id: of the run.
            folder: of the run, below ``data_dir``.
            data_dir: paths in records are relative to it.
        """
        self._store, self._run_id = store, run_id
        self._folder, self._data_dir = folder, data_dir
        self._known: dict[str, float | None] = {}

    async def register(self) -> None:
        """Make records of the finished checkpoints that have none yet.

        Raises:
            StoreUnavailableError: the rest is registered by the next call.
        """
        for name, accuracy in (await asyncio.to_thread(self._new)).items():
            record = await asyncio.to_thread(self._record, name)
            if record is not None:
                stored, _ = await self._store.create(record)
                if stored.accuracy is None and accuracy is not None:  # evaluated after it was written first
                    await self._rate(stored, accuracy)
            self._known[name] = accuracy

    async def _rate(self, stored: CheckpointRecord, accuracy: float) -> None:
        update: CheckpointUpdate = {"accuracy": accuracy}
        try:
            await self._store.update(CheckpointRecord, stored.id, update, version=stored.version)
        except ConflictError:
            return  # being deleted, or rated by the driver that took over

    def _new(self) -> dict[str, float | None]:
        """Return the accuracy of each checkpoint on disk that is not known as it is."""
        found = {}
        for folder in list_checkpoints(self._folder / FOLDER):
            try:
                found[folder.name] = read_state(folder)["accuracy"]
            except CheckpointError:
                continue  # the run has just deleted it
        return {name: rate for name, rate in found.items() if name not in self._known or self._known[name] != rate}

    def _record(self, name: str) -> CheckpointRecord | None:
        """Give a checkpoint its second name and return its record; None where the run has just deleted it."""
        try:
            kept = keep(self._folder / FOLDER / name, self._folder / KEPT / name)
            return self._describe(kept)
        except (FileNotFoundError, CheckpointError):
            return None

    def _describe(self, kept: Path) -> CheckpointRecord:
        state: dict[str, Any] = read_state(kept)
        topology = topology_in(kept)
        return CheckpointRecord(
            id=checkpoint_id(self._run_id, kept.name),
            run=self._run_id,
            stage=state["index"],
            stage_name=state["name"],
            step=state["step"],
            path=str(kept.relative_to(self._data_dir)),
            nodes=len(topology.nodes),
            level=state["level"],
            topology_hash=topology.content_hash,
            accuracy=state["accuracy"],
        )


def keep(folder: Path, target: Path) -> Path:
    """Give a checkpoint a second name that its run's own pruning does not reach; returns it.

    Raises:
        FileNotFoundError: the checkpoint is gone.
    """
    if target.is_dir():
        return target
    draft = target.with_name(f"{_DRAFT}{target.name}")
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(parents=True)
    try:
        for file in sorted(folder.iterdir()):
            _link(file, draft / file.name)
        draft.rename(target)
    except FileNotFoundError:
        shutil.rmtree(draft)
        raise
    return target


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
