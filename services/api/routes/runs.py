"""Runs: submitted, looked at, moved, and grown into new ones."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response

from neuromas.services.api.auth import Reader, Trainer
from neuromas.services.api.body import Body, parse_body
from neuromas.services.api.described import KEYED, errors, takes
from neuromas.services.api.estimate import report_growth
from neuromas.services.api.growing import plan_growth
from neuromas.services.api.importing import submit_import
from neuromas.services.api.lineage import family_tree
from neuromas.services.api.moves import move, tell_state
from neuromas.services.api.ownership import check_owner
from neuromas.services.api.paging import MAX_ID, After, Limit, Text, listing
from neuromas.services.api.problems import ApiError
from neuromas.services.api.references import check_unused
from neuromas.services.api.route import router
from neuromas.services.api.schemas.run import IMPORT_EXAMPLES, RUN_EXAMPLES, Lineage, RunChange, RunView, Tags
from neuromas.services.api.schemas.topology import GrowthReport
from neuromas.services.api.schemas.view import Deleted, Listing
from neuromas.services.api.service import Serviced, fresh_id
from neuromas.services.api.submission import read_spec, submit
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.run import RunRecord, RunState, RunUpdate
from neuromas.services.store.base import Document
from neuromas.services.store.listing import all_of
from neuromas.services.store.removal import remove_run

routes = router("runs")
RunId = Annotated[str, Path(description="Id of a run.", max_length=MAX_ID, examples=["run_0123456789abcdef"])]
TagsParameter = Annotated[Tags, Query(description="Words to find it by; may be given several times.")]
_PLANS: Final[dict[str, Any]] = {
    "deeper": {
        "summary": "Two more layers after the output, from the newest checkpoint",
        "value": {"plan": {"edits": [{"edit": "append", "layers": [1, 1]}]}, "spec": {"training": {"steps": 40}}},
    },
    "wider": {
        "summary": "One more node beside the first layer's, a copy of one of them, from the best checkpoint",
        "value": {
            "checkpoint": "best",
            "plan": {"edits": [{"edit": "widen", "layer": 1}], "inherit": {"new": "copy", "noise": 0.01}},
        },
    },
}


@routes.post(
    "/runs",
    status_code=202,
    response_model=RunView,
    responses=errors(404, body=True),
    openapi_extra=takes("RunRequest", RUN_EXAMPLES),
)
async def submit_run(
    caller: Trainer, service: Serviced, request: Request, document: Body, tag: TagsParameter = ()
) -> RunRecord:
    """Queue a training run, after the checks of ``/v1/topologies:validate``."""
    checked = await read_spec(service, caller, document)
    run = await submit(service, caller, fresh_id(request, "run"), checked.spec, tag)
    await tell_state(service.store, run)
    return run


@routes.post(
    "/runs:import",
    status_code=202,
    response_model=RunView,
    responses=errors(404, body=True),
    openapi_extra=takes("ImportRequest", IMPORT_EXAMPLES),
)
async def import_run(
    caller: Trainer, service: Serviced, request: Request, document: Body, tag: TagsParameter = ()
) -> RunRecord:
    """Queue a run whose graph begins with adapters that were brought along: to train on, or to be served as it is."""
    run = await submit_import(service, caller, fresh_id(request, "run"), document, tag)
    await tell_state(service.store, run)
    return run


@routes.get("/runs", response_model=Listing[RunView], responses=errors(400))
async def list_runs(
    _: Reader,
    service: Serviced,
    after: After = None,
    limit: Limit = 20,
    state: Annotated[RunState | None, Query(description="Only runs in this state.")] = None,
    topology: Text = None,
    parent: Annotated[str | None, Query(max_length=200, description="Only runs grown from this run.")] = None,
    name: Text = None,
    owner: Text = None,
    tag: Annotated[str | None, Query(max_length=MAX_ID, description="Only runs that have this tag.")] = None,
) -> Response:
    """List runs, newest first."""
    where = {"state": state, "topology": topology, "parent_run": parent, "name": name, "owner": owner, "tags": tag}
    return await listing(service, RunRecord, RunView, where, after, limit)


@routes.get("/runs/{run_id}", response_model=RunView, responses=errors(404))
async def read_run(_: Reader, service: Serviced, run_id: RunId) -> RunRecord:
    """Read a run: its state, progress, last metrics, and where it was grown from."""
    return await service.store.get(RunRecord, run_id)


@routes.patch(
    "/runs/{run_id}",
    response_model=RunView,
    responses=errors(404, body=True),
    openapi_extra=takes("RunChange", keyed=False),
)
async def change_run(caller: Trainer, service: Serviced, run_id: RunId, document: Body) -> RunRecord:
    """Give a run other tags."""
    change = parse_body(RunChange, document, "the change")
    check_owner(caller, await service.store.get(RunRecord, run_id))
    update: RunUpdate = {"tags": change.tags}
    return await service.store.update(RunRecord, run_id, update)


@routes.delete("/runs/{run_id}", response_model=Deleted, responses=errors(404, 409))
async def delete_run(caller: Trainer, service: Serviced, run_id: RunId) -> Document:
    """Delete a run that has ended and that nothing needs: its record, events, rollouts, log, checkpoints and files."""
    store = service.store
    run = await store.get(RunRecord, run_id)
    check_owner(caller, run)
    if not run.has_ended:
        raise ApiError(409, "not_ended", f"run {run_id} is {run.state}; cancel it first", param="state")
    checkpoints = await all_of(store, CheckpointRecord, run=run_id)
    await check_unused(store, run, *checkpoints)
    await remove_run(store, run, checkpoints, service.settings.runs_dir)
    return {"id": run_id, "object": "run", "deleted": True}


@routes.post("/runs/{run_id}/cancel", response_model=RunView, responses=errors(400, 404, 409), openapi_extra=KEYED)
async def cancel_run(caller: Trainer, service: Serviced, run_id: RunId) -> RunRecord:
    """Cancel a run for good. A running one ends after its step; its checkpoints stay."""
    return await move(service.store, caller, run_id, "cancel")


@routes.post("/runs/{run_id}/pause", response_model=RunView, responses=errors(400, 404, 409), openapi_extra=KEYED)
async def pause_run(caller: Trainer, service: Serviced, run_id: RunId) -> RunRecord:
    """Pause a run. A running one writes a checkpoint and gives its workers back."""
    return await move(service.store, caller, run_id, "pause")


@routes.post("/runs/{run_id}/resume", response_model=RunView, responses=errors(400, 404, 409), openapi_extra=KEYED)
async def resume_run(caller: Trainer, service: Serviced, run_id: RunId) -> RunRecord:
    """Queue a paused run again; it goes on from its last checkpoint."""
    return await move(service.store, caller, run_id, "resume")


@routes.post(
    "/runs/{run_id}/grow",
    status_code=202,
    response_model=RunView,
    responses=errors(404, 409, body=True),
    openapi_extra=takes("GrowRequest", _PLANS),
)
async def grow_run(
    caller: Trainer, service: Serviced, request: Request, run_id: RunId, document: Body, tag: TagsParameter = ()
) -> RunRecord:
    """Queue a new run that begins with a larger graph made of this run's checkpoint, its weights inherited."""
    parent = await service.store.get(RunRecord, run_id)
    check_owner(caller, parent)
    growth = await plan_growth(service, caller, parent, document)
    run = await submit(service, caller, fresh_id(request, "run"), growth.checked.spec, tag, origin=growth.origin)
    await tell_state(service.store, run)
    return run


@routes.post(
    "/runs/{run_id}/grow:validate",
    response_model=GrowthReport,
    responses=errors(404, 409, body=True),
    openapi_extra=takes("GrowRequest", _PLANS),
)
async def validate_growth(caller: Reader, service: Serviced, run_id: RunId, document: Body) -> Document:
    """Check a growth, and say what the grown graph is and needs. Nothing is kept."""
    growth = await plan_growth(service, caller, await service.store.get(RunRecord, run_id), document)
    return await asyncio.to_thread(report_growth, growth.grown, growth.checked, service.settings)


@routes.get("/runs/{run_id}/lineage", response_model=Lineage, responses=errors(404))
async def read_lineage(_: Reader, service: Serviced, run_id: RunId) -> Document:
    """Read the family tree that a run belongs to, from its first ancestor down."""
    return await family_tree(service.store, run_id)
