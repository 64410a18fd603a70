"""The base that a run began with, by content: adapters are worth nothing on other weights."""

from __future__ import annotations

from pathlib import Path

from neuromas.base.fingerprint import fingerprint
from neuromas.base.resolve import resolve_base
from neuromas.errors import CheckpointError
from neuromas.journal.folder import BASE_FILE, RunFolder


def record_base(folder: RunFolder, base: Path) -> None:
    """Write into a run's folder which base it begins with."""
    folder.write_json(BASE_FILE, {"folder": str(base), "sha256": fingerprint(base)})


def check_base(folder: RunFolder, name: str) -> None:
    """Refuse a base whose files are not those that the run began with; runs that recorded none pass.

    Args:
        folder: of the run.
        name: of the base, as the run's spec has it.

    Raises:
        CheckpointError: the base was changed.
        BaseModelError: there is no such base any more.
    """
    if not (folder.path / BASE_FILE).is_file():
        return
    base, recorded = resolve_base(name), folder.read_json(BASE_FILE)["sha256"]
    found = fingerprint(base)
    if found != recorded:
        raise CheckpointError(
            f"base {base} has changed since {folder.path} was trained on it: its content hash is {found[:12]}, it was "
            f"{recorded[:12]}; put the old files back, or train anew"
        )
