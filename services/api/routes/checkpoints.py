"""Checkpoints: states of runs, to look at, export and delete."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Query
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from neuromas.services.api.archive import MEDIA_TYPES, Form, make_work_folder, pack, remove
from neuromas.services.api.auth import Reader, Trainer
from neuromas.services.api.described import errors
from neuromas.services.api.ownership import check_owner
from neuromas.services.api.paging import MAX_ID, After, Limit, cursor
from neuromas.services.api.problems import ApiError
from neuromas.services.api.references import (
    aliases,
    check_unused,
    checkpoint_of_run,
    checkpoints_of,
    present_checkpoint,
    with_aliases,
)
from neuromas.services.api.route import router
from neuromas.services.api.routes.runs import RunId
from neuromas.services.api.schemas.artifact import CheckpointView
from neuromas.services.api.schemas.view import Deleted, Listing
from neuromas.services.api.service import Serviced
from neuromas.services.api.submission import checkpoint_folder
from neuromas.services.records.checkpoint import CheckpointRecord, CheckpointState, CheckpointUpdate
from neuromas.services.records.run import RunRecord
from neuromas.services.store.base import Document

routes = router("checkpoints")
CheckpointId = Annotated[
    str, Path(description="Id of a checkpoint.", max_length=MAX_ID, examples=["ckpt_0123456789abcdef"])
]
_ARCHIVE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The archive.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
    },
}


@routes.get("/runs/{run_id}/checkpoints", response_model=Listing[CheckpointView], responses=errors(400, 404))
async def list_checkpoints(
    _: Reader, service: Serviced, run_id: RunId, after: After = None, limit: Limit = 20
) -> Document:
    """List a run's checkpoints, newest first."""
    await service.store.get(RunRecord, run_id)
    with cursor(CheckpointRecord, after):
        page = await service.store.list(CheckpointRecord, where={"run": run_id}, after=after, limit=limit)
    means = aliases(await checkpoints_of(service.store, run_id))
    found = [checkpoint for checkpoint in page.items if checkpoint.state is None]
    last_id = page.items[-1].id if page.items else None
    return {"data": with_aliases(found, means), "has_more": page.has_more, "last_id": last_id}


@routes.get("/runs/{run_id}/checkpoints/{name}", response_model=CheckpointView, responses=errors(404))
async def read_checkpoint_of_run(
    _: Reader,
    service: Serviced,
    run_id: RunId,
    name: Annotated[
        str,
        Path(
            description='"latest", "best", the name of its folder, or its id.', max_length=MAX_ID, examples=["latest"]
        ),
    ],
) -> Document:
    """Read one of a run's checkpoints, by alias or name."""
    checkpoint = await checkpoint_of_run(service.store, run_id, name, "name")
    return with_aliases([checkpoint], aliases(await checkpoints_of(service.store, run_id)))[0]


@routes.get("/checkpoints/{checkpoint_id}", response_model=CheckpointView, responses=errors(404))
async def read_checkpoint(_: Reader, service: Serviced, checkpoint_id: CheckpointId) -> Document:
    """Read a checkpoint."""
    checkpoint = await present_checkpoint(service.store, checkpoint_id)
    return with_aliases([checkpoint], aliases(await checkpoints_of(service.store, checkpoint.run)))[0]


@routes.delete("/checkpoints/{checkpoint_id}", response_model=Deleted, responses=errors(404, 409))
async def delete_checkpoint(caller: Trainer, service: Serviced, checkpoint_id: CheckpointId) -> Document:
    """Delete a checkpoint that nothing needs; its files follow."""
    checkpoint = await present_checkpoint(service.store, checkpoint_id)
    run = await service.store.get(RunRecord, checkpoint.run)
    check_owner(caller, run)
    if not run.has_ended:
        raise ApiError(409, "in_use", f"checkpoint {checkpoint_id} is needed by its run, which is {run.state}")
    await check_unused(service.store, checkpoint)
    update: CheckpointUpdate = {"state": CheckpointState.DELETING}
    await service.store.update(CheckpointRecord, checkpoint_id, update, version=checkpoint.version)
    return {"id": checkpoint_id, "object": "checkpoint", "deleted": True}


@routes.get(
    "/checkpoints/{checkpoint_id}/export",
    response_class=FileResponse,
    responses=errors(400, 404, 409, 504, 507) | _ARCHIVE,
)
async def export_checkpoint(
    caller: Reader,
    service: Serviced,
    checkpoint_id: CheckpointId,
    format: Annotated[Form, Query(description="Form of the archive.")] = "tar",
) -> FileResponse:
    """Get a checkpoint as an archive in PEFT's layout: one plain LoRA per node, and the graph."""
    checkpoint = await present_checkpoint(service.store, checkpoint_id)
    folder = checkpoint_folder(service, checkpoint)
    with service.exports.place(caller.id):
        work = make_work_folder(service.settings.data_dir)
        try:
            archive = await pack(folder, work, checkpoint_id, format)
        except BaseException:
            remove(work)
            raise
    return _Archive(
        archive,
        media_type=MEDIA_TYPES[format],
        headers={"Accept-Ranges": "none"},
        filename=f"{checkpoint_id}.{format}",
        background=BackgroundTask(remove, work),
    )


class _Archive(FileResponse):
    """A whole file, whatever range a client asks for: an archive is made anew each time, and parts would not fit."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)
