"""The command line: what it accepts, what it prints, and its exit codes. Nothing here loads a model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from neuromas.cli.main import main
from neuromas.cli.program import COMMANDS

SPEC = """
name = "five"
topology = { chain = 5 }
task = { type = "chain", hops = 5 }
engine = { type = "transformers" }
"""


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(SPEC)
    return path


def test_validate_says_what_the_run_needs(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(spec_file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is True
    assert document["order"] == ["n1", "n2", "n3", "n4", "n5"]
    assert (document["depth"], document["width"], document["calls_per_answer"]) == (5, 1, 5)
    # The base has 4 layers of width 64 and inner width 176; q, v: 64x64, up: 64x176, down: 176x64; rank 1.
    per_adapter = 4 * ((64 + 64) * 2 + (64 + 176) * 2)
    assert document["trainable_parameters"] == 5 * per_adapter
    assert document["adapter_bytes"] == 5 * per_adapter * 4
    assert document["rollouts_per_step"] == 192
    assert document["calls_per_step"] == 960


def test_validate_draws_the_graph(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(spec_file), "--set", "topology.chain=3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("n1 ───▶ n2 ───▶ n3\n")
    assert out.endswith("\nvalid\n")


def test_validate_takes_a_bare_topology(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "graph.json"
    path.write_text(json.dumps({"name": "paper-7", "layers": [2, 2, 2]}))
    assert main(["validate", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["nodes"], document["depth"]) == ("topology", 7, 4)


def test_all_faults_come_at_once(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["--set", "training.stepz=3", "--set", "training.group_size=1", "--set", "adapter.rank=0"]
    assert main(["validate", str(spec_file), "--json", *overrides]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "invalid_spec"
    assert [fault["path"] for fault in error["faults"]] == ["adapter.rank", "training.group_size", "training.stepz"]


def test_what_only_this_machine_can_tell_is_reported_with_its_path(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [
        "--set",
        "adapter.targets=['q_proj', 'z_proj']",
        "--set",
        "engine.max_model_len=40",
    ]
    assert main(["validate", str(spec_file), "--json", *overrides]) == 2
    faults = {fault["path"]: fault["message"] for fault in json.loads(capsys.readouterr().out)["error"]["faults"]}
    assert set(faults) == {"adapter.targets", "engine.max_model_len"}
    assert "z_proj" in faults["adapter.targets"]
    assert "got 40" in faults["engine.max_model_len"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.toml"], "cannot be read"),
        (["eval", "nowhere"], "not found"),
        (["export", "nowhere", "--out", "exported"], "not found"),
        (["serve", "nowhere"], "not found"),
        (["grow", "nowhere", "--append", "1"], "not found"),
    ],
)
def test_what_is_not_there_is_bad_input(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["fly"], ["train"], ["grow", "x"], ["serve", "x", "--port", "http"]])
def test_wrong_arguments_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["trian"], "train"),
        (["train", "x.toml", "--resme"], "--resume"),
        (["runs", "lits"], "list"),
        (["runs", "list", "--state", "runing"], "running"),
        (["eval", "x", "--engine", "vlm"], "vllm"),
        (["keys", "list", "--dta", "x"], "--data"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert f"did you mean '{meant}'?" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name}" in shown for name in COMMANDS)


def test_without_a_verb_the_help_of_the_command_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["endpoints"])
    assert stop.value.code == 0
    assert "  neuromas endpoints deploy solver RUN@best --wait" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"  neuromas {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_json_goes_to_stdout_and_everything_else_to_stderr(spec_file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neuromas", "validate", str(spec_file), "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["run"] == "five"
    assert done.stderr == ""
