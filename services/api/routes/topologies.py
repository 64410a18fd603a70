"""Topologies: immutable, and known by their content."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Response

from neuromas.services.api.auth import Reader, Trainer
from neuromas.services.api.body import Body
from neuromas.services.api.bounds import check_built, check_graph, check_size
from neuromas.services.api.described import errors, takes
from neuromas.services.api.estimate import draw, report
from neuromas.services.api.paging import MAX_ID, After, Limit, Text, listing
from neuromas.services.api.route import router
from neuromas.services.api.schemas.run import RUN_EXAMPLES
from neuromas.services.api.schemas.topology import TOPOLOGY_EXAMPLES, TopologyReport, TopologyView
from neuromas.services.api.schemas.view import Listing
from neuromas.services.api.service import Service, Serviced
from neuromas.services.api.submission import read_spec, topology_record
from neuromas.services.records.topology import TopologyRecord
from neuromas.services.store.base import Document
from neuromas.spec.load import is_topology_document
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

routes = router("topologies")
TopologyId = Annotated[
    str, Path(description="Id of a topology.", max_length=MAX_ID, examples=["topo_0123456789abcdef01234567"])
]
_DRAWN: Final = {"mermaid": "text/plain", "svg": "image/svg+xml"}
_IMAGES: Final[dict[str, Any]] = {
    "content": {
        "image/svg+xml": {"schema": {"type": "string"}},
        "text/plain": {"schema": {"type": "string"}},
    }
}


@routes.post(
    "/topologies",
    status_code=201,
    response_model=TopologyView,
    responses=errors(body=True) | {200: {"model": TopologyView, "description": "It was there already."}},
    openapi_extra=takes("Topology", TOPOLOGY_EXAMPLES),
)
async def create_topology(_: Trainer, service: Serviced, document: Body, response: Response) -> TopologyRecord:
    """Keep a graph. The same content, whatever its form or name, is one topology."""
    topology = await _read(service, document)
    stored, is_new = await service.store.create(topology_record(topology))
    response.status_code = 201 if is_new else 200
    return stored


@routes.post(
    "/topologies:validate",
    response_model=TopologyReport,
    responses=errors(404, body=True),
    openapi_extra=takes("TopologyOrRun", TOPOLOGY_EXAMPLES | RUN_EXAMPLES),
)
async def validate_topology(caller: Reader, service: Serviced, document: Body) -> Document:
    """Check a graph, or a whole run spec, and say what it is and needs. Nothing is kept."""
    if "topology" in document and not is_topology_document(document):
        checked = await read_spec(service, caller, document)
        return await asyncio.to_thread(report, checked.spec.topology, checked, service.settings)
    topology = await _read(service, document)
    return await asyncio.to_thread(report, topology, None, service.settings)


@routes.get("/topologies", response_model=Listing[TopologyView], responses=errors(400))
async def list_topologies(
    _: Reader, service: Serviced, after: After = None, limit: Limit = 20, name: Text = None
) -> Response:
    """List topologies, newest first."""
    return await listing(service, TopologyRecord, TopologyView, {"name": name}, after, limit)


@routes.get("/topologies/{topology_id}", response_model=TopologyView, responses=errors(404) | {200: _IMAGES})
async def read_topology(
    _: Reader,
    service: Serviced,
    topology_id: TopologyId,
    format: Annotated[Literal["json", "mermaid", "svg"], Query(description="As data, or drawn.")] = "json",
) -> Any:
    """Read a topology, or its drawing."""
    stored = await service.store.get(TopologyRecord, topology_id)
    if format == "json":
        return stored
    topology = topology_from_document(stored.document)
    return Response(await asyncio.to_thread(draw, topology, format), media_type=_DRAWN[format])


async def _read(service: Service, document: Document) -> Topology:
    settings = service.settings
    check_size(document, settings.max_spec_bytes)
    check_graph(document, settings.max_graph_nodes)
    topology = await asyncio.to_thread(topology_from_document, document)
    check_built(topology, settings.max_graph_nodes, "nodes")
    return topology
