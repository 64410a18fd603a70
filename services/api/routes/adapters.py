"""Adapters that people bring along, for runs to import."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Annotated, Any, Final

from fastapi import Path, Request

from neuromas.services.api.adapters import (
    FILES,
    adapter_names,
    adapters_of,
    check_free,
    describe,
    find_adapter,
    receive,
    remove_adapter,
)
from neuromas.services.api.auth import Reader, Trainer
from neuromas.services.api.described import errors
from neuromas.services.api.paging import After, Limit
from neuromas.services.api.route import router
from neuromas.services.api.schemas.adapter import AdapterView
from neuromas.services.api.schemas.view import Deleted, Listing
from neuromas.services.api.service import Serviced
from neuromas.services.api.uploads import changing
from neuromas.services.store.base import Document
from neuromas.topology.graph import NAME

routes = router("adapters")
AdapterName = Annotated[
    str, Path(description="Name of an adapter of this key's, or its project's.", pattern=f"^{NAME.pattern}$")
]
_FILE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@routes.put(
    "/adapters/{name}/{file}",
    response_model=AdapterView,
    responses=errors(400, 404, 409, 411, 413, 507),
    openapi_extra=_FILE,
)
async def put_file(
    caller: Trainer,
    service: Serviced,
    request: Request,
    name: AdapterName,
    file: Annotated[str, Path(description="Which of its two files.", json_schema_extra={"enum": list(FILES)})],
) -> Document:
    """Bring along one file of a PEFT adapter, in place of an earlier one; its bytes are the body."""
    return await receive(request, service, caller, name, file)


@routes.get("/adapters", response_model=Listing[AdapterView], responses=errors(400))
async def list_adapters(caller: Reader, service: Serviced, after: After = None, limit: Limit = 20) -> Document:
    """List the adapters of this key, or its project, by name."""
    own = adapters_of(caller, service.settings)

    def page() -> Document:
        names = adapter_names(own)
        begin = 0 if after is None else bisect_right(names, after)
        found = [describe(own / name) for name in names[begin : begin + limit]]
        last = found[-1]["name"] if found else None
        return {"object": "list", "data": found, "has_more": begin + limit < len(names), "last_id": last}

    return await asyncio.to_thread(page)


@routes.get("/adapters/{name}", response_model=AdapterView, responses=errors(404))
async def read_adapter(caller: Reader, service: Serviced, name: AdapterName) -> Document:
    """Read what is known of an adapter."""
    own = adapters_of(caller, service.settings)
    return await asyncio.to_thread(lambda: describe(find_adapter(own, name)))


@routes.delete("/adapters/{name}", response_model=Deleted, responses=errors(404, 409))
async def delete_adapter(caller: Trainer, service: Serviced, name: AdapterName) -> Document:
    """Delete an adapter with its files. Runs that have imported it keep what they made of it."""
    async with changing(caller, service):
        folder = await asyncio.to_thread(find_adapter, adapters_of(caller, service.settings), name)
        await check_free(service, caller, name)
        await asyncio.to_thread(remove_adapter, folder)
    return {"id": name, "object": "adapter", "deleted": True}
