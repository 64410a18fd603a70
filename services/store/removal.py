"""The removal of a run: its checkpoints, its streams, its files, and its record."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import streams_of
from neuromas.services.store.base import Store


async def remove_run(store: Store, run: RunRecord, checkpoints: Iterable[CheckpointRecord], runs_dir: Path) -> None:
    """Remove a run for good.

    Checkpoints go first, so that nobody begins to use one, and the record last: what was interrupted is done again.

    Args:
        store: has the records and streams.
        run: has ended, and nothing needs it.
        checkpoints: all of its checkpoints.
        runs_dir: the folder that holds a folder for each run.
    """
    for checkpoint in checkpoints:
        await store.delete(CheckpointRecord, checkpoint.id)
    await asyncio.to_thread(shutil.rmtree, runs_dir / run.id, ignore_errors=True)
    for stream in streams_of(run.id):
        await store.drop(stream)
    await store.delete(RunRecord, run.id)
