"""BIG-bench navigate on a real model: arms that are what their names say, rules that do not navigate, and the table."""

import json
from pathlib import Path

import pytest

from benchmarks.navigate_arms import ARMS, arm_spec, best_word, read_rows, rules, share_right, worked_apart, write_data
from benchmarks.navigate_evidence import said_yes, table
from neuromas.growth.controller import Controller
from neuromas.growth.schedule import check_schedule
from neuromas.rollout.prompt_text import PromptText
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.base import Example

ASKED = "If you follow these instructions, do you return to the starting point?\n{}\nAnswer True or False."
SIZES = {"single": [1], "scratch-3": [3], "scratch-5": [5], "scratch-7": [7], "grown": [3, 5, 7]}


def bigbench(folder: Path, count: int) -> Path:
    """Write as many questions of each answer, with turns and without, for training and tests."""
    folder.mkdir()
    for split, first in (("train", 1), ("test", 1 + count)):
        rows = []
        for number in range(first, first + count):
            rows += [
                (f"Take {number} steps. Turn around. Take {number} steps.", "True"),
                (f"Take {number} steps. Turn left. Take {number} steps.", "False"),
                (f"Always face forward. Take {number} steps left. Take {number} steps right.", "True"),
                (f"Always face forward. Take {number} steps left. Take {number} steps forward.", "False"),
            ]
        lines = [json.dumps({"question": ASKED.format(steps), "answer": answer}) for steps, answer in rows]
        (folder / f"navigate.{split}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_its_calls_and_all_have_as_many_rollouts(tmp_path: Path, arm: str) -> None:
    worked = write_data(bigbench(tmp_path / "data", 3), tmp_path)
    spec = parse_run_spec(arm_spec(arm, 0, worked))
    graphs = [spec.topology]
    if spec.growth is not None:
        assert sum(spec.growth.steps_per_level) == spec.training.steps
        graphs = list(check_schedule(Controller(spec.growth, (), spec.training.steps), spec.topology, {}))
    assert [len(graph.nodes) for graph in graphs] == SIZES[arm]


def test_worked_examples_are_of_every_kind_and_trained_on_by_nobody(tmp_path: Path) -> None:
    worked, train = worked_apart(read_rows(bigbench(tmp_path / "data", 3) / "navigate.train.jsonl"))
    assert [(row["answer"], "Turn" in row["question"]) for row in worked] == [
        ("Yes", True),
        ("No", True),
        ("Yes", False),
        ("No", False),
    ]
    assert len(train) == 8
    assert not [row for row in worked if row in train]


def test_an_untrained_node_reads_worked_examples_in_the_form_of_its_own_question(tmp_path: Path) -> None:
    spec = parse_run_spec(arm_spec("scratch-3", 0, write_data(bigbench(tmp_path / "data", 3), tmp_path)))
    text = PromptText(spec.prompt)
    question = "Take 1 step.\nDo you return to the starting point?"
    first, last = (
        text.write(spec.topology, node, Example("one", question, "No"), said, 4)
        for node, said in (("n1", []), ("n3", [("n2", "Yes")]))
    )
    assert first.endswith(f"\n\nTask:\n{question}")
    assert "Turn left. Take" in first
    assert "\nDo you return to the starting point?\n\nAnswer: No\n\n" in first
    assert last.removeprefix(first).strip().endswith("\nYes")


def test_rules_that_do_not_navigate_are_scored_on_the_questions_of_the_arms(tmp_path: Path) -> None:
    data = bigbench(tmp_path / "data", 8)
    write_data(data, tmp_path)
    rows = read_rows(data / "navigate.train.jsonl")
    assert best_word(rows) == "around"
    assert share_right(rows, "around") == 0.75
    always_no, by_word = rules(data, tmp_path).values()
    assert 0 < always_no < by_word < 1


def test_what_is_paid_for_tells_what_was_said() -> None:
    rows = [{"question": "", "answer": answer} for answer in ("Yes", "Yes", "No", "No")]
    assert said_yes([1, 0, 1, 1], rows) == 0.25
    assert said_yes([0, 1, 0, 0], rows) == 0.75


def test_a_file_of_another_task_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "navigate.train.jsonl"
    file.write_text('{"question": "I have two chairs. How many?", "answer": "2"}\n')
    with pytest.raises(ValueError, match="expected a question of BIG-bench navigate"):
        read_rows(file)


def test_the_table_says_what_rules_and_runs_said() -> None:
    run = {
        "arm": "single",
        "nodes": 1,
        "examples": 100,
        "untrained": 0.25,
        "untrained_sampled": 0.5,
        "rewards": [[0.25] * 6 + [0.75] * 6],
        "rollouts": 1152,
        "calls": 1152,
        "tokens": 9000,
        "seconds": 90.0,
    }
    runs = [
        run | {"seed": 1, "greedy": 0.5, "sampled": 0.5, "yes": 0.1},
        run | {"seed": 0, "greedy": 1.0, "sampled": 0.25, "yes": 0.0},
    ]
    titles, _, rule, row = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table(runs, {"No": 0.56}).splitlines()
    )
    assert rule[:4] == ["No", "-", "-", "56.0"]
    assert dict(zip(titles, row, strict=True)) == {
        "BIG-bench navigate": "one node",
        "nodes": "1",
        "seeds": "0, 1",
        "greedy": "75.0 (50.0 to 100.0)",
        "95 %": "68.6 to 80.5",
        "says Yes": "5.0 (0.0 to 10.0)",
        "sampled": "37.5 (25.0 to 50.0)",
        "untrained, greedy": "25.0 (25.0 to 25.0)",
        "untrained, sampled": "50.0 (50.0 to 50.0)",
        "reward, first 6 steps": "25.0 (25.0 to 25.0)",
        "last 6": "75.0 (75.0 to 75.0)",
        "rollouts": "1,152",
        "calls": "1,152",
        "tokens": "9,000",
        "minutes": "1.5",
    }
