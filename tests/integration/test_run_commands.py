"""The commands around one small run: train, eval, grow, export, report. In one process: imports are paid once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neuromas.adapters.export import read_peft_folder
from neuromas.cli.main import main
from neuromas.journal import lines as journal
from neuromas.topology.document import topology_from_document

SPEC = """
name = "small"
topology = { chain = 2 }
task = { type = "chain", hops = 2 }
training = { steps = 2, prompts_per_step = 2, group_size = 4 }
evaluation = { examples = 8 }
engine = { type = "transformers" }
runtime = { type = "local" }
tracking = { rollouts_every = 1, rollouts_per_sample = 1 }
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    (out / "small.toml").write_text(SPEC)
    assert main(["train", str(out / "small.toml"), "--out", str(out)]) == 0
    return out


def document_of(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_the_folder_holds_everything_that_happened(runs: Path) -> None:
    folder = runs / "small"
    names = {path.name for path in folder.iterdir()}
    assert {
        "spec.resolved.json",
        "metrics.jsonl",
        "rollouts.jsonl",
        "events.jsonl",
        "stages.jsonl",
        "checkpoints",
        "result.json",
        "report.html",
    } <= names
    assert "run.lock" not in names
    assert [line["step"] for line in journal.read(folder / "metrics.jsonl")] == [1, 2]
    assert [line["step"] for line in journal.read(folder / "rollouts.jsonl")] == [1, 2]
    types = [line["type"] for line in journal.read(folder / "events.jsonl")]
    assert types[0] == "run_started"
    assert types[-1] == "run_ended"
    assert types.index("stage_started") < types.index("checkpoint") < types.index("stage_ended")


def test_the_result_says_what_was_spent_and_found(runs: Path) -> None:
    result = json.loads((runs / "small" / "result.json").read_text())
    assert result["status"] == "succeeded"
    assert (result["steps"], result["seed"], result["adapters"]) == (2, 0, 2)
    assert result["spending"]["rollouts"] == 2 * 8
    assert result["spending"]["calls"] == 2 * 16
    for mode in ("greedy", "sampled", "untrained", "untrained_sampled"):
        figure = result["accuracy"][mode]
        assert figure["examples"] == 8
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    assert [role["node"] for role in result["roles"]] == ["n1", "n2"]
    assert result["topology_hash"] == topology_from_document(result["topology"]).content_hash
    assert result["versions"]["torch"] == torch.__version__.split("+")[0] or result["versions"]["torch"]
    assert set(result["seconds"]) == {"start_up", "train", "evaluation", "total"}


def test_eval_measures_the_checkpoint_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(runs / "small"), "--sampled", "--json"]) == 0
    found = document_of(capsys)
    result = json.loads((runs / "small" / "result.json").read_text())
    assert found["accuracy"]["greedy"] == result["accuracy"]["greedy"]
    assert found["accuracy"]["sampled"]["examples"] == 8


def test_export_writes_one_stock_adapter_per_node(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "exported"
    assert main(["export", str(runs / "small"), "--out", str(out)]) == 0
    assert sorted(path.name for path in (out / "adapters").iterdir()) == ["n1", "n2"]
    weights = load_file(runs / "small" / "checkpoints" / "stage-0-000002" / "adapters.safetensors")
    lora = read_peft_folder(out / "adapters" / "n2")
    path = "model.layers.0.self_attn.q_proj"
    a, b = lora.modules[path]
    assert torch.equal(torch.from_numpy(a), weights[f"n2/{path}/A"])
    assert torch.equal(torch.from_numpy(b), weights[f"n2/{path}/B"])
    assert topology_from_document(json.loads((out / "topology.json").read_text())).order == ("n1", "n2")
    assert "adapters/n2" in (out / "README.md").read_text()
    assert main(["export", str(runs / "small"), "--out", str(out)]) == 2


def test_an_export_that_was_killed_is_made_again(runs: Path, tmp_path: Path) -> None:
    killed = (
        "import os, signal, sys; from neuromas.cli.main import main\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('exported/topology.json'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
        "main(sys.argv[1:])\n"
    )
    words = ["export", str(runs / "small"), "--out", str(tmp_path / "exported")]
    assert subprocess.run([sys.executable, "-c", killed, *words], check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "exported" / "adapters" / "n1" / "adapter_config.json").is_file()
    assert main(words) == 0
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {"README.md", "adapters", "topology.json"}


def test_grow_trains_a_child_with_its_lineage(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--append", "1", "--steps", "1", "--set", "task.hops=3", "--out", str(runs), "--json"]
    assert main(["grow", str(runs / "small"), *arguments]) == 0
    child = document_of(capsys)
    assert child["name"] == "small-grown"
    assert [node["id"] for node in child["topology"]["nodes"]][:2] == ["n1", "n2"]
    assert len(child["topology"]["nodes"]) == 3
    (descent,) = child["lineage"]
    assert descent["parent"].endswith("small/checkpoints/stage-0-000002")
    assert descent["mapping"] == {"n1": "n1", "n2": "n2"}
    # The parent is what it was.
    assert len(json.loads((runs / "small" / "spec.resolved.json").read_text())["topology"]["nodes"]) == 2


def test_diagnose_says_what_training_can_still_move(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(runs / "small"), "--questions", "3", "--calls", "6", "--json"]) == 0
    found = document_of(capsys)
    assert [adapter["adapter"] for adapter in found["adapters"]] == ["n1", "n2"]
    assert found["questions"] == 3
    assert {(pair["of"], pair["within"]) for pair in found["overlap"]} == {("n1", "n2"), ("n2", "n1")}
    for adapter in found["adapters"]:
        assert (adapter["calls"], len(adapter["eigenvalues"])) == (6, 6)
        assert sum(module["trace_share"] for module in adapter["modules"]) == pytest.approx(1.0)
        assert sum(adapter["suffixes"].values()) == pytest.approx(adapter["push"])
        assert 0 < adapter["linearity_gap"] < 1
    assert main(["diagnose", str(runs / "small"), "--questions", "2", "--calls", "4"]) == 0
    assert "where the push comes from" in capsys.readouterr().out
    kept = json.loads((runs / "small" / "diagnosis.json").read_text())
    assert (kept["questions"], [adapter["calls"] for adapter in kept["adapters"]]) == (2, [4, 4])


def test_a_spec_is_diagnosed_before_anything_is_trained(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--questions", "16", "--calls", "12", "--json"]
    before = sorted(path.name for path in runs.rglob("*"))
    assert main(["diagnose", str(runs / "small.toml"), *arguments]) == 0
    found = document_of(capsys)
    assert "checkpoint" not in found
    assert sorted(path.name for path in runs.rglob("*")) == before
    every = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for adapter in found["adapters"]:
        assert set(adapter["suffixes"]) == every
        assert adapter["linearity_gap"] is None
    assert found["targets"]
    assert set(found["targets"]) < every
    # What it chooses is a setting: a run with it trains adapters there alone.
    chosen = f"adapter.targets={json.dumps(found['targets'])}"
    assert (
        main(["train", str(runs / "small.toml"), "--set", chosen, "--set", "name=chosen", "--out", str(tmp_path)]) == 0
    )
    (folder,) = (tmp_path / "chosen" / "checkpoints").glob("stage-*")
    trained = {key.split("/")[1].rpartition(".")[2] for key in load_file(folder / "adapters.safetensors")}
    assert trained == set(found["targets"])


def test_analysis_covers_every_node_edge_and_the_exchange(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(runs / "small"), "--examples", "4", "--json"]) == 0
    found = document_of(capsys)
    assert found["examples"] == 4
    changes = {node["node"]: sorted(node["changes"]) for node in found["nodes"]}
    assert changes == {"n1": ["cut", "shuffled", "untrained"], "n2": ["untrained"]}
    assert [entry["change"] for entry in found["edges"]] == ["n1 -> n2"]
    exchanged = found["exchanged"]
    assert exchanged["change"] == "n1 <- n2, n2 <- n1"
    assert exchanged["effect"]["wins"] + exchanged["effect"]["losses"] <= 4
    assert [pair["adapters"] for pair in found["similarity"]] == [["n1", "n2"]]


def test_analysis_reads_as_lines_that_fit_a_terminal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(runs / "small"), "--examples", "4"]) == 0
    said = capsys.readouterr()
    assert "asking 4 held-out questions (time 7 of 7; last: exchanged n1 <- n2, n2 <- n1)" in said.err
    titles = [line.split()[:3] for line in said.out.splitlines()]
    assert titles[3] == ["n1", "cut", "off"]
    assert "what the nodes say:" in said.out


@pytest.mark.ray
def test_of_several_plans_none_is_trained_when_none_beats_the_parent(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deeper, wider = tmp_path / "deeper.json", tmp_path / "wider.json"
    deeper.write_text(json.dumps({"edits": [{"edit": "append", "layers": [1]}]}))
    wider.write_text(json.dumps({"edits": [{"edit": "widen", "layer": 1}]}))
    plans = ["--plan", str(deeper), "--plan", str(wider)]
    assert main(["grow", str(runs / "small"), *plans, "--trial-steps", "1", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    tried = {line.partition(":")[0] for line in said.splitlines() if "accuracy" in line}
    assert tried == {"parent", "plan-0", "plan-1"}
    assert "no plan beats the parent" in said
    assert not (tmp_path / "small-grown").exists()


def test_report_is_written_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = runs / "small" / "report.html"
    page.unlink()
    assert main(["report", str(runs / "small")]) == 0
    assert page.stat().st_size > 1000


def test_a_plan_that_does_not_fit_is_bad_input(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"edits": [{"edit": "prune", "nodes": ["n9"]}]}))
    assert main(["grow", str(runs / "small"), "--plan", str(plan), "--out", str(tmp_path)]) == 2
    assert "n9" in capsys.readouterr().err
