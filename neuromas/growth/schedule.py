"""The loop over stages: asks the controller, grows the graph, lets the runner train, judges trials, keeps the lineage.

Knows no torch and no Ray: the runner does the work. Every stage has a name that does not depend on when it runs, and
the controller decides from outcomes alone, so a resumed run walks the same way through the stages it has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from neuromas.errors import GrowthError
from neuromas.growth.controller import Budget, Continue, Controller, Ended, Grow, Scratch, Stop
from neuromas.growth.ledger import Ledger
from neuromas.growth.lineage import Descent, describe_plan
from neuromas.growth.plan import Grown, apply_plan, module_names
from neuromas.growth.request import Notice, StageOutcome, StageRequest, StageRunner
from neuromas.growth.trial import judge, trial_steps
from neuromas.growth.triggers import Reason
from neuromas.spec.growth import PlanSpec
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """What a whole schedule left behind.

    Attributes:
        topology: graph of the last stage.
        level: its task level; None = the task's target.
        outcome: of the last stage.
        finished: whether the schedule reached its last stage.
        lineage: one entry per stage and trial arm, in the order they were trained.
        ledger: what each of them spent.
    """

    topology: Topology
    level: int | None
    outcome: StageOutcome
    finished: bool
    lineage: tuple[Descent, ...]
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the schedule stands: a graph and the outcome of the stage that trained it."""

    topology: Topology
    level: int | None = None
    stage: str | None = None
    outcome: StageOutcome | None = None

    @property
    def checkpoint(self) -> Path | None:
        return None if self.outcome is None else self.outcome.checkpoint


def check_schedule(controller: Controller, topology: Topology, modules: Mapping[str, Topology]) -> tuple[Topology, ...]:
    """Return the graphs of the stages that the schedule will walk through, growing nothing yet.

    With a trial, the graphs are the first one and each candidate.

    Args:
        controller: of the run.
        topology: the first graph.
        modules: graphs of the checkpoints that grafts name.

    Raises:
        GrowthError: a plan does not fit the graph it will be applied to; the message has its path.
    """
    spec, graphs = controller.spec, [topology]
    if spec.trial is not None:
        return (topology, *(_dry_run(topology, plan, index, modules) for index, plan in enumerate(spec.plans)))
    if not spec.plans:
        return (topology,)
    num_changes = len(spec.plans) if not spec.levels else spec.num_stages - 1
    for change in range(num_changes):
        index = change if len(spec.plans) > 1 else 0
        graphs.append(_dry_run(graphs[-1], spec.plans[index], index, modules))
    return (graphs[0], graphs[-1]) if not spec.levels and spec.without_levels == "scratch" else tuple(graphs)


def run_schedule(
    controller: Controller, topology: Topology, runner: StageRunner, notify: Callable[[Notice], None]
) -> ScheduleResult:
    """Train the first graph and grow it until the controller stops.

    Args:
        controller: rules and budget.
        topology: the first graph.
        runner: trains stages and evaluates checkpoints.
        notify: receives what the user should read, as it happens.

    Raises:
        GrowthError: a plan does not fit its graph.
    """
    return _Walk(controller, topology, runner, notify).run()


@dataclass(slots=True)
class _Walk:
    """State of one walk through the stages."""

    controller: Controller
    topology: Topology
    runner: StageRunner
    notify: Callable[[Notice], None]
    history: list[Ended] = field(default_factory=list)
    lineage: list[Descent] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    def run(self) -> ScheduleResult:
        place = _Place(self.topology)
        while True:
            decision = self.controller.decide(self.history)
            for notice in decision.notices:
                self.notify(notice)
            match decision:
                case Stop():
                    break
                case Continue(budget):
                    place = self._continue(place, budget)
                case Scratch(plans, budget):
                    place = self._continue(_Place(self._full_size(plans)), budget)
                case Grow((plan,), budget) if self.controller.spec.trial is None:
                    place = self._grow(place, plan, budget)
                case Grow(plans, budget):
                    place = self._try_plans(place, plans, budget)
        if place.outcome is None:
            raise GrowthError("the schedule ended before its first stage; training.steps must be at least 1")
        return ScheduleResult(
            place.topology, place.level, place.outcome, decision.finished, tuple(self.lineage), self.ledger
        )

    def _continue(self, place: _Place, budget: Budget) -> _Place:
        request = _request(f"stage-{budget.index}", place, budget)
        return self._end_stage(self._train(request, "main", place), 0)

    def _grow(self, place: _Place, plan: PlanSpec, budget: Budget) -> _Place:
        request = self._grown_request(f"stage-{budget.index}", place, plan, budget)
        return self._end_stage(self._train(request, "main", place, plan), 0)

    def _try_plans(self, place: _Place, plans: Sequence[PlanSpec], budget: Budget) -> _Place:
        """Open the stage with a trial of each plan in turn against the parent; go on with the first that is better."""
        trial = self.controller.spec.trial
        assert trial is not None
        charged, parent, parent_steps = 0, place, 0
        for index, plan in enumerate(plans):
            steps = trial_steps(trial, plan)
            name = f"stage-{budget.index}-trial-{index}"
            arm = replace(budget, steps=steps, decay=False, trigger=None)
            grown = self._train(self._grown_request(name, place, plan, arm), f"trial-{index}", place, plan)
            charged += steps
            if steps > parent_steps:  # a longer trial than the one before: the parent trains on to the same length
                more = replace(arm, steps=steps - parent_steps)
                parent_name = f"stage-{budget.index}-parent-{steps}"
                request = replace(_request(parent_name, parent, more), warmup=parent_steps == 0)
                parent, charged, parent_steps = self._train(request, "parent", parent), charged + more.steps, steps
            if self._is_better(grown, parent, budget.level, len(plans)):
                return self._finish_trial(grown, budget, charged, steps, rolled_back=False)
            self._roll_back(grown)
        return self._finish_trial(parent, budget, charged, parent_steps, rolled_back=True)

    def _is_better(self, grown: _Place, parent: _Place, level: int | None, plans: int) -> bool:
        trial = self.controller.spec.trial
        assert trial is not None
        assert grown.checkpoint is not None
        assert parent.checkpoint is not None
        mine = self.runner.evaluate(grown.checkpoint, level, trial.examples)
        theirs = self.runner.evaluate(parent.checkpoint, level, trial.examples)
        verdict = judge(mine, theirs, trial, plans)
        self.notify(
            Notice(
                "growth_kept" if verdict.kept else "growth_rolled_back",
                f"{grown.stage}: {verdict.grown:.3f} against {verdict.parent:.3f} of the parent trained on "
                f"({verdict.wins} wins, {verdict.losses} losses, p = {verdict.p_value:.3g})",
                {
                    "stage": grown.stage,
                    "grown": verdict.grown,
                    "parent": verdict.parent,
                    "wins": verdict.wins,
                    "losses": verdict.losses,
                    "p_value": verdict.p_value,
                },
            )
        )
        return verdict.kept

    def _finish_trial(self, place: _Place, budget: Budget, charged: int, trained: int, *, rolled_back: bool) -> _Place:
        """Train the winner on for what is left of the stage; all arms' steps count against a bound total."""
        used = charged if self.controller.is_bound_by_total else trained
        rest = budget.steps - used
        if rest < 1:
            assert place.outcome is not None
            self.history.append(_ended(place.outcome, charged, "budget", rolled_back=rolled_back))
            return place
        request = replace(_request(f"stage-{budget.index}", place, replace(budget, steps=rest)), warmup=False)
        return self._end_stage(self._train(request, "main", place), charged, rolled_back=rolled_back)

    def _train(self, request: StageRequest, arm: str, place: _Place, plan: PlanSpec | None = None) -> _Place:
        outcome = self.runner.train(request)
        self.ledger = self.ledger.add(arm, request.name, len(request.topology.nodes), outcome.spending)
        self.lineage.append(
            Descent(
                stage=request.name,
                nodes=len(request.topology.nodes),
                level=request.level,
                parent=None if request.start is None else str(request.start),
                parent_stage=place.stage,
                plan=plan,
                mapping=None if request.grown is None else request.grown.mapping,
                modules=() if plan is None else module_names((plan,)),
                accuracy=outcome.accuracy,
                steps=outcome.steps,
            )
        )
        return _Place(request.topology, request.level, request.name, outcome)

    def _end_stage(self, place: _Place, charged: int, *, rolled_back: bool = False) -> _Place:
        assert place.outcome is not None
        outcome = place.outcome
        self.history.append(_ended(outcome, charged + outcome.steps, outcome.reason, rolled_back=rolled_back))
        return place

    def _roll_back(self, place: _Place) -> None:
        self.lineage = [replace(entry, kept=False) if entry.stage == place.stage else entry for entry in self.lineage]

    def _grown_request(self, name: str, place: _Place, plan: PlanSpec, budget: Budget) -> StageRequest:
        grown = self._apply(place.topology, plan)
        self.notify(
            Notice(
                "growth",
                f"{name}: {len(place.topology.nodes)} -> {len(grown.topology.nodes)} nodes by {describe_plan(plan)}",
                {"stage": name, "new": list(grown.new), "mapping": dict(grown.mapping)},
            )
        )
        request = _request(name, replace(place, topology=grown.topology), budget)
        return replace(request, grown=grown, modules=module_names((plan,)), inherit=plan.inherit)

    def _apply(self, topology: Topology, plan: PlanSpec) -> Grown:
        return apply_plan(topology, plan, {name: self.runner.topology(name) for name in module_names((plan,))})

    def _full_size(self, plans: Sequence[PlanSpec]) -> Topology:
        topology = self.topology
        for plan in plans:
            topology = self._apply(topology, plan).topology
        return topology


def _request(name: str, place: _Place, budget: Budget) -> StageRequest:
    return StageRequest(
        name=name,
        index=budget.index,
        topology=place.topology,
        level=budget.level,
        steps=budget.steps,
        decay=budget.decay,
        trigger=budget.trigger,
        start=place.checkpoint,
    )


def _ended(outcome: StageOutcome, steps: int, reason: Reason, *, rolled_back: bool) -> Ended:
    return Ended(steps, reason, outcome.accuracy, rolled_back, outcome.sampled_accuracy)


def _dry_run(topology: Topology, plan: PlanSpec, index: int, modules: Mapping[str, Topology]) -> Topology:
    try:
        return apply_plan(topology, plan, modules).topology
    except GrowthError as error:
        raise GrowthError(f"growth.plans[{index}].{error}") from error
