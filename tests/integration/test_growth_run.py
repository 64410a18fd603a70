"""Whole runs that grow, on the shipped base: what a schedule leaves in the run folder and does to weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from neuromas.checkpoints.location import ADAPTERS, read_topology, resolve_checkpoint
from neuromas.checkpoints.trained import find_trained
from neuromas.journal import lines as journal
from neuromas.run.candidates import search_growth
from neuromas.run.outcome import RunResult
from neuromas.run.preflight import check_run
from neuromas.run.run import run, worker_setup
from neuromas.spec.growth import PlanSpec, TrialSpec, WidenSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec

APPEND = {"edits": [{"edit": "append", "layers": [1]}]}


def spec_of(name: str, growth: dict[str, Any] | None, *, nodes: int = 1, **training: object) -> RunSpec:
    return parse_run_spec(
        {
            "name": name,
            "topology": {"chain": nodes},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 4, "prompts_per_step": 2, "group_size": 4, "warmup_steps": 0} | training,
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
            "evaluation": {"examples": 16},
            "checkpoint": {"every": 0},
        }
        | ({} if growth is None else {"growth": growth})
    )


def fixed_steps(*plans: dict[str, Any], **settings: object) -> dict[str, Any]:
    schedule = {"trigger": {"type": "steps"}, "steps_per_level": [2, 2]}
    return {"levels": [1, 2], "plans": list(plans), **schedule, **settings}


def weights(result: RunResult, stage: int) -> dict[str, torch.Tensor]:
    name = result.document["stages"][stage]["checkpoint"]
    return load_file(result.folder / "checkpoints" / name / ADAPTERS)


def of_node(state: dict[str, torch.Tensor], node: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key.startswith(f"{node}/")}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run(spec_of("grown", fixed_steps(APPEND)), tmp_path_factory.mktemp("grown"))


def test_a_schedule_ends_with_the_grown_graph_and_counts_everything(grown: RunResult) -> None:
    document = grown.document
    assert [(s["name"], s["nodes"], s["level"], s["steps"], s["reason"]) for s in document["stages"]] == [
        ("stage-0", 1, 1, 2, "steps"),
        ("stage-1", 2, 2, 2, "budget"),
    ]
    assert [node["id"] for node in document["topology"]["nodes"]] == ["n1", "n2"]
    assert document["spending"]["rollouts"] == 4 * 8
    assert document["spending"]["calls"] == 2 * 8 * 1 + 2 * 8 * 2
    assert [entry["parent_stage"] for entry in document["lineage"]] == [None, "stage-0"]
    assert document["lineage"][1]["mapping"] == {"n1": "n1"}
    assert document["finished_schedule"] is True
    assert document["chance"] == pytest.approx(1 / 7)
    told = [(line["stage"], line["stage/chance"]) for line in journal.read(grown.folder / "metrics.jsonl")]
    assert told == [(0, 1 / 7), (0, 1 / 7), (1, 1 / 7), (1, 1 / 7)]


def test_a_finished_schedule_asked_to_resume_trains_nothing_again(grown: RunResult) -> None:
    again = run(spec_of("grown", fixed_steps(APPEND)), grown.folder.parent, resume=True)
    for key in ("stages", "lineage", "ledger", "accuracy", "topology_hash"):
        assert again.document[key] == grown.document[key]


def test_frozen_old_nodes_do_not_move_and_new_ones_do(tmp_path: Path) -> None:
    plan = APPEND | {"inherit": {"old": "freeze"}}
    spec = spec_of("frozen", fixed_steps(plan), entropy={"start": 0.1, "until": 1.0})
    result = run(spec, tmp_path)
    before, after = weights(result, 0), weights(result, 1)
    assert same(of_node(before, "n1"), of_node(after, "n1"))
    assert any(tensor.abs().sum() > 0 for key, tensor in of_node(after, "n2").items() if key.endswith("/B"))


def test_old_nodes_thaw_inside_a_stage(tmp_path: Path) -> None:
    plan = APPEND | {"inherit": {"old": "freeze", "freeze_steps": 1}}
    spec = spec_of("thawed", fixed_steps(plan), entropy={"start": 0.1, "until": 1.0})
    result = run(spec, tmp_path)
    assert not same(of_node(weights(result, 0), "n1"), of_node(weights(result, 1), "n1"))


def test_a_stage_ends_when_sampled_answers_pass_too_and_their_calls_count(tmp_path: Path) -> None:
    trigger = {"accuracy": 0.01, "sampled_accuracy": 0.01, "every": 1, "examples": 64, "min_steps": 1}
    growth = {"levels": [1, 2], "plans": [APPEND], "trigger": trigger, "final_steps": 1}
    first = run(spec_of("sampled", growth), tmp_path).document["stages"][0]
    assert first["reason"] == "threshold"
    last = first["checks"][-1]
    assert (last["step"], last["accuracy"] >= 0.01, last["sampled_accuracy"] >= 0.01) == (first["steps"], True, True)
    looks = sum(1 + (check["sampled_accuracy"] is not None) for check in first["checks"])
    assert first["spending"]["check_calls"] == looks * 64


def test_a_growth_that_is_not_better_is_rolled_back_and_its_rollouts_count(tmp_path: Path) -> None:
    trial = {"steps": 1, "examples": 16, "max_p_value": 1e-6}  # 16 wins of 16 have 1.5e-5
    growth = {"levels": [1, 2], "plans": [APPEND], "trigger": {"accuracy": 0.01, "every": 1, "min_steps": 1}}
    result = run(spec_of("trial", growth | {"trial": trial, "final_steps": 2}), tmp_path)
    assert [s["name"] for s in result.document["stages"]] == [
        "stage-0",
        "stage-1-trial-0",
        "stage-1-parent-1",
        "stage-1",
    ]
    assert [s["nodes"] for s in result.document["stages"]] == [1, 2, 1, 1]
    assert [entry["kept"] for entry in result.document["lineage"]] == [True, False, True, True]
    assert result.document["steps"] == result.document["stages"][0]["steps"] + 3


@pytest.mark.ray
def test_candidates_are_tried_side_by_side_and_judged_against_the_parent(tmp_path: Path) -> None:
    spec = spec_of("parent", None, nodes=2)
    parent = run(spec, tmp_path)
    plans = [PlanSpec(edits=(WidenSpec(edit="widen", layer=1),))]
    worker = worker_setup(spec, check_run(spec, find_trained))
    trial = TrialSpec(steps=1, examples=16)
    ranking = search_growth(spec, worker, parent.folder, plans, trial, tmp_path / "search")
    assert {one.name for one in ranking} == {"parent", "plan-0"}
    assert [one.error for one in ranking] == [None, None]
    assert [one.accuracy for one in ranking] == sorted((one.accuracy for one in ranking), reverse=True)
    by_name = {one.name: one for one in ranking}
    assert by_name["parent"].verdict is None
    assert [by_name[name].spending.calls for name in ("parent", "plan-0")] == [16, 24]
    assert len(read_topology(resolve_checkpoint(by_name["plan-0"].checkpoint)).nodes) == 3
