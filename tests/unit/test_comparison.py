import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neuromas.display.runs import RunsDisplay
from neuromas.journal.events import Evaluated, Notice, RunEnded, RunStarted, StageStarted, StepDone
from neuromas.report.numbers import chance
from neuromas.studies.compare import make_group, write_comparison
from neuromas.studies.demo import example
from neuromas.studies.table import comparison_text
from neuromas.topology.builders import chain


def result(greedy: float, calls: int) -> dict[str, Any]:
    figure = {"correct": 64 * greedy, "examples": 64, "value": greedy, "low": 0.0, "high": 1.0}
    low = figure | {"value": 0.01}
    return {
        "accuracy": {"greedy": figure, "sampled": figure, "untrained": low, "untrained_sampled": low},
        "spending": {"rollouts": 100, "calls": calls, "tokens": 1000},
        "seconds": {"total": 5.0},
        "topology": chain(5).to_document(),
        "trainable_parameters": 14720,
        "steps": 80,
    }


def write(tmp_path: Path, seeds: tuple[int, ...]) -> dict[str, Any]:
    group = make_group(example("quickstart"), ("graph", "untrained"), seeds, "Chains")
    results = {f"quickstart-graph-s{seed}": result(0.9 + seed / 20, 500) for seed in seeds}
    return write_comparison(tmp_path, "tested", [group], results)


def test_untrained_arm_is_read_off_the_trained_run(tmp_path: Path) -> None:
    trained, untrained = write(tmp_path, (0,))["groups"][0]["arms"]
    assert trained["runs"][0]["accuracy"]["sampled"]["value"] == 0.9
    assert untrained["runs"][0]["accuracy"]["sampled"]["value"] == 0.01
    assert (trained["calls"], untrained["calls"], untrained["trainable_parameters"]) == (500, 0, 0)


def test_arms_are_paired_with_the_first_by_question_over_the_seeds(tmp_path: Path) -> None:
    group = make_group(example("quickstart"), ("graph", "single", "vote", "call"), (0, 1))
    figures = {
        "graph": {"greedy": [1, 1, 1, 1], "sampled": [1, 1, 1, 1]},
        "single": {"greedy": [1, 0, 0, 0], "sampled": [0, 0, 0, 0], "voted": [1, 1, 0, 0], "untrained": [0, 0, 0, 0]},
    }
    results = {}
    for name, rewards in figures.items():
        for seed in (0, 1):
            folder = tmp_path / f"quickstart-{name}-s{seed}"
            folder.mkdir()
            shown = rewards if seed == 0 else rewards | {"sampled": rewards["sampled"][::-1]}
            (folder / "rewards.json").write_text(json.dumps(shown))
            (folder / "spec.resolved.json").write_text(group.spec.model_dump_json())
            results[folder.name] = result(0.5, 500)
    results = {
        name: found | {"topology": chain(1 if "single" in name else 5).to_document()} for name, found in results.items()
    }
    for found in results.values():
        found["accuracy"]["voted"] = found["accuracy"]["greedy"]
    graph, single, vote, call = write_comparison(tmp_path, "tested", [group], results)["groups"][0]["arms"]
    assert graph["against"] == {}
    assert single["against"]["greedy"]["gain"] == -0.75
    assert (single["against"]["greedy"]["wins"], single["against"]["greedy"]["losses"]) == (0, 3)
    assert single["against"]["greedy"]["p_value"] == 0.25  # McNemar: 2 * (1/2)^3
    assert vote["against"].keys() == {"sampled"}
    assert vote["against"]["sampled"]["gain"] == -0.5
    assert call["against"]["greedy"]["gain"] == -1
    assert [arm["calls_per_answer"] for arm in (graph, single, vote, call)] == [5, 1, 5, 1]
    assert [arm["calls"] for arm in (graph, single, vote, call)] == [500, 500, 500, 0]
    assert "-50.0, 0.5" in comparison_text({"groups": [{"title": "t", "seeds": [0, 1], "arms": [graph, vote]}]}, 140)


def test_comparison_leaves_a_document_and_a_page(tmp_path: Path) -> None:
    document = write(tmp_path, (0,))
    assert json.loads((tmp_path / "comparison.json").read_text()) == document
    assert "trained graph" in (tmp_path / "report.html").read_text()


def test_table_gives_mean_and_range_over_seeds(tmp_path: Path) -> None:
    text = comparison_text(write(tmp_path, (0, 2)), width=140)
    assert "Chains, seeds 0, 2, 64 test questions" in text
    assert "95.0 % (90.0 to 100.0)" in text


def test_table_fits_a_terminal_of_80_columns(tmp_path: Path) -> None:
    document = write(tmp_path, (0,))
    document["groups"][0]["arms"][1]["against"] = {"sampled": {"gain": -0.988, "p_value": 3.2e-152}}
    text = comparison_text(document)
    assert max(map(len, text.splitlines())) <= 80
    row = next(line.split() for line in text.splitlines() if "<1e-6" in line)
    assert row[row.index("-98.8,") :][:2] == ["-98.8,", "<1e-6"]
    assert "…" not in text, "no figure is cut"


@pytest.mark.parametrize(("p_value", "text"), [(1.0, "1"), (0.0132, "0.013"), (1e-6, "1e-06"), (9e-7, "<1e-6")])
def test_p_values_are_not_more_exact_than_they_mean(p_value: float, text: str) -> None:
    assert chance(p_value) == text


def test_display_tells_a_log_what_happens() -> None:
    console = Console(width=120, record=True, force_terminal=False)
    with RunsDisplay(console, {"job": ("trained graph", 2)}) as display:
        display("job", RunStarted(name="job", spec_hash="", topology_hash=""))
        topology = chain(3).to_document()
        display(
            "job",
            StageStarted(stage=0, name="s", topology=topology, level=3, steps=2, trainable_parameters=1),
        )
        display("job", StepDone(stage=0, step=1, metrics={"rollout/reward_mean": 0.25, "time/step_s": 0.5}))
        display("job", StepDone(stage=0, step=2, metrics={"rollout/reward_mean": 0.25, "time/step_s": 0.5}))
        display("job", Evaluated(stage=0, step=2, level=3, mode="greedy", correct=48, examples=64))
        display("job", RunEnded(status="succeeded"))
    lines = console.export_text().splitlines()
    assert lines[0].endswith("trained graph: starting, step 0/2")
    assert lines[-1].endswith("trained graph: 3 nodes, level 3, step 2/2, reward 0.25, greedy 75.0 %")


def test_warnings_are_broken_between_words_on_a_terminal() -> None:
    console = Console(width=60, record=True, force_terminal=True, soft_wrap=True, file=StringIO())
    with RunsDisplay(console, {"job": ("trained graph", 2)}) as display:
        display("job", Notice(message="a word " * 30, severity="warning"))
    told = [line for line in console.export_text().splitlines() if "word" in line]
    assert len(told) > 3
    assert all(len(line) <= 60 for line in told)
