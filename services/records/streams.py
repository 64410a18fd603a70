"""Names of streams: of the service, and of a run."""

from __future__ import annotations

from typing import Final

AUDIT: Final = "audit"
"""Who changed what, and who was refused to."""


def events_stream(run_id: str) -> str:
    """Return the name of a run's event stream: states, stages, steps, growth, warnings, errors."""
    return f"{run_id}/events"


def rollouts_stream(run_id: str) -> str:
    """Return the name of a run's stream of sampled rollouts."""
    return f"{run_id}/rollouts"


def questions_stream(run_id: str) -> str:
    """Return the name of a run's stream of answers to the held-out questions that it asks again and again."""
    return f"{run_id}/questions"


def logs_stream(run_id: str) -> str:
    """Return the name of a run's stream of log lines."""
    return f"{run_id}/logs"


def streams_of(run_id: str) -> tuple[str, ...]:
    """Return the names of all streams of a run."""
    return events_stream(run_id), rollouts_stream(run_id), questions_stream(run_id), logs_stream(run_id)
