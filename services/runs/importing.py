"""The first part of a run that begins with adapters which were brought along: from uploads to a checkpoint."""

from __future__ import annotations

from pathlib import Path

from neuromas.checkpoints.location import list_checkpoints
from neuromas.errors import AdapterError
from neuromas.journal.events import Observer
from neuromas.journal.folder import IMPORT_FILE, RunFolder
from neuromas.services.records.run import RunImport, RunRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.spec.run import RunSpec
from neuromas.workflows.import_adapters import import_adapters


def import_uploads(
    run: RunRecord, imports: RunImport, spec: RunSpec, settings: Settings, observe: Observer
) -> Document:
    """Return what became of a run's adapters, by name, with those of the graph that begin ``fresh``.

    A run that was broken off before its checkpoint stood begins again; one that has it goes on from there.

    Args:
        run: has the adapters' owner.
        imports: which are imported.
        spec: of the run.
        settings: say where they lie.
        observe: told of each.

    Raises:
        SpecError: the run could not start.
        AdapterError: one is no adapter of the graph, or none that its node's kind, rank and layers can hold.
        StorageError: the disk has no space for the checkpoint.
    """
    out = settings.runs_dir / run.id
    folder = RunFolder(out / spec.name)
    if list_checkpoints(folder.checkpoints):
        found: Document = folder.read_json(IMPORT_FILE)
        return found
    own = settings.adapters_of(run.owner, run.project)
    folders: dict[str, Path] = {name: own / brought for name, brought in imports.adapters.items()}
    try:
        return import_adapters(spec, folders, out, max_error=imports.max_error, overwrite=True, on_event=observe).became
    except AdapterError as error:  # by their names: where they lie here is nobody's business
        raise AdapterError(str(error).replace(f"{own}/", "")) from error
