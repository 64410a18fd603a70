"""Shapes of a base's linear layers, read from the headers of its weight files. Loads no torch and no weights."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

from neuromas.adapters.families.contract import ModuleShape
from neuromas.errors import BaseModelError

_WEIGHT = ".weight"
_IN_LAYER = re.compile(r"\.\d+\.")
_MAX_HEADER_BYTES = 100_000_000


def linear_shapes(folder: Path, targets: Sequence[str]) -> tuple[ModuleShape, ...]:
    """Return the layers that adapters with these targets sit on, by path.

    Args:
        folder: of the base.
        targets: last parts of module paths, such as ``q_proj``.

    Raises:
        BaseModelError: there are no safetensors files, or a target names no linear layer of the base.
    """
    # Embedding and head lie outside the layers: the engine does not serve adapters on them.
    matrices = {path: shape for path, shape in _matrices(folder) if _IN_LAYER.search(path)}
    wanted = set(targets)
    shapes = tuple(
        ModuleShape(path, in_features, out_features)
        for path, (out_features, in_features) in sorted(matrices.items())
        if path.rpartition(".")[2] in wanted
    )
    missing = wanted - {shape.path.rpartition(".")[2] for shape in shapes}
    if missing:
        known = sorted({path.rpartition(".")[2] for path in matrices})
        raise BaseModelError(
            f"got {', '.join(sorted(missing))}, which no layer of base {folder.name} has; "
            f"allowed are {', '.join(known)}"
        )
    return shapes


def count_parameters(folder: Path) -> int:
    """Return how many numbers the weights of a base hold.

    Raises:
        BaseModelError: there are no safetensors files.
    """
    return sum(prod(entry["shape"]) for file in _files(folder) for entry in _header(file).values())


def count_layer_weights(folder: Path) -> int:
    """Return how many numbers the linear layers of a base hold, without embedding and head.

    Raises:
        BaseModelError: there are no safetensors files.
    """
    return sum(prod(shape) for path, shape in _matrices(folder) if _IN_LAYER.search(path))


def count_features(folder: Path) -> int:
    """Return how many numbers go into and come out of all linear layers of a base, for one token.

    Raises:
        BaseModelError: there are no safetensors files.
    """
    return sum(sum(shape) for path, shape in _matrices(folder) if _IN_LAYER.search(path))


def linear_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the linear layers that adapters usually sit on: all projections, else all layers.

    Raises:
        BaseModelError: there are no safetensors files.
    """
    names = sorted({path.rpartition(".")[2] for path, _ in _matrices(folder) if _IN_LAYER.search(path)})
    projections = tuple(name for name in names if name.endswith("_proj"))
    return projections or tuple(names)


def _matrices(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for file in _files(folder):
        for key, entry in _header(file).items():
            if key.endswith(_WEIGHT) and len(shape := entry["shape"]) == 2:
                yield key.removesuffix(_WEIGHT), (int(shape[0]), int(shape[1]))


def _files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseModelError(f"{folder} holds no safetensors file; other weight formats are not read")
    return files


def _header(file: Path) -> dict[str, dict[str, list[int]]]:
    # The format begins with the header's length as a little-endian 64-bit integer, then JSON.
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= _MAX_HEADER_BYTES:
            raise BaseModelError(f"{file} is no safetensors file")
        try:
            header: dict[str, dict[str, list[int]]] = json.loads(stream.read(length))
        except ValueError as error:
            raise BaseModelError(f"{file} has a broken header: {error}") from error
    header.pop("__metadata__", None)
    return header
