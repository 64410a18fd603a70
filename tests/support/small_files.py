"""A disk that is full, for tests that may mount none: the system refuses what goes beyond a size, in mid-write."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TOO_LARGE = "File too large; raise the largest size of a file (ulimit -f)"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no byte beyond the first ``size`` of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limited(command: Sequence[str], size: int) -> list[str]:
    """Return a command whose processes write no byte beyond the first ``size`` of any file."""
    lead = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    return [sys.executable, "-c", f"{lead}; os.execv(sys.argv[1], sys.argv[1:])", *command]
