"""The stages of a run: one, or those that the growth schedule asks for."""

from __future__ import annotations

from collections.abc import Callable

from neuromas.growth.controller import Controller
from neuromas.growth.ledger import Ledger
from neuromas.growth.lineage import Descent
from neuromas.growth.request import Notice, StageRequest
from neuromas.growth.request import StageRunner as Runner
from neuromas.growth.schedule import ScheduleResult, run_schedule
from neuromas.run.parent import Parent
from neuromas.spec.run import RunSpec


def walk_stages(
    spec: RunSpec,
    controller: Controller | None,
    runner: Runner,
    parent: Parent | None,
    notify: Callable[[Notice], None],
) -> ScheduleResult:
    """Train all stages of a run.

    Args:
        spec: the run.
        controller: of the growth schedule; None for a run of one stage.
        runner: trains a stage.
        parent: the checkpoint that the first graph was grown from.
        notify: receives what the user should read.
    """
    if controller is not None:
        return run_schedule(controller, spec.topology, runner, notify)
    request = first_request(spec, parent)
    outcome = runner.train(request)
    descent = Descent(
        stage=request.name,
        nodes=len(request.topology.nodes),
        level=request.level,
        parent=None if parent is None else str(parent.checkpoint),
        plan=None if parent is None else parent.plan,
        mapping=None if request.grown is None else request.grown.mapping,
        modules=request.modules,
        accuracy=outcome.accuracy,
        steps=outcome.steps,
    )
    ledger = Ledger().add("main", request.name, len(request.topology.nodes), outcome.spending)
    return ScheduleResult(request.topology, request.level, outcome, finished=True, lineage=(descent,), ledger=ledger)


def first_request(spec: RunSpec, parent: Parent | None) -> StageRequest:
    """Return the only stage of a run without a schedule."""
    request = StageRequest(
        name="stage-0", index=0, topology=spec.topology, level=None, steps=spec.training.steps, decay=True
    )
    if parent is None:
        return request
    grown = parent.grow()
    return StageRequest(
        name="stage-0",
        index=0,
        topology=grown.topology,
        level=parent.level,
        steps=spec.training.steps,
        decay=True,
        start=parent.checkpoint,
        grown=grown,
        modules=parent.modules,
        inherit=parent.plan.inherit,
    )
