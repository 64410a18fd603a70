"""Runs side by side: a few processes, each of which takes the next run when it has finished one."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from neuromas.cluster.threads import set_threads
from neuromas.errors import NeuroMASError, RuntimeStartError
from neuromas.journal.events import Event, RolloutsSampled, RunEnded
from neuromas.journal.folder import RESULT_FILE, SPEC_FILE, RunFolder
from neuromas.spec.run import RunSpec

_LOOK_EVERY_S = 0.1
_STOP_S = 20
"""How long a run may take to end its step when it is asked to stop."""

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

    A run that has finished in ``out`` before, with the same spec, is not run again.

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
    waiting = [spec for spec in specs if spec.name not in results]
    if not waiting:
        return results
    out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    events: SimpleQueue[tuple[str, Event]] = context.SimpleQueue()
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(min(num_processes, len(waiting)), context, _begin, (events,))
    try:
        running = {pool.submit(_run, spec, out): spec.name for spec in waiting}
        while running:
            done, _ = wait(running, _LOOK_EVERY_S, FIRST_COMPLETED)
            while not events.empty():
                on_event(*events.get())
            for run in done:
                name = running.pop(run)
                results[name] = _result(run, name, out)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        ours = [process for process in multiprocessing.active_children() if process not in others]
        for process in ours:
            process.terminate()  # the run ends after its step
        for process in ours:
            process.join(_STOP_S)
            process.kill()
        raise
    finally:
        pool.shutdown()
    return {spec.name: results[spec.name] for spec in specs}


def _result(run: Future[Document], name: str, out: Path) -> Document:
    try:
        return run.result()
    except (NeuroMASError, BrokenProcessPool) as error:
        raise SideBySideError(f"run {name!r} failed: {error} (log: {_log(out, name)})") from error


_EVENTS: SimpleQueue[tuple[str, Event]]
"""Of a process of the pool: where its runs' events go."""


def _begin(events: SimpleQueue[tuple[str, Event]]) -> None:
    global _EVENTS  # noqa: PLW0603 - a pool has no other way to its processes
    _EVENTS = events
    set_threads(1)


def _run(spec: RunSpec, out: Path) -> Document:
    """Run a spec in a process of the pool; what it prints goes to its log."""
    file = os.open(_log(out, spec.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    from neuromas.run.run import run

    def tell(event: Event) -> None:
        if not isinstance(event, RolloutsSampled):
            _EVENTS.put((spec.name, event))

    folder = RunFolder(run(spec, out, tell, overwrite=True).folder)
    document: Document = folder.read_json(RESULT_FILE)
    return document


def _log(out: Path, name: str) -> Path:
    return out / f"{name}.log"


def _result_of(spec: RunSpec, out: Path) -> Document | None:
    """Return the result of an earlier, finished run of the same spec."""
    folder = RunFolder(out / spec.name)
    if not (folder.path / RESULT_FILE).is_file() or folder.read_json(SPEC_FILE) != spec.model_dump(mode="json"):
        return None
    document = folder.read_json(RESULT_FILE)
    if not isinstance(document, dict):
        raise RuntimeStartError(f"{folder.path / RESULT_FILE} is no result; delete {folder.path}")
    return document
