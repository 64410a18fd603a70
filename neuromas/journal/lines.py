"""Append-only JSON-lines files that survive a kill: one system call per line, and cut back to a step on resume."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from neuromas.errors import writing

Document = Mapping[str, Any]


class Journal:
    """One JSON-lines file, opened for appending.

    Each object is handed to the operating system whole before ``append`` returns. A killed process therefore loses
    at most the end of its last line, which readers skip and ``cut_back`` removes. A full disk takes all of the objects
    or none: the next ones, once there is space, must not follow half a line.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, made where it is missing.

        Raises:
            StorageError: it cannot be.
        """
        self._path = path
        with writing(path):
            _end_last_line(path)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, *documents: Document) -> None:
        """Add objects in order.

        Raises:
            ValueError: JSON has no word for a value (NaN, infinity).
            StorageError: there is no space for all of them; none was added.
        """
        content = b"".join(encode(document) for document in documents)
        written = 0
        with writing(self._path):
            try:
                while written < len(content):
                    written += os.write(self._descriptor, content[written:])
            except OSError:
                self._take_back(written)
                raise

    def close(self) -> None:
        """Make the file durable and close it. Safe to call twice.

        Raises:
            StorageError: the disk did not take what was added.
        """
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with writing(self._path):
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _take_back(self, written: int) -> None:
        """Cut off what was added last, unless another process has added to the file meanwhile."""
        end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
        if written and os.fstat(self._descriptor).st_size == end:
            os.ftruncate(self._descriptor, end - written)


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
    """Replace a file in one move: a reader sees the old content or the new, never a part.

    Raises:
        StorageError: it cannot be written; the old content stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def drafts(path: Path) -> Iterator[Path]:
    """Yield what ``write_whole`` has beside a file: drafts of processes that write it, or were killed over it."""
    for draft in path.parent.glob(f".{escape(path.name)}.*"):
        if draft.suffix[1:].isdecimal():
            yield draft


def _end_last_line(path: Path) -> None:
    """Take off the unfinished last line that a killed writer left."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
