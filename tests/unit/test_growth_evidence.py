"""The arms of the growth evidence: valid run specs whose budgets are what their names say."""

import json

import pytest

from benchmarks.growth_arms import ARMS, FAMILIES, NEEDS_GROWN, GrownArm, arm_spec
from benchmarks.growth_evidence import merged
from neuromas.growth.controller import Controller
from neuromas.growth.schedule import check_schedule
from neuromas.spec.run import RunSpec
from neuromas.tasks.registry import make_task

GROWN = {
    "cycle7": GrownArm((10, 10, 80), calls=122_880),
    "chain7": GrownArm((20, 25, 55), calls=94_080),
    "chain9": GrownArm((20, 25, 25, 50), calls=143_000),
    "tree3": GrownArm((60, 200), calls=404_480),
    "tree3-85": GrownArm((15, 70), calls=136_960),
    "tree4": GrownArm((15, 100, 125), calls=1_200_000),
}
SUBTREES = {name for name, family in FAMILIES.items() if family.task["type"] == "tree"}
"""Families with subtrees to copy."""
NODES = {"chain7": 7, "cycle7": 7, "chain9": 9, "tree3": 7, "tree3-85": 7, "tree4": 15}


def spec_of(family: str, arm: str) -> RunSpec:
    return RunSpec.model_validate_json(json.dumps(arm_spec(family, arm, 0, GROWN[family])))


@pytest.mark.parametrize(
    ("family", "arm"),
    [(family, arm) for family in FAMILIES for arm in ARMS if arm != "grown-copies" or family in SUBTREES],
)
def test_every_arm_is_a_spec_that_can_run(family: str, arm: str) -> None:
    spec = spec_of(family, arm)
    if spec.growth is not None:
        levels = make_task(spec.task, 0).levels
        check_schedule(Controller(spec.growth, levels, spec.training.steps), spec.topology, {})


@pytest.mark.parametrize(("family", "nodes"), NODES.items())
def test_the_grown_graph_ends_with_the_size_of_the_one_from_scratch(family: str, nodes: int) -> None:
    spec = spec_of(family, "grown")
    controller = Controller(spec.growth, make_task(spec.task, 0).levels, spec.training.steps)
    graphs = check_schedule(controller, spec.topology, {})
    assert len(graphs[-1].nodes) == len(spec_of(family, "scratch").topology.nodes) == nodes


def test_arms_with_equal_rollouts_take_equal_steps() -> None:
    assert {spec_of("chain7", arm).training.steps for arm in ("grown", "scratch", "parent")} == {100}
    assert sum(spec_of("chain7", "scratch-levels").growth.steps_per_level) == 100
    assert sum(spec_of("tree3", "grown-steps").growth.steps_per_level) == 140


def test_the_parent_with_equal_calls_takes_more_steps() -> None:
    assert spec_of("chain7", "parent-calls").training.steps == 163
    assert spec_of("tree3", "parent-calls").training.steps == 527


def test_controls_that_copy_the_grown_arm_cannot_run_before_it() -> None:
    for arm in NEEDS_GROWN:
        with pytest.raises(ValueError, match="run that first"):
            arm_spec("chain7", arm, 0, None)


def test_published_runs_are_replaced_one_by_one() -> None:
    def record(family: str, arm: str, seed: int, greedy: float) -> dict[str, object]:
        return {"family": family, "arm": arm, "seed": seed, "greedy": greedy}

    before = [record("tree3", "grown", 0, 0.9), record("chain7", "scratch", 0, 0.5), record("chain7", "grown", 0, 0.8)]
    again = [record("chain7", "grown", 0, 1.0), record("chain7", "grown", 1, 1.0)]
    assert merged([*before, *again]) == [again[0], again[1], before[1], before[0]]
