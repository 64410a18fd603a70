"""What unfinished work still uses, and so must not be removed."""

from __future__ import annotations

from collections.abc import Iterator

from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.evaluation import UNFINISHED, EvaluationRecord
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.store.base import Store
from neuromas.services.store.listing import all_of

_UNFINISHED_RUNS = (RunState.QUEUED, RunState.RUNNING, RunState.PAUSED)


async def users(store: Store) -> dict[str, str]:
    """Return the ids of the checkpoints and runs that unfinished work reads, each with what does so, in words."""
    found: dict[str, str] = {}
    for endpoint in await all_of(store, EndpointRecord):
        if endpoint.is_up:
            found |= dict.fromkeys((endpoint.checkpoint, endpoint.run), f"endpoint {endpoint.name}")
    for evaluation_state in UNFINISHED:
        for evaluation in await all_of(store, EvaluationRecord, state=evaluation_state):
            found |= dict.fromkeys((evaluation.checkpoint, evaluation.run), f"evaluation {evaluation.id}")
    for run_state in _UNFINISHED_RUNS:
        for run in await all_of(store, RunRecord, state=run_state):
            found |= dict.fromkeys(_names(run), f"run {run.id}, which is {run.state}")
    return found


async def importing(store: Store, owner: str, project: str | None) -> dict[str, str]:
    """Return the adapters of a key, or of its project, that unfinished runs import, each with which run, in words."""
    found: dict[str, str] = {}
    for run_state in _UNFINISHED_RUNS:
        for run in await all_of(store, RunRecord, state=run_state):
            is_theirs = run.project == project and (project is not None or run.owner == owner)
            if is_theirs and run.imports is not None:
                found |= dict.fromkeys(run.imports.adapters.values(), f"run {run.id}, which is {run.state}")
    return found


def _names(run: RunRecord) -> Iterator[str]:
    """Yield the ids that a run may still read: its parent, the checkpoint it grows, those that its plans graft."""
    growth = run.spec.get("growth") or {}
    plans = list(growth.get("plans") or ())
    if run.parent is not None:
        yield run.parent.run
        yield run.parent.checkpoint
        plans.append(run.parent.plan)
    for plan in plans:
        for edit in plan["edits"]:
            yield from edit.get("modules") or ()
