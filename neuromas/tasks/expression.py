"""Whether two mathematical expressions are equal, asked of the package ``math-verify`` in a process of its own.

Its algebra (SymPy) may take any time and memory over what a model writes: the process has limits of both, and one that
does not answer is killed. Only its LaTeX grammar reads texts; what it has for plain texts evaluates them as Python.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Final

from neuromas.errors import TaskError

TIMEOUT_S: Final = 5.0
"""Seconds that one comparison may take; one that takes longer finds the expressions different."""
MOST: Final = 400
"""Characters of an expression; a longer one equals nothing."""
_STARTING_S: Final = 60.0


def require() -> None:
    """Check that the package is there.

    Raises:
        TaskError: it is not.
    """
    if find_spec("math_verify") is None:
        raise TaskError(
            'task.verifier: "math" needs the package math-verify: pip install \'neuromas[math]\', or choose "number"'
        )


@lru_cache(maxsize=4096)
def are_equal(right: str, given: str) -> bool:
    """Return whether an expression equals the right one; False where that cannot be found out in ``TIMEOUT_S``.

    Raises:
        TaskError: the package is missing, or its process does not start.
    """
    if max(len(right), len(given)) > MOST:
        return False
    return _CHECKER.ask(right, given)


class _Checker:
    """One process that compares, started with the first question; it ends with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = Lock()

    def ask(self, right: str, given: str) -> bool:
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._start()
            said = self._say([right, given], TIMEOUT_S)
            return said == b"true\n"

    def _start(self) -> None:
        require()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "neuromas.tasks.expression_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if self._say(["1", "1"], _STARTING_S) != b"true\n":
            raise TaskError("the process that compares expressions did not start; does `import math_verify` work?")

    def _say(self, pair: list[str], limit_s: float) -> bytes:
        """Return the process' line; nothing of one that has died or is late, which is killed."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(pair).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._end(process)
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            is_late = not waiting.select(limit_s)
        return (b"" if is_late else process.stdout.readline()) or self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> bytes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None
        return b""


_CHECKER: Final = _Checker()
