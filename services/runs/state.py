"""Moves of a run from state to state, as the supervisor and the driver make them: by compare-and-set, and told.

A run is driven by the job that its record names. ``attempt`` is the number of that job (of the next one while the run
waits); it grows with every start, ``failures`` only where a driver was lost.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from neuromas.errors import NeuroMASError
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.failure import Failure
from neuromas.services.records.run import RunRecord, RunState, RunUpdate, Wanted
from neuromas.services.records.streams import events_stream
from neuromas.services.store.base import ConflictError, MissingError, Store


class SupersededError(NeuroMASError, RuntimeError):
    """The record is not this job's any more: another one drives the run, or nobody does."""

    code = "superseded"


def job_id(work: RunRecord | EvaluationRecord) -> str:
    """Return the submission id of a run's or evaluation's present attempt; the same for everybody who asks."""
    return f"{work.id}-{work.attempt}"


async def tell_state(store: Store, run_id: str, state: RunState, attempt: int, message: str = "") -> None:
    """Append a change of state to the run's events; told twice, it is there once."""
    event = {"type": "state", "state": state, "attempt": attempt, "message": message, "time_s": time.time()}
    await store.append(events_stream(run_id), [(f"state/{attempt}/{state}", event)])


async def tell_update(store: Store, run: RunRecord, update: RunUpdate, message: str = "") -> None:
    """Append the change of state that an update of the record is."""
    await tell_state(store, run.id, update["state"], update.get("attempt", run.attempt), message)


async def tell_loss(store: Store, run: RunRecord, message: str) -> None:
    """Append why a driver was lost to the run's events."""
    event = {"type": "driver_lost", "attempt": run.attempt, "message": message, "time_s": time.time()}
    await store.append(events_stream(run.id), [(f"lost/{run.attempt}", event)])


async def update_own(store: Store, run_id: str, job: str, update: RunUpdate) -> RunRecord:
    """Change the record of a run that a job drives.

    Raises:
        SupersededError: the run is not running, or under another job.
    """
    while True:
        try:
            run = await store.get(RunRecord, run_id)
        except MissingError as error:
            raise SupersededError(f"run {run_id} has been deleted") from error
        if run.state != RunState.RUNNING or run.job != job:
            raise SupersededError(f"run {run_id} is {run.state} under job {run.job}, not running under {job}")
        try:
            return await store.update(RunRecord, run_id, update, version=run.version)
        except ConflictError:
            continue  # somebody changed another key meanwhile


async def move(store: Store, run: RunRecord, update: RunUpdate, states: Collection[RunState]) -> RunRecord | None:
    """Update a run as it was read; None where it has changed since and must be looked at again."""
    try:
        return await store.update(RunRecord, run.id, update, states=states, version=run.version)
    except (ConflictError, MissingError):
        return None


def after_loss(run: RunRecord, code: str, message: str) -> RunUpdate:
    """Return how a run goes on whose driver was lost: it waits for another one, or fails when it had enough.

    Args:
        run: the record.
        code: for programs, where it fails.
        message: why the driver was lost.
    """
    failures = run.failures + 1
    if failures < run.max_attempts:
        return {"state": RunState.QUEUED, "attempt": run.attempt + 1, "failures": failures}
    text = f"{message}; it had been started {failures} times (max_attempts) and is not started again"
    return {
        "state": RunState.FAILED,
        "failures": failures,
        "ended": time.time(),
        "error": Failure(code=code, message=text),
    }


def after_stop(run: RunRecord) -> RunUpdate:
    """Return how a run goes on that was stopped with a checkpoint: as the user wants, else it waits for its turn."""
    if run.wanted == Wanted.CANCEL:
        return {"state": RunState.CANCELLED, "ended": time.time()}
    state = RunState.PAUSED if run.wanted == Wanted.PAUSE else RunState.QUEUED
    return {"state": state, "attempt": run.attempt + 1}


def after_full_disk(run: RunRecord, code: str, message: str) -> RunUpdate:
    """Return how a run goes on whose files could not be written: it is paused with the reason until it is resumed.

    Args:
        run: the record.
        code: for programs.
        message: what could not be written, and what to do.
    """
    if run.wanted == Wanted.CANCEL:
        return after_stop(run)
    error = Failure(code=code, message=f"{message}; then resume the run")
    return {"state": RunState.PAUSED, "wanted": Wanted.PAUSE, "attempt": run.attempt + 1, "error": error}
