"""A process that runs specs for its parent, one after the other: a pipe brings them, and takes what happens."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from neuromas.cluster.threads import wait_passively
from neuromas.errors import NeuroMASError, writing
from neuromas.journal.events import Event, RolloutsSampled
from neuromas.journal.folder import RESULT_FILE, SPEC_FILE, RunFolder
from neuromas.spec.run import RunSpec


def log_file(out: Path, name: str) -> Path:
    """Return the file of what the process prints while it runs a spec."""
    return out / f"{name}.log"


def main() -> None:
    """Run what comes until the parent closes the pipe or is gone.

    Of each run all events but sampled rollouts are told, as ``("event", event)``, then ``("done", document)`` with its
    result, or ``("failed", message)``, which ends the process. So does any other exception, with its traceback in the
    log, and SIGTERM, which a run that trains hears itself.
    """
    parent: Connection[tuple[str, object], tuple[RunSpec, Path]] = Connection(int(sys.argv[1]))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wait_passively()
    with suppress(KeyboardInterrupt):
        _work(parent)


def _work(parent: Connection[tuple[str, object], tuple[RunSpec, Path]]) -> None:
    while True:
        try:
            spec, out = parent.recv()
        except EOFError:
            return
        kind, told = _run(spec, out, parent)
        parent.send((kind, told))
        if kind == "failed":
            return


def _run(spec: RunSpec, out: Path, parent: Connection[tuple[str, object], object]) -> tuple[str, object]:
    def tell(event: Event) -> None:
        if not isinstance(event, RolloutsSampled):
            parent.send(("event", event))

    log = log_file(out, spec.name)
    try:
        with writing(log):
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)
        from neuromas.run.run import run

        goes_on = _is_begun(RunFolder(out / spec.name), spec)
        done = run(spec, out, tell, resume=goes_on, overwrite=not goes_on)
        return "done", RunFolder(done.folder).read_json(RESULT_FILE)
    except NeuroMASError as error:
        return "failed", str(error)


def _is_begun(folder: RunFolder, spec: RunSpec) -> bool:
    """Whether a folder holds a run of this very spec that was broken off."""
    return folder.is_started and folder.read_json(SPEC_FILE) == spec.model_dump(mode="json")


if __name__ == "__main__":
    main()
