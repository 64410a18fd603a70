"""The loop over stages: asks the controller, grows the graph, lets the runner train, judges trials, keeps the lineage.

Knows no torch and no Ray: the runner does the work. Every stage has a name that does not depend on when it runs, and
the controller decides from outcomes alone, so a resumed run walks the same way through the stages it has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from neuromas.errors import GrowthError
from neuromas.growth.controller import Controller, Stop, Train
from neuromas.growth.lineage import Lineage, describe_plan
from neuromas.growth.plan import Grown, apply_plan, module_names
from neuromas.growth.stage import GrowthNotice, Stage, StageOutcome, StageRunner
from neuromas.growth.trial import judge, trial_steps
from neuromas.spec.growth import PlanSpec
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """What a whole schedule left behind.

    Attributes:
        topology: graph of the last stage.
        outcome: of the last stage.
        finished: whether the schedule reached its last stage.
        lineage: of all stages and arms of trials.
    """

    topology: Topology
    outcome: StageOutcome
    finished: bool
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where the schedule stands: a graph, and the outcome of the stage that trained it."""

    topology: Topology
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
    controller: Controller,
    topology: Topology,
    runner: StageRunner,
    notify: Callable[[GrowthNotice], None],
    worked_levels: frozenset[int] = frozenset(),
) -> ScheduleResult:
    """Train the first graph and grow it until the controller stops.

    Args:
        controller: rules and budget.
        topology: the first graph.
        runner: trains stages and evaluates checkpoints.
        notify: receives what the user should read, as it happens.
        worked_levels: levels that have worked examples of their own, which trained nodes go on reading.

    Raises:
        GrowthError: a plan does not fit its graph.
    """
    return _Walk(controller, topology, runner, notify, worked_levels).run()


@dataclass(slots=True)
class _Walk:
    """State of one walk through the stages; ``history`` and ``lost`` are what the controller decides from."""

    controller: Controller
    topology: Topology
    runner: StageRunner
    notify: Callable[[GrowthNotice], None]
    worked_levels: frozenset[int]
    history: list[StageOutcome] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)
    lineage: Lineage = field(default_factory=Lineage)

    def run(self) -> ScheduleResult:
        now = _Standing(self.topology)
        while True:
            decision = self.controller.decide(self.history, self.lost)
            for notice in decision.notices:
                self.notify(notice)
            match decision:
                case Stop():
                    break
                case Train(plans=()):
                    now = self._close(self._train(self._stage(decision, now), now))
                case Train(is_scratch=True):
                    full = _Standing(self._full_size(decision.plans))
                    now = self._close(self._train(self._stage(decision, full), full))
                case Train(plans=(plan,)) if self.controller.spec.trial is None:
                    now = self._close(self._train(self._grown(self._stage(decision, now), now, plan), now))
                case Train():
                    now = self._try_plans(decision, now)
        if now.outcome is None:
            raise GrowthError("the schedule ended before its first stage; training.steps must be at least 1")
        return ScheduleResult(now.topology, now.outcome, decision.finished, self.lineage)

    def _stage(self, train: Train, now: _Standing) -> Stage:
        """Return the stage that the controller wants, on the graph as it is."""
        return Stage(
            name=f"stage-{train.number}",
            index=len(self.lineage.entries),
            topology=now.topology,
            steps=train.steps,
            level=train.level,
            decay=train.is_last,
            trigger=train.trigger,
            start=now.checkpoint,
        )

    def _try_plans(self, train: Train, now: _Standing) -> _Standing:
        """Open the stage with a trial of each plan in turn against the parent; go on with the first that is better."""
        trial = self.controller.spec.trial
        assert trial is not None
        charged, parent, parent_steps = 0, now, 0
        for place, plan in enumerate(train.plans):
            steps = trial_steps(trial, plan)
            arm = replace(self._stage(train, now), steps=steps, decay=False, trigger=None)
            arm = replace(arm, name=f"{arm.name}-trial-{place}")
            grown = self._train(self._grown(arm, now, plan), now, f"trial-{place}")
            charged += steps
            if steps > parent_steps:  # a longer trial than the one before: the parent trains on to the same length
                more = replace(self._stage(train, parent), steps=steps - parent_steps, decay=False, trigger=None)
                more = replace(more, name=f"{more.name}-parent-{steps}", warmup=parent_steps == 0)
                parent, charged, parent_steps = self._train(more, parent, "parent"), charged + more.steps, steps
            if self._is_better(grown, parent, train.level, len(train.plans)):
                return self._finish_trial(train, grown, charged, steps)
            self.lineage.roll_back(_outcome(grown).name)
        self.lost.add(train.number)
        return self._finish_trial(train, parent, charged, parent_steps)

    def _is_better(self, grown: _Standing, parent: _Standing, level: int | None, plans: int) -> bool:
        trial, name = self.controller.spec.trial, _outcome(grown).name
        assert trial is not None
        mine = self.runner.evaluate(_outcome(grown).checkpoint, level, trial.examples)
        theirs = self.runner.evaluate(_outcome(parent).checkpoint, level, trial.examples)
        verdict = judge(mine, theirs, trial, plans)
        self.notify(
            GrowthNotice(
                "growth_kept" if verdict.kept else "growth_rolled_back",
                f"{name}: {verdict.grown:.3f} against {verdict.parent:.3f} of the parent trained on "
                f"({verdict.wins} wins, {verdict.losses} losses, p = {verdict.p_value:.3g})",
                {
                    "stage": name,
                    "grown": verdict.grown,
                    "parent": verdict.parent,
                    "wins": verdict.wins,
                    "losses": verdict.losses,
                    "p_value": verdict.p_value,
                },
            )
        )
        return verdict.kept

    def _finish_trial(self, train: Train, winner: _Standing, charged: int, trained: int) -> _Standing:
        """Train the winner on for what is left of the stage; all arms' steps count against a bound total."""
        rest = train.steps - (charged if self.controller.is_bound_by_total else trained)
        if rest < 1:
            self.history.append(replace(_outcome(winner), steps=charged, reason="budget"))
            return winner
        stage = replace(self._stage(train, winner), steps=rest, warmup=False)
        return self._close(self._train(stage, winner), charged)

    def _train(self, stage: Stage, parent: _Standing, arm: str = "main") -> _Standing:
        outcome = self.runner.train(stage)
        self.lineage.add(stage, outcome, parent.outcome, arm)
        return _Standing(stage.topology, outcome)

    def _close(self, now: _Standing, charged: int = 0) -> _Standing:
        """End a scheduled stage, to which ``charged`` steps of a trial count too."""
        outcome = _outcome(now)
        self.history.append(replace(outcome, steps=charged + outcome.steps))
        return now

    def _grown(self, stage: Stage, parent: _Standing, plan: PlanSpec) -> Stage:
        """Return the stage on the graph that a plan makes of the parent's."""
        grown = self._apply(parent, plan)
        self.notify(
            GrowthNotice(
                "growth",
                f"{stage.name}: {len(parent.topology.nodes)} -> {len(grown.topology.nodes)} nodes by "
                f"{describe_plan(plan)}",
                {"stage": stage.name, "new": list(grown.new), "mapping": dict(grown.mapping)},
            )
        )
        return replace(stage, topology=grown.topology, grown=grown)

    def _apply(self, parent: _Standing, plan: PlanSpec) -> Grown:
        level = None if parent.outcome is None else parent.outcome.level
        modules = {name: self.runner.topology(name) for name in module_names((plan,))}
        return apply_plan(parent.topology, plan, modules, level if level in self.worked_levels else None)

    def _full_size(self, plans: Sequence[PlanSpec]) -> Topology:
        topology = self.topology
        for plan in plans:
            topology = self._apply(_Standing(topology), plan).topology
        return topology


def _outcome(trained: _Standing) -> StageOutcome:
    assert trained.outcome is not None, "a graph that was trained has an outcome"
    return trained.outcome


def _dry_run(topology: Topology, plan: PlanSpec, index: int, modules: Mapping[str, Topology]) -> Topology:
    try:
        return apply_plan(topology, plan, modules).topology
    except GrowthError as error:
        raise GrowthError(f"growth.plans[{index}].{error}") from error
