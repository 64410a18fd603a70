"""What was found out about a checkpoint, kept in the folder of its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromas.errors import StorageError
from neuromas.journal.events import Notice, Observer
from neuromas.journal.folder import RunFolder
from neuromas.report.page import write_report


def keep(checkpoint: Path, name: str, found: Mapping[str, Any], tell: Observer) -> dict[str, Any]:
    """Write a document about a checkpoint, and the run's report anew; returns the document.

    A folder that cannot be written, of somebody else's run, say, is told as a warning: what was found is shown all the
    same.

    Args:
        checkpoint: folder of the checkpoint.
        name: of the file in the run's folder.
        found: what was found.
        tell: hears of it.
    """
    document = {"checkpoint": str(checkpoint), **found}
    folder = RunFolder(checkpoint.resolve().parents[1])
    try:
        folder.write_json(name, document)
        write_report(folder.path)
    except StorageError as error:
        tell(Notice(message=f"what was found is not kept: {error}", severity="warning", source=Path(name).stem))
    return document
