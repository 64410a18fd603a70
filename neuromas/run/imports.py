"""What may be imported into the nodes of a graph: adapters by the names that it has, within an error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from neuromas.adapters.export import CONFIG
from neuromas.errors import AdapterError
from neuromas.spec.run import RunSpec

MAX_ERROR: Final = 0.05
"""Largest relative error of a layer's update that is taken without asking."""


def unknown_adapters(names: Iterable[str], spec: RunSpec) -> str | None:
    """Return which names are no adapters of a run's graph, and which there are; None where all are."""
    known = spec.topology.adapters
    unknown = sorted(set(names) - set(known))
    return f"got {unknown}; the adapters of the graph are {list(known)}" if unknown else None


def peft_folders(parent: Path) -> dict[str, Path]:
    """Return the PEFT folders in a folder, by their names.

    Raises:
        AdapterError: there are none.
    """
    if not parent.is_dir():
        raise AdapterError(f"{parent} is no folder; name the one that holds a PEFT folder for each adapter")
    found = {path.name: path for path in sorted(parent.iterdir()) if (path / CONFIG).is_file()}
    if not found:
        raise AdapterError(f"{parent} holds no PEFT folder: none of its folders has {CONFIG}")
    return found
