"""Scorer: judges answers in processes of its own, while the engine goes on.

For tasks whose scoring may be slow, hang or crash: an answer has a time limit, and a process that is killed or dies is
replaced. What goes wrong is told of the one answer it happened to.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Timer
from typing import Any

from neuromas.errors import TaskError
from neuromas.rollout.scorer_process import send
from neuromas.tasks.base import Example, Score, Task

LOADING_S = 300.0
"""Seconds that a process may take to start and to import what the task needs."""


class Scorer:
    """A few processes that judge answers. They start with the first answer and end with ``close``."""

    def __init__(self, processes: int = 2) -> None:
        """Set up the scorer; ``processes`` is how many answers are judged at a time."""
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="scorer")
        self._children = [_Child() for _ in range(processes)]
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        for child in self._children:
            self._idle.put(child)

    def submit(self, task: Task, packed: bytes, example: Example, text: str) -> Future[Score]:
        """Return the score to come. It raises TaskError where scoring fails, crashes or takes too long.

        Args:
            task: says how long scoring may take.
            packed: the task as ``pack`` returns it, so that a batch packs it once.
            example: the question.
            text: the answer.
        """
        return self._threads.submit(self._score, task.scoring_timeout_s or LOADING_S, packed, example, text)

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.close()
        self._threads.shutdown(wait=True)
        for child in self._children:
            child.drop()

    def _score(self, timeout_s: float, packed: bytes, example: Example, text: str) -> Score:
        child = self._idle.get()
        try:
            return child.score(timeout_s, packed, example, text)
        finally:
            self._idle.put(child)


def pack(task: Task) -> bytes:
    """Return a task as bytes for a scorer.

    Raises:
        TaskError: it cannot be pickled.
    """
    try:
        return pickle.dumps(task)
    except Exception as error:
        raise TaskError(
            f"the task {type(task).__name__} cannot be pickled for the processes that score it: {error!r}; mend that, "
            "or return None from scoring_timeout_s to score in place"
        ) from error


class _Child:
    """One process, started when needed, with one task loaded at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded = b""
        self._starting = Lock()
        self._is_closed = False

    def score(self, timeout_s: float, packed: bytes, example: Example, text: str) -> Score:
        if self._process is None or self._process.poll() is not None:
            self._start()
        if packed != self._loaded:
            self._loaded = b""
            self._ask(("load", packed), LOADING_S, "loading the task")
            self._loaded = packed
        answer = self._ask(("score", example, text), timeout_s, "scoring")
        return Score(answer["reward"], answer["parts"])

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # Its own session: what it has started ends with it.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """End the process; none is started again."""
        with self._starting:
            self._is_closed = True
            self.kill()

    def drop(self) -> None:
        """Kill the process and close its pipes."""
        self.kill()
        process, self._process = self._process, None
        for pipe in (process.stdin, process.stdout) if process is not None else ():
            with suppress(OSError):  # what was still to be written
                pipe.close()  # type: ignore[union-attr]

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Return the exit status of a process that is ending, or only says no more."""
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=1)
        self.kill()
        return process.wait()

    def _start(self) -> None:
        self.drop()
        self._loaded = b""
        with self._starting:
            if self._is_closed:
                raise TaskError("the scorer is closed")
            self._process = subprocess.Popen(
                [sys.executable, "-m", "neuromas.rollout.scorer_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            )

    def _ask(self, request: tuple[object, ...], limit_s: float, doing: str) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        late = []

        def stop() -> None:
            late.append(True)
            self.kill()

        timer = Timer(limit_s, stop)
        timer.daemon = True
        timer.start()
        try:
            send(process.stdin, request)
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            timer.cancel()
        if late or not line:
            status = self._reap(process)
        if late:
            raise TaskError(f"{doing} took longer than {limit_s:g} s (scoring_timeout_s)")
        if not line:
            raise TaskError(f"the process that was {doing} ended by itself (exit status {status})")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise TaskError(str(answer["error"]))
        return answer
