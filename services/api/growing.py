"""Growing: from a run's checkpoint and a plan to the spec of a new run. Growth never changes a run in place."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from neuromas.checkpoints.trained import TrainedCheckpoint
from neuromas.errors import Fault, SpecError
from neuromas.growth.plan import Grown, apply_plan, module_names
from neuromas.run.grafts import graft_faults, named_grafts, parent_faults
from neuromas.services.api.allowed import module_faults
from neuromas.services.api.auth import Caller
from neuromas.services.api.body import parse_body
from neuromas.services.api.bounds import check_built, check_plan
from neuromas.services.api.checked import CheckedRun, decided, readable_base
from neuromas.services.api.problems import below, invalid
from neuromas.services.api.references import checkpoint_of_run
from neuromas.services.api.schemas.run import GrowRequest
from neuromas.services.api.service import Service
from neuromas.services.api.submission import read_modules, read_spec, read_trained
from neuromas.services.records.run import RunOrigin, RunRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.spec.growth import PlanSpec
from neuromas.spec.node_groups import regrouped
from neuromas.tasks.registry import level_fault, make_task

_INHERITED: Final = ("base", "adapter", "node_groups", "topology")
_MAX_NAME: Final = 63
_SUFFIX: Final = "-grown"


@dataclass(frozen=True, slots=True)
class CheckedGrowth:
    """A new run that has been checked and not begun.

    Attributes:
        checked: the new run.
        grown: the graph it begins with, and what became of the old one's nodes.
        origin: what its record says of where it comes from.
    """

    checked: CheckedRun
    grown: Grown
    origin: RunOrigin


async def plan_growth(service: Service, caller: Caller, run: RunRecord, document: Document) -> CheckedGrowth:
    """Return the run that a request to grow another means. Nothing is kept.

    The plan is applied to the graph of the checkpoint before anything else is looked at.

    Args:
        service: has the store.
        caller: who asks.
        run: to grow from.
        document: body of the request.

    Raises:
        GrowthError: the plan does not fit the checkpoint's graph.
        SpecError: the request or the new run's spec is not valid.
        ApiError: there is no such checkpoint, or the service does not do what is asked.
        CheckpointError: the checkpoint's files are gone.
    """
    check_plan(document.get("plan"))
    request = parse_body(GrowRequest, document, "the growth")
    if faults := list(module_faults((request.plan,), "plan")):
        raise invalid("this service does not take the plan", faults, code="unsupported", status=400)
    checkpoint = await checkpoint_of_run(service.store, run.id, request.checkpoint)
    parent = await read_trained(service, checkpoint, run)
    modules = await read_modules(service, module_names((request.plan,)), "plan")
    graphs = {name: module.topology for name, module in modules.items()}
    grown = await asyncio.to_thread(apply_plan, parent.topology, request.plan, graphs)
    check_built(grown.topology, service.settings.max_graph_nodes, "plan")
    if faults := await asyncio.to_thread(lambda: list(_graft_faults(parent, modules, request.plan, service.settings))):
        raise SpecError("the plan cannot be carried out", faults)
    checked = await _child(service, caller, run, request, grown)
    if faults := [Fault(f"spec.{fault.path}", fault.message) for fault in parent_faults(checked.spec, parent)]:
        raise SpecError("the new run cannot start", faults)
    plan = request.plan.model_dump(mode="json")
    origin = RunOrigin(run=run.id, checkpoint=checkpoint.id, plan=plan, level=request.level)
    return CheckedGrowth(checked, grown, origin)


def _graft_faults(
    parent: TrainedCheckpoint, modules: Mapping[str, TrainedCheckpoint], plan: PlanSpec, settings: Settings
) -> Iterator[Fault]:
    own = decided(parent, settings)
    is_decided = readable_base(own.spec.base, settings) is not None
    for path, name in named_grafts((plan,), "plan"):
        yield from graft_faults(own.spec, name, decided(modules[name], settings), path, decided=is_decided)


async def _child(service: Service, caller: Caller, run: RunRecord, request: GrowRequest, grown: Grown) -> CheckedRun:
    faults = [
        Fault(f"spec.{key}", "cannot differ from the parent's: the weights come from there")
        for key in _INHERITED
        if key in request.spec
    ]
    if "name" in request.spec:
        faults.append(Fault("spec.name", "is given beside the plan, as name"))
    if faults:
        raise invalid("the growth is not valid", faults)
    name = request.name or run.name[: _MAX_NAME - len(_SUFFIX)] + _SUFFIX
    groups = regrouped(run.spec.get("node_groups", {}), grown.topology)
    document = {**run.spec, "growth": None, "name": name}
    document |= {"topology": grown.topology.to_document(), "node_groups": groups}
    with below("spec"):
        checked = await read_spec(service, caller, _merged(document, request.spec))
    if request.level is not None:
        task = await asyncio.to_thread(make_task, checked.spec.task, checked.spec.seed)
        if fault := level_fault(task, request.level):
            raise invalid("the growth is not valid", [fault])
    return checked


def _merged(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """Return a document with changes, section by section; a section of another type replaces the old one whole."""
    merged = dict(document)
    for key, value in changes.items():
        old = merged.get(key)
        same = (
            isinstance(old, dict) and isinstance(value, dict) and value.get("type", old.get("type")) == old.get("type")
        )
        merged[key] = _merged(old, value) if same else value  # type: ignore[arg-type]
    return merged
