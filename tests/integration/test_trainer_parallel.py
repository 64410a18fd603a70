"""Data-parallel processes are one process that sees all groups, however unequal their shares of the work."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from adapter_families import GROUPS, mixed
from forked import run_together
from parallel_stage import run_cases, take_part
from safetensors.torch import load_file

from neuromas.adapters.families.data_start import DataStart
from neuromas.checkpoints.location import FOLDER
from neuromas.losses.registry import LOSSES

FROM_THE_BASE = {
    name: spec for name, spec in GROUPS.items() if not (isinstance(spec, DataStart) and spec.looks_at_rollouts)
}
SOLVED = {"learns": [1, 3]}  # of six prompts; with two processes both belong to the second
CASES: dict[str, dict[str, Any]] = {
    "defaults": {"training": {"steps": 3}},
    "one_group_learns": {"learns": [1]},
    "two_groups_learn": {"learns": [0, 3]},
    "two_groups_of_one_process_learn": SOLVED,
    "no_group_learns": {"training": {"steps": 6}, "learns": []},
    "a_process_has_no_usable_call": {"training": {"max_failed_fraction": 0.5}, "learns": [0, 2], "fails": [1, 3, 5]},
    "refill": SOLVED | {"training": {"refill_rounds": 1}},
    "kl_entropy_trainer": {
        "training": {
            "kl_weight": 0.05,
            "entropy": {"start": 0.02},
            "old_logprobs": "trainer",
            "tokens_per_forward": 120,
        }
    },
    "reinforce_iterations": {"training": {"estimator": "reinforce", "num_iterations": 2}},
    "counterfactual": {"training": {"steps": 3, "credit": "counterfactual"}, "learns": [1, 3, 4]},
    "counterfactual_failures": {
        "training": {"credit": "counterfactual", "estimator": "grpo", "max_failed_fraction": 0.5},
        "learns": [0, 2],
        "fails": [1, 3, 5],
    },
    "start_from_inputs": {"adapter": {"rank": 2, "start": "eva"}},
    "start_from_gradient": {"adapter": {"type": "loft", "rank": 4, "support": "gradient", "batches": 2}},
    "budget": {
        "adapter": {"type": "adamss", "basis": 8, "segments": 4, "budget": 0.3},
        "training": {"steps": 5, "estimator": "reinforce"},
    },
}
# What a base in shares asks for: passes of all learners together, whatever each has to compute.
SHARDED = {
    "passes_of_one_process": {
        "training": {"steps": 3, "tokens_per_forward": 40, "overlap": 1, "gradient_checkpointing": True},
        "learns": [1, 3, 5],
    },
    "every_family": {"sections": mixed(FROM_THE_BASE), "training": {"estimator": "reinforce"}},
    "checked_and_resumed": {"training": {"steps": 3}, "checks": True, "resumes": True},
}
# With three processes one has no group to learn from, and the others one each: normalizers are sums over all.
OF_THREE = CASES | {loss: SOLVED | {"training": {"loss": loss, "steps": 1}} for loss in LOSSES}
# With two it is looked at how groups fall to processes, which the other settings know nothing of.
SHARED = ("defaults", "one_group_learns", "two_groups_learn", "two_groups_of_one_process_learn", "no_group_learns")
SHARED += ("a_process_has_no_usable_call", "refill")
SHARDED |= {name: CASES[name] for name in (*SHARED, "kl_entropy_trainer")}
ALL = OF_THREE | SHARDED
WORLDS = {"2": {name: CASES[name] for name in SHARED}, "3": OF_THREE, "2 with a base in shares": SHARDED}
PAIRS = [(world, name) for world, cases in WORLDS.items() for name in cases]
KEPT = {"one_group_learns": 1, "two_groups_learn": 2, "two_groups_of_one_process_learn": 2, "no_group_learns": 0}


def launch(out: Path, world: str) -> Path:
    """Run all cases of a world in so many processes; returns where they wrote."""
    out.mkdir()
    processes = int(world[0])
    run_together(take_part, processes, out, WORLDS[world], processes, "shares" in world)
    return out


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, groups without a gradient kept."""
    kept = {
        name: case | {"training": {"drop_zero_variance": "refill_rounds" in (t := case.get("training", {})), **t}}
        for name, case in ALL.items()
    }
    out = tmp_path_factory.mktemp("parallel") / "one"
    run_cases(out, kept)
    return out


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where so many processes wrote; they are started once."""
    folder = tmp_path_factory.mktemp("parallel")
    return cache(lambda world: launch(folder / world.replace(" ", "-"), world))


@pytest.fixture
def several(launched: Callable[[str], Path], world: str) -> Path:
    return launched(world)


def furthest(one: Path, other: Path) -> float:
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    return max(float((first[key] - second[key]).abs().max()) for key in first)


def furthest_weight(one: Path, other: Path) -> float:
    """Return how far weights are apart, leaving out those whose gradients are hardly more than their rounding.

    Adam moves a number by about the learning rate however small its gradients are, and these are known to 2e-8. A root
    of the second moment of 1e-7 belongs after a step or two to gradients of some 2e-6.
    """
    first, second = load_file(one / "adapters.safetensors"), load_file(other / "adapters.safetensors")
    assert first.keys() == second.keys()
    seen = load_file(sorted((one / FOLDER).glob("main-*/optimizer.safetensors"))[-1])
    furthest_one, left_out, all_of_them = 0.0, 0, 0
    for key in first:
        apart = (first[key] - second[key]).abs()
        if (squares := seen.get(f"{key}/exp_avg_sq")) is not None:
            is_rounding = (squares > 0) & (squares.sqrt() < 1e-7)
            left_out, all_of_them = left_out + int(is_rounding.sum()), all_of_them + is_rounding.numel()
            apart = apart[~is_rounding]
        furthest_one = max(furthest_one, float(apart.max()) if apart.numel() else 0.0)
    assert left_out <= all_of_them / 20
    return furthest_one


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("world", "name"), PAIRS)
def test_processes_are_one(one: Path, several: Path, name: str) -> None:
    assert furthest(one / name / "gradients.safetensors", several / name / "gradients.safetensors") < 1e-6
    assert furthest_weight(one / name, several / name) < 1e-4
    first, second = (json.loads((folder / name / "metrics.json").read_text()) for folder in (one, several))
    apart = ["time/", "parity/", "trl/", "train/packed_fraction"]  # measured, or of each process's own buckets
    if "learns" in ALL[name]:  # means over the calls that are looked at, which one process does not drop
        apart += ["train/entropy", "train/clip_fraction"]
    if name == "refill":  # by which of the further examples, differs
        apart += ["rollout/length_mean"]
    same = [key for key in first[0] if "/" in key and not key.startswith(tuple(apart))]
    assert {"rollout/calls", "train/groups_kept", "train/loss", "train/grad_norm/n1"} <= set(same)
    for key in same:
        assert [step.get(key) for step in second] == pytest.approx([step.get(key) for step in first], abs=2e-5), key
    if name in KEPT:
        assert {step["train/groups_kept"] for step in second} == {KEPT[name]}
    assert (max(step["train/grad_norm/n1"] for step in second) > 1e-3) == (name != "no_group_learns")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("world", "name"), PAIRS)
def test_processes_warn_as_one_and_once(one: Path, several: Path, name: str) -> None:
    first, second = (json.loads((folder / name / "notices.json").read_text()) for folder in (one, several))
    assert second == first
    told = [("gradient", 5)] if name == "no_group_learns" else []
    assert [(source, step) for source, step, _ in second] == told


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("world", "name"), [pair for pair in PAIRS if pair[1] in ("defaults", "refill")])
def test_processes_share_the_examples_among_them(one: Path, several: Path, name: str) -> None:
    shares = [json.loads(file.read_text()) for file in sorted((several / name).glob("examples-*.json"))]
    (whole,) = [json.loads(file.read_text()) for file in (one / name).glob("examples-*.json")]
    assert len(shares) > 1
    assert all(shares)
    assert sorted(example for share in shares for example in share) == sorted(whole)
    assert len(set(whole)) == len(whole)
