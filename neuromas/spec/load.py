"""Reads spec files: TOML and JSON, whole run specs and bare topologies."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from neuromas.errors import SpecError, reason
from neuromas.spec.overrides import apply_overrides
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import family
from neuromas.topology.document import FORMS, topology_from_document
from neuromas.topology.graph import Topology

Document = dict[str, object]

_SHIPPED = RunSpec.model_fields["base"].default
"""Name of the base that is no path, whatever lies beside the spec."""


def load_document(path: Path) -> Document:
    """Return the table that a TOML or JSON file holds, unchecked.

    Raises:
        SpecError: the file cannot be read, or is not a table in the format that its suffix names.
    """
    if path.is_dir():
        inside = ", ".join(sorted(entry.name for entry in path.iterdir() if entry.suffix in _READERS))
        raise SpecError(f"{path} is a folder; name a file{f' in it: {inside}' if inside else ' (.toml or .json)'}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SpecError(f"{path} does not exist; name a spec file (.toml or .json)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {reason(error)}") from error
    if path.suffix not in _READERS:
        raise SpecError(f"{path}: got suffix {path.suffix!r}, allowed are {' and '.join(_READERS)}")
    try:
        document = _READERS[path.suffix](text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path}: got JSON of type {type(document).__name__}, expected an object")
    return document


def load_spec(path: Path | str, overrides: Sequence[str] = ()) -> RunSpec:
    """Return the run spec in a file, after overrides such as ``training.steps=10``.

    Paths of the base and of the task's files are made absolute, so that a run finds them wherever it goes on: the
    file's own paths are relative to the file, those of an override to the working directory.

    Raises:
        SpecError: with everything that is wrong.
    """
    path = Path(path)
    document = _placed(path.parent, load_document(path))
    return parse_run_spec(_placed(Path(), apply_overrides(document, overrides)))


def load_topology(path: Path, overrides: Sequence[str] = ()) -> Topology:
    """Return the topology in a file that holds a bare topology document.

    Raises:
        SpecError: with everything that is wrong.
    """
    return topology_from_document(apply_overrides(load_document(path), overrides))


def is_topology_document(document: Mapping[str, object]) -> bool:
    """Whether a document is a bare topology rather than a run spec."""
    return "topology" not in document and any(form in document for form in FORMS)


def _placed(folder: Path, document: Document) -> Document:
    """Return the document with the paths that are relative to ``folder`` made absolute."""
    return _with_task_at(folder, _with_base_at(folder, document))


def _with_task_at(folder: Path, document: Document) -> Document:
    section = document.get("task")
    found = family(str(section.get("type"))) if isinstance(section, Mapping) else None
    if found is None or not isinstance(section, Mapping):
        return document
    given = {name: section.get(name) for name in found.paths}
    paths = {name: path for name, path in given.items() if isinstance(path, str) and path and "\0" not in path}
    return document | {"task": {**section, **{name: str((folder / path).resolve()) for name, path in paths.items()}}}


def _with_base_at(folder: Path, document: Document) -> Document:
    """Return the document with a base that lies in ``folder`` named by its absolute path."""
    base = document.get("base")
    if not isinstance(base, str) or base in ("", _SHIPPED) or not (folder / base).exists():
        return document
    return document | {"base": str((folder / base).resolve())}


def _read_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)


def _without_repeats(pairs: list[tuple[str, object]]) -> Document:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"{', '.join(repeated)}: given twice in one object")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"got {name}, expected a finite number")


_READERS: Mapping[str, Callable[[str], object]] = {".toml": tomllib.loads, ".json": _read_json}
