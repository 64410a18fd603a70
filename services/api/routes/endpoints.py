"""Endpoints: checkpoints under a name that answer. The supervisor deploys what the records want."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from fastapi import Path, Query, Response

from neuromas.errors import Fault
from neuromas.services.api.auth import ReaderOrServer, Server
from neuromas.services.api.body import Body, parse_body
from neuromas.services.api.described import errors, takes
from neuromas.services.api.ownership import check_owner, owned_by
from neuromas.services.api.paging import MAX_ID, After, Limit, Text, listing
from neuromas.services.api.problems import ApiError, invalid
from neuromas.services.api.references import find_checkpoint
from neuromas.services.api.route import router
from neuromas.services.api.schemas.artifact import EndpointChange, EndpointRequest, EndpointView
from neuromas.services.api.schemas.view import Listing
from neuromas.services.api.service import Service, Serviced
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.endpoint import EndpointRecord, EndpointState, EndpointUpdate
from neuromas.services.store.base import ConflictError, MissingError, Store

routes = router("endpoints")
EndpointId = Annotated[
    str, Path(description="Id or name of an endpoint.", examples=["ep_0123456789abcdef"], max_length=MAX_ID)
]
_ATTEMPTS: Final = 10


@routes.post(
    "/endpoints",
    status_code=202,
    response_model=EndpointView,
    responses=errors(404, body=True) | {200: {"model": EndpointView, "description": "It was there already."}},
    openapi_extra=takes("EndpointRequest"),
)
async def deploy(caller: Server, service: Serviced, document: Body, response: Response) -> EndpointRecord:
    """Deploy a checkpoint under a name, which is then a model for chat completions."""
    request = parse_body(EndpointRequest, document, "the endpoint")
    replicas, max_replicas = _replicas(service, request.replicas, request.max_replicas)
    checkpoint = await find_checkpoint(service.store, request.checkpoint)
    # The id comes of the name: of two who take a name at once, one is told that it is taken.
    id = f"ep_{hashlib.sha256(request.name.encode()).hexdigest()[:16]}"
    new = EndpointRecord(
        id=id,
        name=request.name,
        checkpoint=checkpoint.id,
        run=checkpoint.run,
        replicas=replicas,
        max_replicas=max_replicas,
        **owned_by(caller),
    )
    stored, is_new = await service.store.create(new)
    if is_new:
        return stored
    check_owner(caller, stored)
    if stored.wanted == "run" and stored.is_up:
        if (stored.checkpoint, stored.replicas, stored.max_replicas) != (checkpoint.id, replicas, max_replicas):
            message = f"the name {request.name!r} is taken; swap its checkpoint with PATCH, or delete it first"
            raise ApiError(409, "name_taken", message, param="name")
        response.status_code = 200
        return stored
    if stored.is_up:
        raise ApiError(409, "stopping", f"endpoint {request.name!r} is being stopped; try again in a moment")
    again: EndpointUpdate = {
        "checkpoint": checkpoint.id,
        "run": checkpoint.run,
        "state": EndpointState.DEPLOYING,
        "wanted": "run",
        "replicas": replicas,
        "max_replicas": max_replicas,
        "generation": stored.generation + 1,
        "error": None,
        "url": None,
        "owner": caller.id,
        "project": caller.project,
    }
    return await _changed(service, stored, again)


@routes.get("/endpoints", response_model=Listing[EndpointView], responses=errors(400))
async def list_endpoints(
    _: ReaderOrServer,
    service: Serviced,
    after: After = None,
    limit: Limit = 20,
    state: Annotated[EndpointState | None, Query(description="Only endpoints in this state.")] = None,
    run: Text = None,
    checkpoint: Text = None,
) -> Response:
    """List endpoints, newest first."""
    where = {"state": state, "run": run, "checkpoint": checkpoint}
    return await listing(service, EndpointRecord, EndpointView, where, after, limit)


@routes.get("/endpoints/{endpoint_id}", response_model=EndpointView, responses=errors(404))
async def read_endpoint(_: ReaderOrServer, service: Serviced, endpoint_id: EndpointId) -> EndpointRecord:
    """Read an endpoint, by its id or its name."""
    return await _find(service.store, endpoint_id)


@routes.patch(
    "/endpoints/{endpoint_id}",
    response_model=EndpointView,
    responses=errors(404, body=True),
    openapi_extra=takes("EndpointChange", keyed=False),
)
async def change_endpoint(caller: Server, service: Serviced, endpoint_id: EndpointId, document: Body) -> EndpointRecord:
    """Swap in another checkpoint without a failed request, or change the number of copies."""
    request = parse_body(EndpointChange, document, "the change")
    checkpoint = None if request.checkpoint is None else await find_checkpoint(service.store, request.checkpoint)
    for _ in range(_ATTEMPTS):
        endpoint = await _find(service.store, endpoint_id)
        check_owner(caller, endpoint)
        if endpoint.wanted != "run" or not endpoint.is_up:
            message = f"endpoint {endpoint.name} is {endpoint.state}; deploy it again with POST"
            raise ApiError(409, "not_deployed", message, param="state")
        update = _update(service, endpoint, request, checkpoint)
        if not update:
            return endpoint
        try:
            return await _changed(service, endpoint, update)
        except ConflictError:
            continue  # the supervisor has just written something else of it
    raise ApiError(409, "conflict", f"endpoint {endpoint_id} changes too quickly now; try again")


@routes.delete("/endpoints/{endpoint_id}", response_model=EndpointView, responses=errors(404, 409))
async def stop_endpoint(caller: Server, service: Serviced, endpoint_id: EndpointId) -> EndpointRecord:
    """Stop an endpoint. Its record stays, and its name can be used again."""
    for _ in range(_ATTEMPTS):
        endpoint = await _find(service.store, endpoint_id)
        check_owner(caller, endpoint)
        if endpoint.state == EndpointState.STOPPED or endpoint.wanted == "stop":
            return endpoint
        update: EndpointUpdate = {"wanted": "stop"}
        try:
            return await _changed(service, endpoint, update)
        except ConflictError:
            continue
    raise ApiError(409, "conflict", f"endpoint {endpoint_id} changes too quickly now; try again")


async def _changed(service: Service, endpoint: EndpointRecord, update: EndpointUpdate) -> EndpointRecord:
    """Return the next version of an endpoint; whoever asks it here from now on asks that one."""
    changed = await service.store.update(EndpointRecord, endpoint.id, update, version=endpoint.version)
    service.targets.forget(endpoint.name)
    return changed


def _replicas(service: Service, replicas: int | None, max_replicas: int | None) -> tuple[int, int]:
    settings = service.settings
    least = settings.serving_replicas if replicas is None else replicas
    most = least if max_replicas is None else max_replicas
    faults = []
    if least > settings.serving_max_replicas:
        faults.append(Fault("replicas", f"got {least}; this service has at most {settings.serving_max_replicas}"))
    if max_replicas is not None and most > settings.serving_max_replicas:
        faults.append(Fault("max_replicas", f"got {most}; this service has at most {settings.serving_max_replicas}"))
    if most < least:
        faults.append(Fault("max_replicas", f"got {most}; allowed is at least replicas = {least}"))
    if faults:
        raise invalid("the endpoint is not valid", faults)
    return least, most


def _update(
    service: Service, endpoint: EndpointRecord, request: EndpointChange, checkpoint: CheckpointRecord | None
) -> EndpointUpdate:
    """Return what a request changes in an endpoint; empty where it is as asked already."""
    update: EndpointUpdate = {}
    if request.replicas is not None or request.max_replicas is not None:
        least = endpoint.replicas if request.replicas is None else request.replicas
        most = max(endpoint.max_replicas, least) if request.max_replicas is None else request.max_replicas
        least, most = _replicas(service, least, most)
        if (least, most) != (endpoint.replicas, endpoint.max_replicas):
            update |= {"replicas": least, "max_replicas": most}
    if checkpoint is not None and checkpoint.id != endpoint.checkpoint:
        update |= {"checkpoint": checkpoint.id, "run": checkpoint.run}
        update |= {"generation": endpoint.generation + 1, "error": None}
    return update


async def _find(store: Store, name: str) -> EndpointRecord:
    try:
        return await store.get(EndpointRecord, name)
    except MissingError:
        page = await store.list(EndpointRecord, where={"name": name}, limit=1)
        if not page.items:
            raise
        return page.items[0]
