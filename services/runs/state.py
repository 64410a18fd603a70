"""Moves of a run from state to state, as the supervisor and the driver make them: by compare-and-set, and told.

A run is driven by the job that its record names. ``attempt`` is the number of that job (of the next one while the run
waits); it grows with every start, ``failures`` only where a driver was lost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from neuromas.errors import NeuroMASError
from neuromas.services.records import RunState, events_stream
from neuromas.services.store.base import ConflictError, Document, Kind, MissingError, Store


class SupersededError(NeuroMASError, RuntimeError):
    """The record is not this job's any more: another one drives the run, or nobody does."""

    code = "superseded"


def job_id(run: Mapping[str, Any]) -> str:
    """Return the submission id of a run's or evaluation's present attempt; the same for everybody who asks."""
    return f"{run['id']}-{run.get('attempt', 0)}"


async def tell_state(store: Store, run_id: str, state: RunState, attempt: int, message: str = "") -> None:
    """Append a change of state to the run's events; told twice, it is there once."""
    event = {"type": "state", "state": state, "attempt": attempt, "message": message, "time_s": time.time()}
    await store.append(events_stream(run_id), [(f"state/{attempt}/{state}", event)])


async def tell_change(store: Store, run: Document, change: Mapping[str, Any], message: str = "") -> None:
    """Append the change of state that a change of the record is."""
    await tell_state(store, run["id"], RunState(change["state"]), int(change.get("attempt", run["attempt"])), message)


async def tell_loss(store: Store, run: Document, message: str) -> None:
    """Append why a driver was lost to the run's events."""
    event = {"type": "driver_lost", "attempt": run["attempt"], "message": message, "time_s": time.time()}
    await store.append(events_stream(run["id"]), [(f"lost/{run['attempt']}", event)])


async def change_own(store: Store, run_id: str, job: str, change: Mapping[str, Any]) -> Document:
    """Change the record of a run that a job drives.

    Raises:
        SupersededError: the run is not running, or under another job.
    """
    while True:
        try:
            run = await store.get(Kind.RUN, run_id)
        except MissingError as error:
            raise SupersededError(f"run {run_id} has been deleted") from error
        if run["state"] != RunState.RUNNING or run["job"] != job:
            raise SupersededError(f"run {run_id} is {run['state']} under job {run['job']}, not running under {job}")
        try:
            return await store.update(Kind.RUN, run_id, change, version=run["version"])
        except ConflictError:
            continue  # somebody changed another key meanwhile


async def move(store: Store, run: Document, change: Mapping[str, Any], states: Sequence[RunState]) -> Document | None:
    """Change a run as it was read; None where it has changed since and must be looked at again."""
    try:
        return await store.update(Kind.RUN, run["id"], change, states=states, version=run["version"])
    except (ConflictError, MissingError):
        return None


def after_loss(run: Document, code: str, message: str) -> dict[str, Any]:
    """Return how a run goes on whose driver was lost: it waits for another one, or fails when it had enough.

    Args:
        run: the record.
        code: for programs, where it fails.
        message: why the driver was lost.
    """
    failures = run.get("failures", 0) + 1
    if failures < run["max_attempts"]:
        return {"state": RunState.QUEUED, "attempt": run["attempt"] + 1, "failures": failures}
    text = f"{message}; it had been started {failures} times (max_attempts) and is not started again"
    return {
        "state": RunState.FAILED,
        "failures": failures,
        "ended": time.time(),
        "error": {"code": code, "message": text, "param": None},
    }


def after_stop(run: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """Return how a run goes on that was stopped with a checkpoint: as the user wants, else it waits for its turn."""
    if wanted == "cancel":
        return {"state": RunState.CANCELLED, "ended": time.time()}
    state = RunState.PAUSED if wanted == "pause" else RunState.QUEUED
    return {"state": state, "attempt": run["attempt"] + 1}
