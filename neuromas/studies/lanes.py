"""Runs side by side: a few processes, each of which takes the next run when it has finished one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from neuromas.cluster.setup import set_threads
from neuromas.errors import NeuroMASError, RuntimeStartError
from neuromas.journal.events import Event, RolloutsSampled, RunEnded
from neuromas.journal.folder import RESULT_FILE, SPEC_FILE, RunFolder
from neuromas.spec.run import RunSpec

Document = dict[str, Any]
JobObserver = Callable[[str, Event], None]
"""Receives the events of all runs with the name of the run."""


class LaneError(NeuroMASError, RuntimeError):
    """A run that was started beside others failed, or its process died."""

    code = "lane"


@dataclass(frozen=True, slots=True)
class _Told:
    event: Event


@dataclass(frozen=True, slots=True)
class _Finished:
    document: Document


@dataclass(frozen=True, slots=True)
class _Failed:
    message: str


_Message = _Told | _Finished | _Failed


def run_side_by_side(
    specs: Sequence[RunSpec], out: Path, on_event: JobObserver, num_lanes: int = 1
) -> dict[str, Document]:
    """Run specs in processes of their own and return the result document of each by name.

    A run that has finished in ``out`` before, with the same spec, is not run again.

    Args:
        specs: begun in this order; names must differ.
        out: folder of the run folders, and of a log file per process.
        on_event: told all events but sampled rollouts, in this thread.
        num_lanes: how many run at a time.

    Raises:
        LaneError: a run failed; the others are stopped.
    """
    results = {spec.name: found for spec in specs if (found := _result_of(spec, out)) is not None}
    for name in results:
        on_event(name, RunEnded(status="succeeded", message="was finished before"))
    waiting = [spec for spec in specs if spec.name not in results]
    out.mkdir(parents=True, exist_ok=True)
    lanes = [_Lane(out, number) for number in range(min(num_lanes, len(waiting)))]
    try:
        for lane in lanes:
            lane.begin(waiting.pop(0))
        while any(lane.job for lane in lanes):
            for lane in _ready(lanes):
                message, job = lane.receive(), lane.job
                match message:
                    case _Told(event):
                        on_event(job, event)
                    case _Finished(document):
                        results[job] = document
                        lane.job = ""
                        if waiting:
                            lane.begin(waiting.pop(0))
                    case _Failed(text):
                        raise LaneError(f"run {job!r} failed: {text} (log: {lane.log})")
    finally:
        for lane in lanes:
            lane.end()
    return {spec.name: results[spec.name] for spec in specs}


class _Lane:
    """One process and the pipe to it; ``job`` names the run under way."""

    def __init__(self, out: Path, number: int) -> None:
        self.log = out / f"lane-{number}.log"
        self.job = ""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, out, self.log), daemon=True)
        self.process.start()
        theirs.close()

    def begin(self, spec: RunSpec) -> None:
        self.job = spec.name
        self.pipe.send(spec)

    def receive(self) -> _Message:
        try:
            message: _Message = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(5)
            return _Failed(f"its process ended with exit code {self.process.exitcode}")
        return message

    def end(self) -> None:
        """Ask the process to stop after its step, or end it when it does not."""
        self.pipe.close()
        if self.job and self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGTERM)
        self.process.join(20)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _ready(lanes: Sequence[_Lane]) -> list[_Lane]:
    ready = wait([lane.pipe for lane in lanes if lane.job])
    return [lane for lane in lanes if lane.job and lane.pipe in ready]


def _work(pipe: Connection, out: Path, log: Path) -> None:
    """Body of a lane's process: run what comes through the pipe until it closes."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    set_threads(1)
    from neuromas.run.run import run

    def tell(event: Event) -> None:
        if not isinstance(event, RolloutsSampled):
            pipe.send(_Told(event))

    while True:
        try:
            spec: RunSpec = pipe.recv()
        except EOFError:
            return
        try:
            result = run(spec, out, tell, overwrite=True)
        except NeuroMASError as error:
            pipe.send(_Failed(str(error)))
            return
        pipe.send(_Finished(RunFolder(result.folder).read_json(RESULT_FILE)))


def _result_of(spec: RunSpec, out: Path) -> Document | None:
    """Return the result of an earlier, finished run of the same spec."""
    folder = RunFolder(out / spec.name)
    if not (folder.path / RESULT_FILE).is_file() or folder.read_json(SPEC_FILE) != spec.model_dump(mode="json"):
        return None
    document = folder.read_json(RESULT_FILE)
    if not isinstance(document, dict):
        raise RuntimeStartError(f"{folder.path / RESULT_FILE} is no result; delete {folder.path}")
    return document
