"""Children: the processes of an embedded service, none of which outlives it.

Each is asked to end when the process that started it dies, however it dies; and what the children started themselves
and left behind (Ray's workers are many) falls to this process, which ends it too. Both are Linux's doing; elsewhere
the children's own sessions are ended, and a killed parent leaves them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
_TICK_S: Final = 0.05
PRIVATE_UMASK: Final = 0o077
"""What processes of ours make is for their user alone: runs hold questions, answers and weights."""


@dataclass(slots=True)
class Child:
    """One process that we started: its name, itself, and the file with its output."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def last_words(self, num_lines: int = 8) -> str:
        """Return the end of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return "\n".join(lines[-num_lines:])


class Children:
    """Starts processes and ends all of them."""

    def __init__(self) -> None:
        self._children: list[Child] = []
        self._prctl: Callable[..., int] | None = None
        if sys.platform == "linux":
            self._prctl = ctypes.CDLL(None, use_errno=True).prctl
            self._prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        descriptors: Sequence[int] = (),
    ) -> Child:
        """Start a process in a session of its own, so that the terminal's Ctrl-C reaches only us.

        Args:
            name: for messages.
            command: program and arguments.
            environment: all of it.
            log: file for its output, appended to.
            descriptors: open files that it inherits.
        """
        prctl = self._prctl

        def die_with_parent() -> None:
            if prctl is not None:
                prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)

        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(descriptors),
                umask=PRIVATE_UMASK,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one call of the kernel, nothing that a thread may lock
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def forget(self, child: Child) -> None:
        """Take a process that has ended off the list."""
        self._children.remove(child)

    def ask(self, child: Child) -> None:
        """Ask a process to end."""
        if child.is_alive:
            child.process.terminate()

    def reap(self) -> None:
        """Take note of the ends of processes that our children left to us."""
        own = {child.process.pid for child in self._children}
        for pid in _children_of(os.getpid()):
            if pid not in own:
                _wait(pid)

    def end(self, grace_s: float) -> None:
        """End everything: ask, wait, kill, until nothing is left."""
        for child in self._children:
            self.ask(child)
        deadline = time.monotonic() + grace_s
        while any(child.is_alive for child in self._children) and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        for child in self._children:
            if child.is_alive:
                _kill_session(child.process.pid)
            child.process.wait()
        self._children.clear()
        # Killing a process leaves its own children to us, so look again until there are none.
        while left := list(_children_of(os.getpid())) if self._prctl is not None else []:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                _wait(pid)
            time.sleep(_TICK_S)


def _kill_session(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # nobody of it is left


def _wait(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _children_of(parent: int) -> Iterator[int]:
    """Yield the ids of a process's children, ended ones that nobody has waited for among them."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == parent:
            yield int(folder.name)
