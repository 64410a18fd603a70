"""Finds and checks checkpoints without loading a single weight.

A checkpoint is a folder ``<stage>-<step>`` whose ``manifest.json``, written last, holds the SHA-256 of every other
file in it: topology.json, adapters.safetensors, optimizer.safetensors, rng.json and state.json. Beside them lie the
aliases ``latest.json`` and ``best.json``.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from neuromas.errors import CheckpointError
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

MANIFEST = "manifest.json"
TOPOLOGY = "topology.json"
ADAPTERS = "adapters.safetensors"
OPTIMIZER = "optimizer.safetensors"
RNG = "rng.json"
STATE = "state.json"
FILES = (TOPOLOGY, ADAPTERS, OPTIMIZER, RNG, STATE)
ALIASES = ("latest", "best")
FOLDER = "checkpoints"


def resolve_checkpoint(name: str | Path) -> Path:
    """Return the folder of a checkpoint.

    Args:
        name: the folder itself; a run's folder or its ``checkpoints`` folder, for the latest one; or
            ``<either>/latest`` and ``<either>/best``.

    Raises:
        CheckpointError: nothing of the kind is there.
    """
    path = Path(name)
    if (path / MANIFEST).is_file():
        return path
    alias = path.name if path.name in ALIASES else "latest"
    parent = path.parent if path.name in ALIASES else path
    for root in (parent, parent / FOLDER):
        found = read_alias(root, alias)
        if found is not None:
            return found
    raise CheckpointError(f"checkpoint {path}: {_missing(path)}")


def _missing(path: Path) -> str:
    """Return why there is no checkpoint, and what to name instead."""
    if not path.exists():
        return "not found; name its folder, or the run's folder for the latest one"
    if not path.is_dir():
        return "this is a file; name the folder of a trained run, or of one of its checkpoints"
    if runs := sorted(entry.name for entry in path.iterdir() if list_checkpoints(entry / FOLDER)):
        shown = ", ".join(runs[:8]) + (", ..." if len(runs) > 8 else "")
        return f"this is a folder of several runs; name one of them: {shown}"
    if (path / FOLDER).is_dir():
        return "the run has written no checkpoint yet; wait for its first one, or go on with --resume"
    if any((path / name).is_file() for name in FILES):
        return f"{MANIFEST} is missing, so it was never finished; use an earlier one"
    return "this is not the folder of a run or of a checkpoint"


def read_alias(root: Path, alias: str) -> Path | None:
    """Return the checkpoint that an alias in ``root`` names; None without the alias."""
    file = root / f"{alias}.json"
    if not file.is_file():
        return None
    return root / str(_read_json(file)["checkpoint"])


def list_checkpoints(root: Path) -> list[Path]:
    """Return the finished checkpoints of a ``checkpoints`` folder, in the order in which they were written."""
    if not root.is_dir():
        return []
    finished = [folder for folder in root.iterdir() if (folder / MANIFEST).is_file() and folder.name[0] != "."]
    return sorted(finished, key=lambda folder: (int(_read_json(folder / MANIFEST)["sequence"]), folder.name))


def verify(folder: Path) -> None:
    """Check that a checkpoint is complete and unaltered.

    Raises:
        CheckpointError: a file is missing, altered or not listed; the message names it.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise CheckpointError(f"checkpoint {folder}: {MANIFEST} is missing: it was never finished; use an earlier one")
    listed = _read_json(manifest).get("sha256", {})
    missing = [name for name in FILES if name not in listed]
    if missing:
        raise CheckpointError(f"checkpoint {folder}: {MANIFEST} does not list {missing[0]}; use another checkpoint")
    for name, expected in listed.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"checkpoint {folder}: {name} is missing; use another checkpoint")
        if sha256(file) != expected:
            raise CheckpointError(f"checkpoint {folder}: {name} was altered since it was written; use another one")


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_topology(name: str | Path) -> Topology:
    """Return the graph of a checkpoint; see ``resolve_checkpoint`` for its names.

    Raises:
        CheckpointError: there is no such checkpoint, or it is incomplete or altered.
    """
    folder = resolve_checkpoint(name)
    verify(folder)
    return topology_in(folder)


def topology_in(folder: Path) -> Topology:
    """Return the graph in the folder of a checkpoint, which is not verified.

    Raises:
        CheckpointError: it is not there or not readable.
    """
    return topology_from_document(_read_json(folder / TOPOLOGY))


def read_state(folder: Path) -> dict[str, Any]:
    """Return ``state.json`` of a checkpoint: stage, name, step, cursor, level, spending, checks, lineage, metrics.

    Raises:
        CheckpointError: it is not there or not readable.
    """
    return _read_json(folder / STATE)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint file {file}: cannot be read ({error}); use another checkpoint") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"checkpoint file {file}: expected a JSON object; use another checkpoint")
    return document
