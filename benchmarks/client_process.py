"""Clients in a process of their own, as clients are: they take orders as JSON lines on stdin and answer on stdout."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.process_tree import cpu_s


class ClientProcess:
    """The process of a client, from outside; use it in a ``with``, which ends it."""

    def __init__(self, module: str) -> None:
        """Start ``python -m module``."""
        command = [sys.executable, "-m", module]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process."""
        self._orders.close()
        self._process.wait()
        self._answers.close()

    def cpu_s(self) -> float:
        """Return the processor seconds that it has taken."""
        return cpu_s(self._process.pid)

    def order(self, **order: Any) -> None:
        """Send an order."""
        self._orders.write(json.dumps(order) + "\n")
        self._orders.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what the client says next.

        Raises:
            RuntimeError: it ended instead.
        """
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the client has ended; its error is above")
        found: dict[str, Any] = json.loads(line)
        return found


def orders() -> Iterator[dict[str, Any]]:
    """Give the orders of this process, which is the client's."""
    for line in sys.stdin:
        yield json.loads(line)


def say(found: dict[str, Any]) -> None:
    """Answer an order."""
    # Where PYTHONUNBUFFERED is set, sys.stdout drops the rest of a write that was cut short, as signals do, and the end
    # of an event loop on io_uring. A buffered file of our own writes on.
    with open(sys.stdout.fileno(), "w", closefd=False) as stdout:
        stdout.write(json.dumps(found) + "\n")
