"""The walk through the stages, driven by a runner whose outcomes are written down."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from neuromas.errors import GrowthError
from neuromas.growth.controller import Controller
from neuromas.growth.ledger import Spending
from neuromas.growth.lineage import draw_lineage
from neuromas.growth.schedule import ScheduleResult, check_schedule, run_schedule
from neuromas.growth.stage import GrowthNotice, Stage, StageOutcome
from neuromas.spec.growth import (
    AppendSpec,
    GraftSpec,
    GrowthSpec,
    InheritanceSpec,
    PlanSpec,
    TrialSpec,
    TriggerSpec,
    WidenSpec,
)
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Topology

CHAIN = topology_from_document({"chain": 3})
APPEND = PlanSpec(edits=(AppendSpec(edit="append"),))
WIDEN = PlanSpec(edits=(WidenSpec(edit="widen", layer=1),))


@dataclass
class ScriptedRunner:
    """Ends every stage as ``results`` says, by its name: (steps, reason, accuracy); else at full length, solved."""

    results: dict[str, tuple[int, str, float]] = field(default_factory=dict)
    modules: dict[str, Topology] = field(default_factory=dict)
    stages: list[Stage] = field(default_factory=list)

    def train(self, stage: Stage) -> StageOutcome:
        self.stages.append(stage)
        steps, reason, accuracy = self.results.get(stage.name, (stage.steps, "budget", 1.0))
        nodes = len(stage.topology.nodes)
        spending = Spending(steps=steps, rollouts=steps * 8, calls=steps * 8 * nodes)
        checkpoint = Path("checkpoints") / stage.name
        return StageOutcome(
            stage.name, stage.index, nodes, stage.level, steps, reason, accuracy, accuracy, 100, checkpoint, spending
        )

    def evaluate(self, checkpoint: Path, level: int | None, examples: int) -> tuple[float, ...]:
        right = round(self.results.get(checkpoint.name, (0, "", 1.0))[2] * examples)
        return (1.0,) * right + (0.0,) * (examples - right)

    def topology(self, checkpoint: str) -> Topology:
        return self.modules[checkpoint]


def walk(
    spec: GrowthSpec, runner: ScriptedRunner, *, total_steps: int = 100, levels: tuple[int, ...] = (3, 5, 7)
) -> tuple[ScheduleResult, list[GrowthNotice]]:
    notices: list[GrowthNotice] = []
    return run_schedule(Controller(spec, levels, total_steps), CHAIN, runner, notices.append), notices


def test_old_nodes_keep_to_the_worked_examples_of_the_level_they_were_trained_on() -> None:
    runner = ScriptedRunner({"stage-0": (20, "threshold", 0.96), "stage-1": (25, "threshold", 0.97)})
    controller = Controller(GrowthSpec(levels=(3, 5, 7)), (3, 5, 7), 100)
    run_schedule(controller, CHAIN, runner, [].append, worked_levels=frozenset({3, 5, 7}))
    graph = runner.stages[-1].topology
    assert [graph.view(node).level for node in graph.order] == [3, 3, 3, 5, 5, None, None]
    run_schedule(controller, CHAIN, runner, [].append)  # no level has examples of its own
    graph = runner.stages[-1].topology
    assert [graph.view(node).level for node in graph.order] == [None] * 7


def test_the_default_schedule_grows_at_every_level_and_spends_the_whole_budget() -> None:
    runner = ScriptedRunner({"stage-0": (20, "threshold", 0.96), "stage-1": (25, "threshold", 0.97)})
    result, _ = walk(GrowthSpec(levels=(3, 5, 7)), runner)
    assert [(r.name, r.level, r.steps, r.decay, len(r.topology.nodes)) for r in runner.stages] == [
        ("stage-0", 3, 60, False, 3),
        ("stage-1", 5, 60, False, 5),
        ("stage-2", 7, 55, True, 7),
    ]
    assert result.finished
    assert (len(result.topology.nodes), result.outcome.level) == (7, 7)
    assert result.lineage.ledger.total() == Spending(steps=100, rollouts=800, calls=8 * (20 * 3 + 25 * 5 + 55 * 7))


def test_a_grown_stage_starts_from_its_parent_with_old_adapters_kept() -> None:
    runner = ScriptedRunner({"stage-0": (20, "threshold", 0.96)})
    walk(GrowthSpec(levels=(3, 5)), runner, levels=(3, 5))
    first, second = runner.stages
    assert (first.start, first.grown) == (None, None)
    assert second.start == Path("checkpoints/stage-0")
    assert second.grown is not None
    assert second.grown.old_adapters == ("n1", "n2", "n3")
    assert (second.frozen, second.pull, second.keeps_moments) == ((), None, False)


def test_inheritance_settings_reach_the_stage() -> None:
    inherit = InheritanceSpec(old="freeze", freeze_steps=10, optimizer="keep")
    runner = ScriptedRunner()
    walk(GrowthSpec(levels=(3, 5), plans=(APPEND.model_copy(update={"inherit": inherit}),)), runner, levels=(3, 5))
    request = runner.stages[1]
    assert (request.frozen, request.freeze_steps, request.keeps_moments) == (("n1", "n2", "n3"), 10, True)


def test_a_plateau_ends_the_schedule_with_the_small_graph() -> None:
    result, notices = walk(GrowthSpec(levels=(3, 5)), ScriptedRunner({"stage-0": (60, "budget", 0.4)}), levels=(3, 5))
    assert (result.finished, len(result.topology.nodes), result.outcome.level) == (False, 3, 3)
    assert notices[-1].kind == "growth_refused"


def test_levels_without_plans_train_one_graph_from_stage_to_stage() -> None:
    spec = GrowthSpec(levels=(3, 5), plans=(), trigger=TriggerSpec(type="steps"), steps_per_level=(35, 30))
    runner = ScriptedRunner({"stage-0": (35, "steps", 0.0)})
    walk(spec, runner, levels=(3, 5))
    assert [(r.level, r.steps, r.start, r.topology) for r in runner.stages] == [
        (3, 35, None, CHAIN),
        (5, 30, Path("checkpoints/stage-0"), CHAIN),
    ]


def test_without_levels_one_stage_trains_the_full_size_from_new_adapters() -> None:
    runner = ScriptedRunner()
    result, notices = walk(GrowthSpec(plans=(APPEND, APPEND)), runner, levels=())
    assert [(r.name, len(r.topology.nodes), r.start, r.grown) for r in runner.stages] == [("stage-0", 7, None, None)]
    assert notices[0].kind == "growth_without_levels"
    assert result.finished


def test_a_trial_keeps_a_growth_that_beats_the_parent_and_charges_both() -> None:
    spec = GrowthSpec(levels=(3, 5), plans=(APPEND,), trial=TrialSpec(steps=30, examples=100))
    runner = ScriptedRunner(
        {
            "stage-0": (20, "threshold", 0.96),
            "stage-1-trial-0": (30, "budget", 0.9),
            "stage-1-parent-30": (30, "budget", 0.5),
        }
    )
    result, notices = walk(spec, runner, total_steps=120, levels=(3, 5))
    assert [(r.name, r.steps, r.decay, r.warmup) for r in runner.stages[1:]] == [
        ("stage-1-trial-0", 30, False, True),
        ("stage-1-parent-30", 30, False, True),
        ("stage-1", 40, True, False),
    ]
    assert runner.stages[-1].start == Path("checkpoints/stage-1-trial-0")
    assert runner.stages[-1].keeps_moments
    assert (len(result.topology.nodes), result.lineage.ledger.total().steps) == (5, 120)
    assert [notice.kind for notice in notices] == ["growth_due", "growth", "growth_kept", "growth_done"]


def test_a_growth_that_loses_its_trial_is_rolled_back_and_the_next_plan_tried() -> None:
    spec = GrowthSpec(levels=(3, 5), plans=(WIDEN, APPEND), trial=TrialSpec(steps=30, examples=100), final_steps=50)
    runner = ScriptedRunner(
        {
            "stage-0": (20, "threshold", 0.96),
            "stage-1-trial-0": (30, "budget", 0.2),
            "stage-1-parent-30": (30, "budget", 0.5),
            "stage-1-trial-1": (30, "budget", 0.8),
        }
    )
    result, _ = walk(spec, runner, levels=(3, 5))
    assert [r.name for r in runner.stages] == [
        "stage-0",
        "stage-1-trial-0",
        "stage-1-parent-30",
        "stage-1-trial-1",
        "stage-1",
    ]
    assert runner.stages[3].start == Path("checkpoints/stage-0")
    assert runner.stages[4].steps == 20
    assert [entry.kept for entry in result.lineage.entries] == [True, False, True, True, True]
    assert "[rolled back]" in draw_lineage(result.lineage.entries)
    assert result.lineage.ledger.total("trial-0").steps == 30


def test_when_every_plan_loses_the_parent_goes_on() -> None:
    spec = GrowthSpec(levels=(3, 5), plans=(APPEND,), trial=TrialSpec(steps=30, examples=100), final_steps=30)
    runner = ScriptedRunner({"stage-1-trial-0": (30, "budget", 0.5), "stage-1-parent-30": (30, "budget", 0.5)})
    result, _ = walk(spec, runner, levels=(3, 5))
    assert (len(result.topology.nodes), result.outcome.checkpoint.name) == (3, "stage-1-parent-30")
    assert result.finished


def test_the_parent_trains_on_where_a_later_trial_is_longer() -> None:
    spec = GrowthSpec(levels=(3, 5), plans=(APPEND, WIDEN), trial=TrialSpec(examples=100), final_steps=200)
    runner = ScriptedRunner({"stage-1-trial-0": (30, "budget", 0.2)})
    walk(spec, runner, levels=(3, 5))
    parents = [r for r in runner.stages if "parent" in r.name]
    assert [(r.name, r.steps, r.warmup) for r in parents] == [
        ("stage-1-parent-30", 30, True),
        ("stage-1-parent-180", 150, False),
    ]


def test_a_graft_takes_the_graphs_of_its_checkpoints_from_the_runner() -> None:
    graft = PlanSpec(edits=(GraftSpec(edit="graft", modules=("runs/x",)),))
    runner = ScriptedRunner(modules={"runs/x": topology_from_document({"chain": 2})})
    result, _ = walk(GrowthSpec(levels=(3, 5), plans=(graft,)), runner, levels=(3, 5))
    assert len(result.topology.nodes) == 6
    assert result.lineage.entries[1].modules == ("runs/x",)


def test_every_graph_of_a_schedule_is_known_before_it_runs() -> None:
    controller = Controller(GrowthSpec(levels=(3, 5, 7)), (3, 5, 7), 100)
    assert [len(graph.nodes) for graph in check_schedule(controller, CHAIN, {})] == [3, 5, 7]


def test_a_plan_that_will_not_fit_is_refused_before_anything_runs() -> None:
    deep = PlanSpec(edits=(WidenSpec(edit="widen", layer=5),))
    controller = Controller(GrowthSpec(levels=(3, 5, 7), plans=(APPEND, deep)), (3, 5, 7), 100)
    with pytest.raises(GrowthError, match=r"^growth\.plans\[1\]\.edits\[0\]: widen: got layer 5"):
        check_schedule(controller, CHAIN, {})
