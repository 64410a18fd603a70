"""Runs side by side: a few processes, each of which takes the next run when it has finished one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from neuromas.errors import NeuroMASError, RuntimeStartError, writing
from neuromas.journal.events import Event, RunEnded
from neuromas.journal.folder import RESULT_FILE, SPEC_FILE, RunFolder
from neuromas.spec.run import RunSpec
from neuromas.studies.run_process import log_file

_STOP_S = 20
"""How long a run may take to end its step when it is asked to stop, and then to end at once."""

Document = dict[str, Any]
RunsObserver = Callable[[str, Event], None]
"""Receives the events of all runs with the name of the run."""


class SideBySideError(NeuroMASError, RuntimeError):
    """A run that was started beside others failed, or its process died."""

    code = "side_by_side"


def run_side_by_side(
    specs: Sequence[RunSpec], out: Path, on_event: RunsObserver, num_processes: int = 1
) -> dict[str, Document]:
    """Run specs in processes of their own and return the result document of each by name.

    A run that has finished in ``out`` before, with the same spec, is not run again; one that was broken off goes on. A
    run that is alone has all processors, one of several has one.

    Args:
        specs: begun in this order; names must differ.
        out: folder of the run folders, and of a log file per run.
        on_event: told all events but sampled rollouts, in this thread.
        num_processes: how many run at a time.

    Raises:
        SideBySideError: a run failed; the others are stopped.
    """
    results = {spec.name: found for spec in specs if (found := _result_of(spec, out)) is not None}
    for name in results:
        on_event(name, RunEnded(status="succeeded", message="was finished before"))
    waiting = deque(spec for spec in specs if spec.name not in results)
    if not waiting:
        return results
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    processes: list[_RunProcess] = []
    try:
        while waiting and len(processes) < num_processes:
            processes.append(_RunProcess(out, {} if num_processes == 1 else {"OMP_NUM_THREADS": "1"}))
            processes[-1].begin(waiting.popleft())
        while busy := [process for process in processes if process.name]:
            ready = wait([process.pipe for process in busy])
            for process in (process for process in busy if process.pipe in ready):
                kind, told = process.told()
                if kind == "event":
                    on_event(process.name, told)
                    continue
                results[process.name] = told
                process.name = ""
                if waiting:
                    process.begin(waiting.popleft())
    finally:
        for process in processes:
            process.ask_to_stop()
        for process in processes:
            process.end()
    return {spec.name: results[spec.name] for spec in specs}


class _RunProcess:
    """A process of ours that runs one spec at a time.

    Not one of ``multiprocessing``: that would execute the user's script once more in each process.

    Attributes:
        pipe: where it tells what happens.
        name: of the run in work; "" = none.
    """

    def __init__(self, out: Path, environment: Mapping[str, str]) -> None:
        self._out = out
        self.name = ""
        self.pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                # -P: a file of the user's in this folder is no module of Python's.
                [sys.executable, "-P", "-m", "neuromas.studies.run_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C reaches only us, and we end it
                env={
                    **os.environ,
                    **environment,
                    "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
                },
            )

    def begin(self, spec: RunSpec) -> None:
        self.name = spec.name
        with suppress(OSError):  # it has died: told() says so
            self.pipe.send((spec, self._out))

    def told(self) -> tuple[str, Any]:
        """Return ("event", event) or ("done", document).

        Raises:
            SideBySideError: the run failed, or the process is gone.
        """
        try:
            kind, told = self.pipe.recv()
        except (EOFError, OSError):
            kind, told = "failed", f"its process ended by itself (exit status {self._process.wait()})"
        if kind == "failed":
            raise SideBySideError(f"run {self.name!r} failed: {told} (log: {log_file(self._out, self.name)})")
        return kind, told

    def ask_to_stop(self) -> None:
        """Have the process end: at once, or after the step of its run."""
        if self.name:
            self._process.terminate()
        else:
            self.pipe.close()

    def end(self) -> None:
        """Wait for the process, not for ever: a step that takes long is broken off."""
        for number in (signal.SIGINT, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
            self._process.send_signal(number)
        self._process.wait()
        self.pipe.close()


def _result_of(spec: RunSpec, out: Path) -> Document | None:
    """Return the result of an earlier, finished run of the same spec."""
    folder = RunFolder(out / spec.name)
    if not (folder.path / RESULT_FILE).is_file() or folder.read_json(SPEC_FILE) != spec.model_dump(mode="json"):
        return None
    document = folder.read_json(RESULT_FILE)
    if not isinstance(document, dict):
        raise RuntimeStartError(f"{folder.path / RESULT_FILE} is no result; delete {folder.path}")
    return document
