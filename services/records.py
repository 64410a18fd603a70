"""The service's documents: their fields, their states and the moves between them. Loads no Ray, no store."""

from __future__ import annotations

import secrets
from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """States of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EndpointState(StrEnum):
    """States of an endpoint."""

    DEPLOYING = "deploying"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"


class EvaluationState(StrEnum):
    """States of an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Wanted(StrEnum):
    """What the user asked of a run; the supervisor brings the run there."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Scope(StrEnum):
    """What a key may do: look, train and evaluate, or ask endpoints (and deploy them).

    With admin it may do so to what other keys own, and read the audit log.
    """

    READ = "read"
    TRAIN = "train"
    SERVE = "serve"
    ADMIN = "admin"


ENDED: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
"""States that a run never leaves."""

MOVES: Final = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.PAUSED, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: frozenset(
        {RunState.QUEUED, RunState.PAUSED, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}
    ),
    RunState.PAUSED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}
"""Legal moves of a run. running -> queued: its driver died and it waits to be resumed from its checkpoint."""


CLUSTER: Final = "cluster"
"""Id of the service's record of its Ray cluster: ``fault`` (empty = it lives) and ``seen``, unix seconds."""


def new_id(prefix: str) -> str:
    """Return a fresh id such as ``run_3f9c0d1e2b7a4c58``; prefixes are run, ckpt, ep, eval, key."""
    return f"{prefix}_{secrets.token_hex(8)}"


def events_stream(run_id: str) -> str:
    """Return the name of a run's event stream: states, stages, steps, growth, warnings, errors."""
    return f"{run_id}/events"


def rollouts_stream(run_id: str) -> str:
    """Return the name of a run's stream of sampled rollouts."""
    return f"{run_id}/rollouts"


def logs_stream(run_id: str) -> str:
    """Return the name of a run's stream of log lines."""
    return f"{run_id}/logs"
