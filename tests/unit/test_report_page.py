"""The report of a run folder, written by the run's own writer."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from neuromas.errors import SpecError
from neuromas.journal.events import Evaluated, Event, Notice, RolloutsSampled, StageEnded, StageStarted, StepDone
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.report.data import COMPARISON_FILE, RunData
from neuromas.report.page import render, write_report
from neuromas.report.script import script
from neuromas.rollout.record import NodeCall, Provenance, Rollout
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import chain

EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """Collects the tags, the text, what is drawn from data, and what the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.drawn = ""
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append(dict(attrs).get("type") or "run")
        self.loads += [value or "" for name, value in attrs if name in ("src", "xlink:href") or tag == "link"]

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:
            self.text += data
        elif self.scripts and self.scripts[-1] == "application/json":
            self.drawn += data


def read(folder: Path) -> Reader:
    reader = Reader()
    reader.feed(write_report(folder).read_text(encoding="utf-8"))
    return reader


def rollout(text: str, step: int) -> Rollout:
    example = ChainTask(hops=2).example("train", step)
    calls = tuple(NodeCall(node, None, (1,), (2,), (-0.1,), "stop", text) for node in ("n1", "n2"))
    return Rollout("hash", Provenance("run", 0, step), example, 0, 0, calls, text, 0.0)


def stage(index: int, nodes: int, steps: int) -> list[Event]:
    begin = StageStarted(
        stage=index,
        name=f"stage-{index}",
        topology=chain(nodes).to_document(),
        level=nodes,
        steps=steps,
        trainable_parameters=10,
    )
    metrics = {"rollout/reward_mean": 0.5, "train/entropy/n1": 1.0, "time/step_s": 0.5, "time/rollout_s": 0.3}
    done: list[Event] = [StepDone(stage=index, step=step, metrics=metrics) for step in range(1, steps + 1)]
    found = Evaluated(stage=index, step=steps, level=nodes, mode="greedy", correct=48, examples=64)
    return [begin, *done, found, StageEnded(stage=index, name=f"stage-{index}", steps=steps, reason="threshold")]


def make_run(path: Path, events: list[Event]) -> Path:
    RunFolder(path).create({"name": "tested", "seed": 7, "base": "tiny", "task": {"type": "chain", "hops": 3}})
    writer = RunWriter(path)
    for event in events:
        writer(event)
    writer.close()
    return path


def test_warnings_of_the_run_are_read_with_its_figures(tmp_path: Path) -> None:
    notices = [Notice(message="stage 0, step 5: no gradient", severity="warning"), Notice(message="3 -> 7 nodes")]
    page = read(make_run(tmp_path / "run", [*stage(0, 2, 3), *notices, notices[0]]))
    assert page.text.count("stage 0, step 5: no gradient") == 1
    assert "3 -> 7 nodes" not in page.text


def test_report_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "run", stage(0, 2, 3)))
    assert page.loads == []
    assert set(page.scripts) == {"application/json", "run"}


def test_one_script_may_run_and_it_is_the_reports_own(tmp_path: Path) -> None:
    sampled = RolloutsSampled(stage=0, step=1, rollouts=(rollout(EVIL, 1),))
    html = write_report(make_run(tmp_path / "run", [*stage(0, 2, 3), sampled])).read_text(encoding="utf-8")
    allowed = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    assert f"default-src &#x27;none&#x27;; script-src &#x27;sha256-{allowed}&#x27;" in html
    assert html.count("<script>") == 1
    assert f"<script>{script()}</script></body>" in html


def test_what_models_write_stays_text(tmp_path: Path) -> None:
    sampled = RolloutsSampled(stage=0, step=1, rollouts=(rollout(EVIL, 1),))
    page = read(make_run(tmp_path / "run", [*stage(0, 2, 3), sampled]))
    assert page.scripts.count("run") == 1
    assert EVIL not in page.text  # what models write is data, in which no element can begin or end
    assert page.drawn.count(EVIL.replace("<", "\\u003c")) == 3


def test_report_of_a_run_that_grew_shows_its_stages(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "run", [*stage(0, 2, 3), *stage(1, 3, 4)]))
    assert "2 nodes, level 2" in page.drawn
    assert "3 nodes, grown from 2, on one frozen base" in page.text
    assert "trained jointly for 7 steps" in page.text
    assert "48 of 64" in page.text


def test_steps_count_over_all_stages(tmp_path: Path) -> None:
    data = RunData.read(make_run(tmp_path / "run", [*stage(0, 2, 3), *stage(1, 3, 2)]))
    assert [step for step, _ in data.curve("rollout/reward_mean")] == [1, 2, 3, 4, 5]


def test_report_of_a_run_that_has_only_begun(tmp_path: Path) -> None:
    page = read(make_run(tmp_path / "run", []))
    assert "tested" in page.text


def test_report_of_a_comparison(tmp_path: Path) -> None:
    make_run(tmp_path / "tested", stage(0, 2, 3))
    figure = {"correct": 48, "examples": 64, "value": 0.75, "low": 0.63, "high": 0.84}
    runs = [
        {"seed": seed, "folder": "tested", "accuracy": {"greedy": figure}, "seconds": 5, "steps": 3} for seed in (0, 1)
    ]
    arms = [{"arm": "graph", "title": "trained graph", "note": "jointly", "calls": 9, "steps": 3, "runs": runs}]
    group = {"title": "Chains", "task": {"type": "chain"}, "seeds": [0, 1], "arms": arms}
    (tmp_path / COMPARISON_FILE).write_text(json.dumps({"name": "both", "groups": [group]}))
    page = read(tmp_path)
    assert "75.0 %75.0 % to 75.0 %" in page.text
    assert "mean and range over the seeds 0, 1" in page.text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no spec"):
        write_report(tmp_path)


def test_page_is_the_same_for_the_same_data(tmp_path: Path) -> None:
    data = RunData.read(make_run(tmp_path / "run", stage(0, 2, 3)))
    assert render(data) == render(data)


def test_the_outcome_the_task_and_the_untrained_graph_are_shown(tmp_path: Path) -> None:
    folder = make_run(
        tmp_path / "run", [*stage(0, 2, 4), RolloutsSampled(stage=0, step=1, rollouts=(rollout("A= 1", 1),))]
    )
    figure = {"correct": 48, "examples": 64, "value": 0.75, "low": 0.63, "high": 0.84}
    before = figure | {"correct": 16, "value": 0.25, "low": 0.16, "high": 0.37}
    accuracy = {"greedy": figure, "sampled": figure, "untrained": before, "untrained_sampled": before}
    RunFolder(folder).write_json("result.json", {"accuracy": accuracy})
    page = read(folder)
    assert "The graph has learned: 75.0 % (95 % interval 63.0 % to 84.0 %, 64 questions) right" in page.text
    assert "untrained, sampled, 25.0 %" in page.drawn
    example = ChainTask(hops=2).example("train", 1)
    task = page.text.partition("The task")[2]
    assert task.index(example.prompt) < task.index(example.answer)


def test_percentages_have_one_form(tmp_path: Path) -> None:
    text = read(make_run(tmp_path / "run", stage(0, 2, 4))).text.partition("NeuroMAS run")[2]
    assert re.findall(r"\d%", text) == []
    assert "75.0 %" in text


def test_the_report_names_the_adapters_of_every_kind(tmp_path: Path) -> None:
    group = {"nodes": ["n1"], "adapter": {"type": "ssf", "channels": 3}}
    document = {"name": "mixed", "adapter": {"type": "lora", "rank": 2}, "node_groups": {"readers": group}}
    RunFolder(tmp_path).create({**document, "task": {"type": "chain", "hops": 3}})
    said = "each with a LoRA adapter of rank 2, but those of group readers with an SSF adapter of channels 3, trained"
    assert said in re.sub(r"\s+", " ", read(tmp_path).text)


def test_a_graph_too_large_to_look_at_is_drawn_by_layers(tmp_path: Path) -> None:
    begun = StageStarted(
        stage=0, name="big", topology=chain(1000).to_document(), level=2, steps=1, trainable_parameters=1
    )
    (drawn,) = re.findall(r'\{"topology":.*?"weights":\{\}\}', read(make_run(tmp_path / "run", [begun])).drawn)
    assert len(json.loads(drawn)["topology"]["nodes"]) <= 41
    assert json.loads(drawn)["label"] == "graph of 1000 nodes, output n1000"


def test_an_analysis_is_told_by_node_and_edge_and_makes_edges_thick(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", stage(0, 2, 4))
    assert "What each message is worth" not in read(folder).text
    effect = {"gain": -0.25, "low": -0.5, "high": 0.0, "p_value": 0.0625, "wins": 0, "losses": 4}
    entry = {"change": "n1 -> n2", "accuracy": 0.5, "effect": effect}
    nodes = [{"node": "n1", "changes": {"cut": entry | {"change": "n1"}}}, {"node": "n2", "changes": {}}]
    RunFolder(folder).write_json("analysis.json", {"examples": 16, "nodes": nodes, "edges": [entry]})
    assert "What each message is worth" in read(folder).text
    assert '{"examples":16,"nodes":[{"node":"n1"' in read(folder).drawn
    assert '"weights":{"n1 -> n2":0.25}' in write_report(folder).read_text(encoding="utf-8")


def test_a_diagnosis_is_in_the_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", stage(0, 2, 4))
    assert "What training can still move" not in read(folder).text
    RunFolder(folder).write_json("diagnosis.json", {"questions": 16, "adapters": [{"adapter": EVIL}]})
    reader = read(folder)
    assert "What training can still move" in reader.text
    assert '{"questions":16,"adapters":[' in reader.drawn
    assert EVIL not in write_report(folder).read_text(encoding="utf-8")
