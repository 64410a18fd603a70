"""Submission: from the body of a request to a queued run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from neuromas.checkpoints.location import TOPOLOGY
from neuromas.checkpoints.trained import TrainedCheckpoint
from neuromas.errors import CheckpointError, Fault
from neuromas.growth.plan import module_names
from neuromas.services.api.allowed import check_allowed
from neuromas.services.api.auth import Caller
from neuromas.services.api.bounds import check_built, check_graph, check_plans, check_size
from neuromas.services.api.checked import CheckedRun, check
from neuromas.services.api.ownership import owned_by
from neuromas.services.api.problems import ApiError, invalid
from neuromas.services.api.quota import RUNS, room_for
from neuromas.services.api.references import present_checkpoint
from neuromas.services.api.service import Service
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.run import RunImport, RunOrigin, RunRecord
from neuromas.services.records.topology import TopologyRecord
from neuromas.services.store.base import Document, MissingError, Store
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

_TOPOLOGY_ID: Final = "topo_"


async def read_spec(service: Service, caller: Caller, document: Document) -> CheckedRun:
    """Return the run in a body after all checks.

    Raises:
        SpecError: it is not valid, or cannot start, with all faults.
        ApiError: it is too large, names a topology that is not there, or asks for what this service does not do.
    """
    settings = service.settings
    check_size(document, settings.max_spec_bytes)
    growth = document.get("growth")
    check_plans(growth.get("plans") if isinstance(growth, dict) else None, "growth.plans")
    if isinstance(document.get("topology"), str):
        document = {**document, "topology": await _stored_topology(service.store, document["topology"])}
    elif isinstance(document.get("topology"), dict):
        check_graph(document["topology"], settings.max_graph_nodes, "topology.")
    spec = await asyncio.to_thread(parse_run_spec, document)
    check_built(spec.topology, settings.max_graph_nodes, "topology")
    check_allowed(spec, caller, settings)
    plans = () if spec.growth is None else spec.growth.plans
    modules = await read_modules(service, module_names(plans), "growth.plans")
    checked = await asyncio.to_thread(check, spec, modules, settings)
    for graph in checked.graphs:
        check_built(graph, settings.max_graph_nodes, "growth.plans")
    return checked


async def submit(
    service: Service,
    caller: Caller,
    run_id: str,
    spec: RunSpec,
    tags: tuple[str, ...],
    *,
    origin: RunOrigin | None = None,
    imports: RunImport | None = None,
) -> RunRecord:
    """Queue a run and return its record; the same id again returns what is there.

    Args:
        service: has the store.
        caller: whose run it is.
        run_id: of the run.
        spec: checked.
        tags: by which it is found.
        origin: of a grown run.
        imports: adapters that it begins with; they are there, and stay.

    Raises:
        ApiError: the caller has too many runs already.
    """
    async with room_for(RUNS, service, caller, run_id):
        topology, _ = await service.store.create(topology_record(spec.topology))
        run = RunRecord(
            id=run_id,
            name=spec.name,
            spec=spec.model_dump(mode="json"),
            task=spec.task.type,
            base=spec.base,
            topology=topology.id,
            **owned_by(caller),
            tags=tags,
            parent=origin,
            parent_run="" if origin is None else origin.run,
            imports=imports,
            max_attempts=service.settings.max_attempts,
            folder=f"runs/{run_id}/{spec.name}",
        )
        stored, _ = await service.store.create(run)
        return stored


def topology_record(topology: Topology) -> TopologyRecord:
    """Return what is kept of a graph; the same content has the same id, whatever its name."""
    return TopologyRecord(
        id=f"{_TOPOLOGY_ID}{topology.content_hash[:24]}",
        name=topology.name,
        hash=topology.content_hash,
        document=topology.to_document(),
    )


async def read_modules(service: Service, names: tuple[str, ...], path: str) -> dict[str, TrainedCheckpoint]:
    """Return trained graphs by the ids of their checkpoints, with the specs that were sent for their runs.

    Raises:
        ApiError: one is not there (404).
        CheckpointError: its files are not.
    """
    return {name: await _module(service, name, path) for name in names}


def checkpoint_folder(service: Service, checkpoint: CheckpointRecord) -> Path:
    """Return the folder of a checkpoint.

    Raises:
        CheckpointError: its record names one outside the data folder.
    """
    root = service.settings.data_dir
    folder = (root / checkpoint.path).resolve()
    if not folder.is_relative_to(root) or folder == root:
        raise CheckpointError(f"checkpoint {checkpoint.id} names a folder outside the data folder")
    return folder


async def _stored_topology(store: Store, id: str) -> Document:
    if not id.startswith(_TOPOLOGY_ID):
        raise invalid(
            "the run spec is not valid",
            [Fault("topology", f"got {id[:80]!r}; expected a topology document or the id of one (topo_...)")],
            code="invalid_spec",
        )
    try:
        return (await store.get(TopologyRecord, id)).document
    except MissingError as error:
        raise ApiError(404, "not_found", str(error), param="topology") from error


async def _module(service: Service, name: str, path: str) -> TrainedCheckpoint:
    try:
        checkpoint = await present_checkpoint(service.store, name)
        run = await service.store.get(RunRecord, checkpoint.run)
    except MissingError as error:
        raise ApiError(404, "not_found", str(error), param=path) from error
    return await read_trained(service, checkpoint, run)


async def read_trained(service: Service, checkpoint: CheckpointRecord, run: RunRecord) -> TrainedCheckpoint:
    """Return the trained graph of a run's checkpoint, with the spec that was sent for the run.

    Raises:
        CheckpointError: its files are gone.
    """
    topology = await checkpoint_graph(service, checkpoint)
    return TrainedCheckpoint(
        checkpoint_folder(service, checkpoint), topology, await asyncio.to_thread(parse_run_spec, run.spec)
    )


async def checkpoint_graph(service: Service, checkpoint: CheckpointRecord) -> Topology:
    """Return the graph of a checkpoint.

    Raises:
        CheckpointError: its files are gone.
    """
    return await asyncio.to_thread(_read_topology, checkpoint_folder(service, checkpoint))


def _read_topology(folder: Path) -> Topology:
    # The driver checks the whole checkpoint; here the graph alone is wanted, and weights may be large.
    try:
        return topology_from_document(json.loads((folder / TOPOLOGY).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the graph of checkpoint {folder.name} cannot be read ({error})") from error
