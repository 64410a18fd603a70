"""The files of questions that a run began with, by content: a resumed run must not go on with others."""

from __future__ import annotations

import hashlib
from pathlib import Path

from neuromas.errors import CheckpointError, TaskError, reason
from neuromas.journal.folder import DATA_FILE, RunFolder
from neuromas.tasks.spec import TaskSpec


def record_data(folder: RunFolder, task: TaskSpec) -> None:
    """Write into a run's folder what its files of questions hold; nothing for tasks without files.

    Raises:
        TaskError: a file cannot be read.
    """
    if hashes := _hashes(task):
        folder.write_json(DATA_FILE, hashes)


def check_data(folder: RunFolder, task: TaskSpec) -> None:
    """Refuse files of questions that are not those that the run began with; runs that recorded none pass.

    Raises:
        CheckpointError: a file was changed.
        TaskError: a file cannot be read.
    """
    if not (folder.path / DATA_FILE).is_file():
        return
    recorded, found = folder.read_json(DATA_FILE), _hashes(task)
    for name in recorded:
        if found.get(name) != recorded[name]:
            raise CheckpointError(
                f"{task.files().get(name)} (task.{name}) has changed since {folder.path} began: its content hash is "
                f"{found.get(name, 'none')[:12]}, it was {recorded[name][:12]}; put the old file back, or train anew"
            )


def _hashes(task: TaskSpec) -> dict[str, str]:
    hashes = {}
    for name, path in task.files().items():
        try:
            hashes[name] = _digest(Path(path))
        except OSError as error:
            raise TaskError(f"task.{name}: {path} cannot be read: {reason(error)}") from error
    return hashes


def _digest(path: Path) -> str:
    """Return the content hash of a file, or of a folder's files with their names."""
    if not path.is_dir():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    listed = "".join(f"{file.relative_to(path).as_posix()}\0{_digest(file)}\n" for file in files)
    return hashlib.sha256(listed.encode()).hexdigest()
