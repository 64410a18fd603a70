"""The stages of a run: one, or those that the growth schedule asks for."""

from __future__ import annotations

from collections.abc import Callable

from neuromas.growth.controller import Controller
from neuromas.growth.ledger import Ledger
from neuromas.growth.lineage import Descent
from neuromas.growth.request import Notice, StageOutcome, StageRequest
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
    if spec.training.in_turn:
        return _walk_in_turn(spec, runner)
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


def _walk_in_turn(spec: RunSpec, runner: Runner) -> ScheduleResult:
    """Train one adapter after the other, each from the checkpoint of the one before."""
    graph, steps = spec.topology, spec.training.steps
    size, count = len(graph.nodes), len(graph.adapters)
    outcome: StageOutcome | None = None
    lineage, ledger = list[Descent](), Ledger()
    for place, adapter in enumerate(graph.adapters):
        request = StageRequest(
            name=f"turn-{place}",
            index=place,
            topology=graph,
            level=None,
            steps=steps * (place + 1) // count - steps * place // count,
            decay=True,
            start=None if outcome is None else outcome.checkpoint,
            trains=(adapter,),
        )
        before = None if outcome is None else str(outcome.checkpoint)
        outcome = runner.train(request)
        previous = lineage[-1].stage if lineage else None
        lineage.append(
            Descent(request.name, size, None, before, previous, accuracy=outcome.accuracy, steps=outcome.steps)
        )
        ledger = ledger.add("main", request.name, size, outcome.spending)
    assert outcome is not None, "a topology has an adapter"
    return ScheduleResult(graph, None, outcome, finished=True, lineage=tuple(lineage), ledger=ledger)


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
