"""The study of starts: arms that can run, rates that end, and a table that says what the runs said."""

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks.start_arms import STUDIES, arm_spec, next_rate
from benchmarks.starts_evidence import table
from benchmarks.sweep import RECORDS_FILE, Study, rewards, run_missing
from neuromas.base.linears import linear_shapes
from neuromas.base.resolve import resolve_base
from neuromas.spec.parse import parse_run_spec

ARMS = [(study, arm) for study, about in STUDIES.items() for arm in about.arms]


@pytest.mark.parametrize(("study", "arm"), ARMS)
def test_every_arm_is_a_spec(study: str, arm: str) -> None:
    spec = parse_run_spec(json.loads(json.dumps(arm_spec(study, arm, 1e-2, 0))))
    assert spec.training.steps == sum(STUDIES[study].stages)
    assert len(spec.topology.nodes) == 3
    if spec.growth is not None:
        assert spec.growth.levels == (3, 4)
    shapes = linear_shapes(resolve_base("tiny"), spec.adapter.targets)
    assert list(spec.adapter.faults(shapes)) == []


def test_all_rates_of_an_arm_are_tried_once() -> None:
    assert [next_rate("lora", "eva", tried) for tried in ({}, {1e-2: 0.1}, {1e-2: 0.1, 3e-2: 0.2})] == [
        1e-2,
        3e-2,
        None,
    ]


def record(rate: float, seed: int, validation: float, low: float) -> dict[str, object]:
    """A run whose grown stage is rewarded ``low`` until its twentieth step and 1 from then on."""
    return {
        "study": "grown",
        "arm": "unilora, copy",
        "rate": rate,
        "seed": seed,
        "trained": 256,
        "validation": validation,
        "sampled": 0.5,
        "greedy": 1.0,
        "rewards": [[0.9] * 40, [low] * 19 + [1.0] * 21],
    }


def test_the_table_shows_the_rewards_of_the_last_stage_at_the_rate_that_the_first_seed_chose() -> None:
    found = [record(0.1, 0, 0.9, 0.25), record(0.3, 0, 0.8, 0.0), record(0.1, 1, 0.1, 0.75)]
    titles, _, row = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table(found, "grown").splitlines())
    assert dict(zip(titles, row, strict=True)) == {
        "start": "unilora, copy",
        "trained numbers, all nodes": "256",
        "rate": "0.1",
        "seeds": "0, 1",
        "step 1": "50.0 (25.0 to 75.0)",
        "steps 6 to 10": "50.0 (25.0 to 75.0)",
        "steps 16 to 20": "60.0 (40.0 to 80.0)",
        "steps 36 to 40": "100.0 (100.0 to 100.0)",
        "sampled": "50.0 (50.0 to 50.0)",
        "greedy": "100.0 (100.0 to 100.0)",
    }
    assert "| 0.1, sweep goes on | 0 |" in table(found[:1], "grown")


def test_rewards_are_read_by_stage(tmp_path: Path) -> None:
    rows = [
        {"stage": 0, "step": 1, "rollout/reward_mean": 0.25},
        {"stage": 0, "step": 1, "evaluation/accuracy": 1.0},
        {"stage": 0, "step": 2, "rollout/reward_mean": 1 / 3},
        {"stage": 1, "step": 3, "rollout/reward_mean": 0.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rewards(tmp_path / "metrics.jsonl") == [[0.25, 0.3333], [0.0]]


def test_what_has_finished_is_not_run_again(tmp_path: Path) -> None:
    def refuse(arm: str, rate: float, seed: int) -> dict[str, object]:
        raise AssertionError(f"ran {arm} at {rate} with seed {seed}")

    found = [record(0.1, 0, 0.9, 0.25), record(0.3, 0, 0.8, 0.0), record(0.1, 1, 0.1, 0.75)]
    (tmp_path / RECORDS_FILE).write_text("".join(json.dumps(row) + "\n" for row in found))
    study = Study("grown", ("unilora, copy",), refuse, partial(next_rate, "grown"))
    assert run_missing([study], (0, 1), tmp_path) == 0
    with pytest.raises(AssertionError, match=r"at 0\.1 with seed 2"):
        run_missing([study], (0, 1, 2), tmp_path)
