"""A comparison with all arms that cost a graph's calls, trained for a few steps, and read again without training."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import neuromas as nm
from neuromas.journal.events import Event, RunEnded, StepDone
from neuromas.studies.arms import ARMS

NAMES = tuple(ARMS)[: tuple(ARMS).index("grown")]


@pytest.fixture(scope="module")
def spec(small_base: Path) -> nm.RunSpec:
    return nm.parse_run_spec(
        {
            "name": "small",
            "base": str(small_base),
            "topology": {"chain": 3},
            "task": {"type": "chain", "hops": 3},
            "training": {"steps": 3, "prompts_per_step": 4, "group_size": 4, "entropy": {"start": 0.1}},
            "evaluation": {"examples": 8},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )


@pytest.fixture(scope="module")
def found(spec: nm.RunSpec, tmp_path_factory: pytest.TempPathFactory) -> nm.Comparison:
    return nm.compare(spec, NAMES, tmp_path_factory.mktemp("comparison"), on_event=lambda run, event: None)


def test_every_arm_has_its_costs_and_a_paired_test(found: nm.Comparison) -> None:
    (group,) = found.document["groups"]
    arms = {arm["arm"]: arm for arm in group["arms"]}
    assert tuple(arms) == NAMES
    rollouts = 3 * 4 * 4
    assert {name: arm["calls"] for name, arm in arms.items()} == {
        "graph": 3 * rollouts,
        "untrained": 0,
        "call": 0,
        "single": 3 * rollouts,
        "vote": 3 * rollouts,
        "long": rollouts,
        "shared": 3 * rollouts,
        "refine": 3 * rollouts,
        "refine-untrained": 0,
        "debate": 3 * rollouts,
        "debate-untrained": 0,
        "in-turn": 3 * rollouts,
    }
    assert {name: arm["calls_per_answer"] for name, arm in arms.items()} == dict.fromkeys(NAMES, 3) | {
        "call": 1,
        "single": 1,
        "long": 1,
    }
    trained = {arm["trainable_parameters"] for arm in arms.values()}
    assert trained == {0, arms["graph"]["trainable_parameters"]}
    for name, arm in arms.items():
        assert name == "graph" or {"gain", "low", "high", "p_value"} <= arm["against"]["sampled"].keys()
        (run,) = arm["runs"]
        assert run["accuracy"]["sampled"]["examples"] == 8
        assert (arm["seconds"] > 0) == (arm["steps"] > 0)


def test_in_turn_moves_one_adapter_at_a_time(found: nm.Comparison) -> None:
    folder = found.folder / "small-in-turn-s0"
    stages = [json.loads(line) for line in (folder / "stages.jsonl").read_text().splitlines()]
    assert [(stage["name"], stage["steps"]) for stage in stages] == [("turn-0", 1), ("turn-1", 1), ("turn-2", 1)]
    weights = [load_file(folder / "checkpoints" / stage["checkpoint"] / "adapters.safetensors") for stage in stages]
    updates = [
        {name.partition("/")[0] for name in found if name.endswith("/B") and found[name].any()} for found in weights
    ]
    assert updates == [{"n1"}, {"n1", "n2"}, {"n1", "n2", "n3"}]
    for turn, (before, after) in enumerate(pairwise(weights), start=1):
        moved = {name.partition("/")[0] for name in after if not torch.equal(before[name], after[name])}
        assert moved == {f"n{turn + 1}"}


def test_the_page_has_every_arm(found: nm.Comparison) -> None:
    page = (found.folder / "report.html").read_text()
    assert all(ARMS[name].title in page for name in NAMES)
    table, path = str(found).rsplit("\n", 1)
    assert path == str(found.folder / "report.html")
    assert max(map(len, table.splitlines())) <= 80
    assert {word for name in NAMES for word in ARMS[name].title.split()} <= set(table.split())  # titles are folded


def test_finished_runs_are_not_trained_again(spec: nm.RunSpec, found: nm.Comparison) -> None:
    told: list[tuple[str, Event]] = []
    again = nm.compare(spec, NAMES, found.folder, on_event=lambda run, event: told.append((run, event)))
    assert again.document == found.document
    assert not [event for _, event in told if isinstance(event, StepDone)]
    assert len([event for _, event in told if isinstance(event, RunEnded)]) == 7
