"""A folder that becomes a base once it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_PREFIX: Final = ".draft-"


@contextmanager
def base_draft(parent: Path) -> Iterator[Path]:
    """Give a folder to write a base in, locked while this process lives; what killed processes left is removed.

    Args:
        parent: folder of bases, in which the draft is made: to be renamed when it is whole.
    """
    with _locked(parent):  # so that nobody takes a draft for left that is not locked yet
        for left in parent.glob(f"{_PREFIX}*"):
            with suppress(OSError), _locked(left, fcntl.LOCK_NB):
                shutil.rmtree(left, ignore_errors=True)
        draft = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = os.open(draft, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(lock)


@contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(lock)
