"""The driver of one run, started as a Ray Job: ``python -m neuromas.services.runs.driver RUN JOB``.

The main thread trains, with the same ``run`` as the command line; a second thread tells the store. What the driver
cannot tell is found by the supervisor, so it may die at any moment.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuromas.errors import NeuroMASError, RuntimeStartError, SpecError, StorageError
from neuromas.journal.events import Event
from neuromas.journal.folder import LOCK_FILE
from neuromas.run.run import run as run_spec
from neuromas.run.stages import StageInterruptedError
from neuromas.services.children import PRIVATE_UMASK
from neuromas.services.logs import JsonFormatter, about_run, set_up_logging
from neuromas.services.records.failure import Failure
from neuromas.services.records.run import RunRecord, RunState, RunUpdate
from neuromas.services.runs.background import Background
from neuromas.services.runs.checkpoints import CheckpointRegistrar
from neuromas.services.runs.forward import Forwarder
from neuromas.services.runs.heartbeat import Assignment, Heartbeat, claim, release
from neuromas.services.runs.importing import import_uploads
from neuromas.services.runs.lineage import resolve_modules, resolve_parent
from neuromas.services.runs.progress import ProgressObserver
from neuromas.services.runs.state import SupersededError, after_full_disk, after_loss, after_stop
from neuromas.services.runs.stopper import Stopper
from neuromas.services.settings import load_settings
from neuromas.services.store.base import Document, StoreUnavailableError
from neuromas.services.store.open import open_store
from neuromas.spec.parse import parse_run_spec

logger = logging.getLogger(__name__)
BROKEN: Final = 3
"""Exit code of a driver that cannot, or may not, tell the store of its run any more."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a driver's work on a run ended.

    Attributes:
        update: from the run's record to the update that says so.
        message: for people.
    """

    update: Callable[[RunRecord], RunUpdate]
    message: str = ""


def main(arguments: list[str]) -> int:
    """Drive a run and return the exit code: 0 when its record says how it ended."""
    run_id, job = arguments
    os.umask(PRIVATE_UMASK)
    settings = load_settings()
    log = settings.runs_dir / run_id / f"{job}.log.jsonl"
    set_up_logging(settings.log_level, "json")
    _log_to(log)
    with about_run(run_id), Background() as background:
        store = open_store(settings)
        try:
            return _drive(Assignment(run_id, job, settings, store), background, log)
        except SupersededError as error:
            logger.warning("the run is not this job's", extra={"reason": str(error)})
            return 0
        except StoreUnavailableError as error:
            logger.error("the store did not come back", extra={"reason": str(error)})
            return 1
        finally:
            background.call(store.close())


def run_folder(run: RunRecord) -> Path:
    """Return a run's folder, relative to the data folder."""
    return Path("runs") / run.id / run.name


def _drive(assignment: Assignment, background: Background, log: Path) -> int:
    run = background.call(claim(assignment))
    logger.info("driving", extra={"job": assignment.job, "attempt": run.attempt})
    folder = assignment.settings.data_dir / run_folder(run)
    progress, stopper = ProgressObserver(), Stopper()
    heartbeat = Heartbeat(
        assignment,
        progress,
        Forwarder(assignment.store, assignment.run_id, folder, log),
        CheckpointRegistrar(assignment.store, assignment.run_id, folder, assignment.settings.data_dir),
        on_wanted=stopper.stop,
        on_broken=_end_at_once,
    )
    with stopper:
        background.call(heartbeat.start())
        outcome = _train(assignment, background, run, heartbeat, progress)
    background.call(heartbeat.deliver(outcome.update, outcome.message))
    background.call(release(assignment))
    return 0


def _train(
    assignment: Assignment, background: Background, run: RunRecord, heartbeat: Heartbeat, progress: ProgressObserver
) -> Outcome:
    """Import and train the run as far as it goes; whatever ends it is an outcome."""

    def observe(event: Event) -> None:
        heartbeat.is_open = True  # the first event comes once the folder is as the run goes on with it
        progress(event)

    store, data_dir = assignment.store, assignment.settings.data_dir
    try:
        spec = parse_run_spec(background.call(resolve_modules(store, data_dir, run.spec)))
        parent = background.call(resolve_parent(store, data_dir, run))
        out = (data_dir / run_folder(run)).parent
        _unlock(data_dir / run_folder(run))
        if run.imports is not None:
            progress.imported = import_uploads(run, run.imports, spec, assignment.settings, progress)
            if not run.imports.train:
                return Outcome(lambda _: {"state": RunState.SUCCEEDED, "ended": time.time()})
        result = run_spec(spec, out, observe, resume=True, parent=parent)
    except (StageInterruptedError, KeyboardInterrupt) as error:
        logger.info("stopped", extra={"wanted": heartbeat.wanted, "reason": str(error)})
        return Outcome(after_stop, str(error))
    except RuntimeStartError as error:  # the run's processes were lost; it can go on from its checkpoint
        logger.warning("the run's processes were lost", extra={"reason": str(error)})
        return _lost(error)
    except StorageError as error:  # nothing is wrong with the run: it can go on once there is space
        logger.warning("the run's files cannot be written", extra={"reason": str(error)})
        code, message = error.code, str(error)
        return Outcome(lambda record: after_full_disk(record, code, message), message)
    except NeuroMASError as error:
        logger.warning("the run failed", extra={"reason": str(error)})
        return _failed(error.code, str(error), _path(error))
    except Exception as error:  # the driver's boundary: a crash is told like any other end
        logger.exception("the run crashed")
        return _failed("internal", f"{type(error).__name__}: {error}", None)
    return _succeeded(result.document)


def _succeeded(result: Document) -> Outcome:
    accuracy = result["accuracy"]["greedy"]["value"]
    update: RunUpdate = {"state": RunState.SUCCEEDED, "result": result, "accuracy": accuracy, "ended": time.time()}
    return Outcome(lambda _: update)


def _lost(error: RuntimeStartError) -> Outcome:
    message = str(error)
    return Outcome(lambda record: after_loss(record, error.code, message), message)


def _failed(code: str, message: str, param: str | None) -> Outcome:
    error = Failure(code=code, message=message, param=param)
    return Outcome(lambda _: {"state": RunState.FAILED, "error": error, "ended": time.time()}, message)


def _path(error: NeuroMASError) -> str | None:
    """Return the path in the spec that an error is about."""
    return error.faults[0].path or None if isinstance(error, SpecError) and error.faults else None


def _unlock(folder: Path) -> None:
    """Take away the lock of an earlier driver, which may have been on a host that is gone.

    This driver holds the run's lease: whoever else still writes into the folder must stop, and does when its lock is
    not there any more.
    """
    (folder / LOCK_FILE).unlink(missing_ok=True)


def _log_to(file: Path) -> None:
    """Write the log to a file too, which reaches the store."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    logging.getLogger().addHandler(handler)


def _end_at_once() -> None:
    """End this process without cleaning up: Ray ends its actors, and the run folder's lock its writing."""
    logging.shutdown()
    os._exit(BROKEN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
