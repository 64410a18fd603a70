"""Append-only JSON-lines files that survive a kill: one system call per line, and cut back to a step on resume."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]


class Journal:
    """One JSON-lines file, opened for appending.

    Each object is handed to the operating system whole before ``append`` returns. A killed process therefore loses
    at most the end of its last line, which readers skip and ``cut_back`` removes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        _end_last_line(path)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, *documents: Document) -> None:
        """Add objects in order; raises ValueError for values that JSON has no word for (NaN, infinity)."""
        rest = b"".join(encode(document) for document in documents)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """Make the file durable and close it. Safe to call twice."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def encode(document: Document) -> bytes:
    """Return one line of UTF-8 JSON with its newline."""
    return (json.dumps(document, ensure_ascii=False, allow_nan=False, default=str) + "\n").encode()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file in order; a last line that was cut off is left out, a missing file is empty."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def cut_back(path: Path, keep: Callable[[dict[str, Any]], bool]) -> int:
    """Rewrite a file with the objects that ``keep`` accepts; returns how many it dropped."""
    documents = list(read(path))
    kept = [document for document in documents if keep(document)]
    if path.exists():
        write_whole(path, b"".join(encode(document) for document in kept))
    return len(documents) - len(kept)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one move: a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _end_last_line(path: Path) -> None:
    """Take off the unfinished last line that a killed writer left."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
