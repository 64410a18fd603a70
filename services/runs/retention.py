"""Retention: removes what is not kept any longer, and never what something still needs."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Container
from pathlib import Path
from typing import Final

from neuromas.journal.folder import RunFolder
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.evaluation import UNFINISHED, EvaluationRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import AUDIT
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store
from neuromas.services.store.listing import all_of
from neuromas.services.store.removal import remove_run
from neuromas.services.store.uses import users

logger = logging.getLogger(__name__)
PRUNED_GRACE_S: Final = 600.0
"""Seconds that a checkpoint stays which its run has deleted itself: who has just read of it may still want it."""
_DAY_S: Final = 86_400.0


class Retention:
    """Removes checkpoints, runs and entries of the audit log by the settings.

    The record of a checkpoint goes before its files, so that nobody is sent to a gap.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings

    async def round(self) -> None:
        """Remove what is due.

        Raises:
            StoreUnavailableError: the store is away; the rest is removed by the next round.
        """
        while await self._store.trim(AUDIT, self._settings.retain_audit_entries):
            pass
        await self._clear_scratch()
        runs = await all_of(self._store, RunRecord)
        needed = await users(self._store)
        by_run: dict[str, list[CheckpointRecord]] = {}
        for checkpoint in await all_of(self._store, CheckpointRecord):
            by_run.setdefault(checkpoint.run, []).append(checkpoint)
        for run in runs:
            checkpoints = by_run.get(run.id, [])
            if self._is_run_due(run, checkpoints, needed):
                logger.info("removing a run", extra={"run_id": run.id})
                await remove_run(self._store, run, checkpoints, self._settings.runs_dir)
                continue
            for checkpoint in await asyncio.to_thread(self._due, run, checkpoints):
                if checkpoint.id not in needed:
                    await self._remove_checkpoint(checkpoint)

    async def _clear_scratch(self) -> None:
        """Remove what evaluations have left whose processes were killed."""
        folder = self._settings.evaluations_dir
        left = set(await asyncio.to_thread(os.listdir, folder)) if folder.is_dir() else set()
        for state in UNFINISHED if left else ():
            left -= {evaluation.id for evaluation in await all_of(self._store, EvaluationRecord, state=state)}
        for id in left:
            await asyncio.to_thread(shutil.rmtree, folder / id, ignore_errors=True)

    def _is_run_due(self, run: RunRecord, checkpoints: list[CheckpointRecord], needed: Container[str]) -> bool:
        days, ended = self._settings.retain_runs_days, run.ended
        if days is None or not run.has_ended or ended is None:
            return False
        is_needed = run.id in needed or any(checkpoint.id in needed for checkpoint in checkpoints)
        return time.time() - ended > days * _DAY_S and not is_needed

    def _due(self, run: RunRecord, checkpoints: list[CheckpointRecord]) -> list[CheckpointRecord]:
        """Return the checkpoints of a run that are beyond their number, or deleted by the run itself."""
        newest_first = sorted(checkpoints, key=lambda found: (found.stage, found.step), reverse=True)
        best = max(checkpoints, key=_rating, default=None)
        limit = self._settings.retain_checkpoints if run.has_ended else None
        return [
            checkpoint
            for place, checkpoint in enumerate(newest_first)
            if (limit is not None and place >= limit and checkpoint is not best)
            or checkpoint.state is not None  # being deleted, on request
            or self._is_pruned(checkpoint)
        ]

    def _is_pruned(self, checkpoint: CheckpointRecord) -> bool:
        own = _own_folder(self._settings.data_dir / checkpoint.path)
        return not own.exists() and time.time() - checkpoint.created > PRUNED_GRACE_S

    async def _remove_checkpoint(self, checkpoint: CheckpointRecord) -> None:
        logger.info("removing a checkpoint", extra={"checkpoint": checkpoint.id, "run_id": checkpoint.run})
        await self._store.delete(CheckpointRecord, checkpoint.id)
        kept = self._settings.data_dir / checkpoint.path
        for folder in (kept, _own_folder(kept)):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _own_folder(kept: Path) -> Path:
    """Return the name that a checkpoint has in its run's own list."""
    return RunFolder(kept.parents[1]).checkpoints / kept.name


def _rating(checkpoint: CheckpointRecord) -> tuple[int, float]:
    """Return what is largest for the best checkpoint: later stages have larger graphs and harder tasks."""
    return (-1, 0.0) if checkpoint.accuracy is None else (checkpoint.stage, checkpoint.accuracy)
