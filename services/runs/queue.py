"""Which waiting run is next: first in, first out for each owner, and owners in turn. Pure; knows no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.run import RunRecord


def next_run(
    queued: Sequence[RunRecord], running: Iterable[RunRecord], served: Mapping[str, float]
) -> RunRecord | None:
    """Return the run to start next; None when none waits.

    It belongs to the owner with the fewest runs under way; among those, to the one whose last start is longest ago
    (never started comes first); among those, to the one who waits longest.

    Args:
        queued: runs that wait.
        running: runs under way.
        served: unix time in seconds of each owner's last start.
    """
    busy = Counter(run.owner for run in running)
    first: dict[str, RunRecord] = {}
    for run in sorted(queued, key=age):
        first.setdefault(run.owner, run)

    def turn(run: RunRecord) -> tuple[int, float, int]:
        return busy[run.owner], served.get(run.owner, 0.0), age(run)

    return min(first.values(), key=turn, default=None)


def age(work: RunRecord | EvaluationRecord) -> int:
    """Return what puts the work first that was made first: its number in the store, not the time in seconds."""
    return work.sequence


def last_starts(runs: Iterable[RunRecord]) -> dict[str, float]:
    """Return each owner's last start, unix seconds, read off runs."""
    starts: dict[str, float] = {}
    for run in runs:
        if run.started is not None:
            starts[run.owner] = max(run.started, starts.get(run.owner, 0.0))
    return starts
