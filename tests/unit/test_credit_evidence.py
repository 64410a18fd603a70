"""The study of credit: arms that take equally many calls, and a table that says what the runs said."""

from __future__ import annotations

import json

import pytest

from benchmarks.credit import ARMS, RATE, STUDIES, arm_spec, table
from neuromas.spec.credit import calls_per_example
from neuromas.spec.parse import parse_run_spec


@pytest.mark.parametrize("study", list(STUDIES))
def test_the_arms_of_a_study_take_the_same_calls(study: str) -> None:
    calls = {}
    for arm in ARMS:
        spec = parse_run_spec(json.loads(json.dumps(arm_spec(study, arm, RATE, 0))))
        each = sum(calls_per_example(spec.training, spec.topology).values())
        calls[arm] = spec.training.steps * spec.training.prompts_per_step * each
    assert set(calls.values()) == {{"chain2": 10_080, "chain3": 19_440, "chain5": 46_800}[study]}


def record(arm: str, seed: int, rewards: list[float], sampled: float) -> dict[str, object]:
    figures = {"validation": 0.5, "greedy": 1.0, "sampled": sampled, "calls": 9000, "rewards": [rewards]}
    return {"study": "chain2", "arm": arm, "rate": RATE, "seed": seed, **figures}


def test_the_table_shows_rewards_by_calls_and_the_difference_seed_by_seed() -> None:
    found = [
        record("counterfactual", 0, [0.0, 0.1, 0.2, 0.3], 0.9),
        record("counterfactual", 1, [0.2, 0.3, 0.4, 0.5], 0.7),
        record("shared, more steps", 0, [0.0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8], 0.6),
    ]
    titles, _, first, second, _, difference = table(found, "chain2").splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in (titles, first, second)]
    assert dict(zip(cells[0], cells[1], strict=True)) == {
        "credit": "counterfactual",
        "calls": "9,000",
        "seeds": "0, 1",
        "reward, calls 0 to 25 %": "10.0 (0.0 to 20.0)",
        "reward, calls 25 to 50 %": "20.0 (10.0 to 30.0)",
        "reward, calls 50 to 75 %": "30.0 (20.0 to 40.0)",
        "reward, calls 75 to 100 %": "40.0 (30.0 to 50.0)",
        "sampled": "80.0 (70.0 to 90.0)",
        "greedy": "100.0 (100.0 to 100.0)",
    }
    assert cells[2][3:7] == ["10.0", "30.0", "50.0", "70.0"]
    assert difference == "Counterfactual less shared, more steps, sampled: +30.0 points (+30.0)."
