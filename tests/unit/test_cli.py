"""The command line: what it accepts, what it prints, and its exit codes. Nothing here loads a model."""

import json
import os
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


def test_validate_counts_the_calls_of_replays(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(spec_file), "--json", "--set", "training.credit=counterfactual"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rollouts_per_step"] == 24 * (1 + 7 * 5)
    assert document["calls_per_step"] == 24 * (5 + 7 * 15)


def test_validate_says_how_many_questions_decide_and_how_many_are_reported(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"question": f"{number}?", "answer": number}) for number in range(80)]
    for split, rows in (("train", lines), ("test", lines)):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    files = ", ".join(f'{split} = "{tmp_path / split}.jsonl"' for split in ("train", "test"))
    task = ["--set", f'task={{type = "file", {files}}}']
    assert main(["validate", str(spec_file), *task]) == 0
    assert "20 for decisions (validation), 60 for the result (test). Few: intervals" in capsys.readouterr().out
    (tmp_path / "test.jsonl").write_text(lines[0])
    assert main(["validate", str(spec_file), *task]) == 2
    assert "task.test" in (said := capsys.readouterr().err)
    assert "got 1 different held-out questions, needed are at least 2" in " ".join(said.split())


def test_validate_draws_the_graph(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(spec_file), "--set", "topology.chain=3"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("n1 ───▶ n2 ───▶ n3\n")
    assert out.endswith("\nvalid\n")


def test_validate_shows_what_is_asked_and_what_each_node_reads(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(spec_file), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)["preview"]
    question, answer = seen["question"], seen["answer"]
    assert question.endswith("find E=")
    assert answer.startswith("E= ")
    assert seen["prompts"]["n1"] == f"<bos> {question} @ L1 N1 >"
    assert seen["prompts"]["n5"] == f"<bos> {question} @ L5 N1 | L4 N1 : >"
    assert seen["unknown_words"] == []
    # 5 adapters of 2,944 numbers in 4 copies of 4 bytes; one forward pass holds them all.
    assert (seen["memory_bytes"]["training"], seen["memory_bytes"]["gradient_checkpointing"]) == (5 * 2944 * 16, False)
    assert main(["validate", str(spec_file)]) == 0
    out = capsys.readouterr().out
    assert f"its answer:\n    {answer}\nwhat n1 reads:\n    <bos> {question} @ L1 N1 >\n" in out
    assert f"time:                   {seen['time']['text']}\n" in out
    assert f"counted for:            {seen['time']['counted_for']}\n" in out
    assert "idle cores (1 sampling, 1 learning) of " in seen["time"]["counted_for"]
    assert max(map(len, out.splitlines())) <= 100


def test_validate_shows_a_few_nodes_of_a_large_graph(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(spec_file), "--json", "--set", "topology={layers=[4,4]}"]) == 0
    prompts = json.loads(capsys.readouterr().out)["preview"]["prompts"]
    assert list(prompts) == ["n1", "n2", "n3", "n4", "n5", "n9"]


def test_validate_shows_what_the_nodes_that_growth_adds_read(
    spec_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grows = ["--set", "topology.chain=3", "--set", "growth={levels=[3, 5]}"]
    assert main(["validate", str(spec_file), "--json", *grows]) == 0
    seen = json.loads(capsys.readouterr().out)["preview"]
    grown = seen["grown"]
    assert (list(seen["prompts"]), seen["question"][-2:], seen["level"]) == (["n1", "n2", "n3"], "C=", 3)
    assert (grown["nodes"], grown["level"], grown["question"][-2:]) == (5, 5, "E=")
    assert grown["prompts"] == {
        "n4": f"<bos> {grown['question']} @ L4 N1 | L3 N1 : >",
        "n5": f"<bos> {grown['question']} @ L5 N1 | L4 N1 : >",
    }
    assert main(["validate", str(spec_file), *grows]) == 0
    out = capsys.readouterr().out
    assert f"\na question once grown to 5 nodes (level 5):\n    {grown['question']}\nits answer:\n" in out
    assert f"\nwhat n5 reads:\n    {grown['prompts']['n5']}\n" in out


def test_growth_that_ends_below_the_highest_level_of_its_rows_is_refused(
    spec_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        rows = [
            {"question": f"{split} {hop} {row}", "answer": "1", "hop": hop} for hop in (2, 3, 4) for row in range(9)
        ]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = ", ".join(f'{split} = "{tmp_path / split}.jsonl"' for split in ("train", "test"))
    task = ["--set", f'task={{type = "file", {files}, level_key = "hop"}}']
    assert main(["validate", str(spec_file), *task, "--set", "growth={levels=[2, 3]}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "growth.levels end at 3; the last must be the target" in said
    assert "the task's highest level, 4" in said
    assert main(["validate", str(spec_file), *task, "--set", "growth={levels=[2, 4]}"]) == 0


def test_validate_names_the_words_that_the_base_cannot_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "start 3 zebra find A=", "answer": "A= 3"}\n')
    held_out = [f'{{"question": "start {start} find A=", "answer": "A= 4"}}' for start in (4, 5)]
    (tmp_path / "test.jsonl").write_text("\n".join(held_out))
    task = f"task={{type='file',train='{tmp_path}/train.jsonl',test='{tmp_path}/test.jsonl'}}"
    (tmp_path / "run.toml").write_text(SPEC)
    assert main(["validate", str(tmp_path / "run.toml"), "--json", "--set", task]) == 0
    assert json.loads(capsys.readouterr().out)["preview"]["unknown_words"] == ["zebra"]


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
    ("adapter", "path", "message"),
    [
        ("{type='unilora', dimension=10000000}", "adapter.dimension", "allowed are 1.."),
        ("{type='hyper', dimension=10000000}", "adapter.dimension", "allowed are 1.."),
        ("{type='loft', rank=100}", "adapter.rank", "allows at most 64"),
        ("{type='ssf', channels=100}", "adapter.channels", "has 64 outputs"),
        ("{type='ssf', channels=100, side='input'}", "adapter.channels", "has 64 inputs"),
        ("{type='adamss', basis=100}", "adapter.basis", "allows at most 64"),
        ("{type='adamss', segments=100}", "adapter.segments", "allows at most 64"),
        ("{type='adamss', basis=4, rank=5}", "adapter.rank", "allowed is at most basis = 4"),
        ("{type='adamss', segments=60, rank=20}", "adapter", "allowed are 1..512"),
        ("{type='loft', support='best'}", "adapter.support", "allowed are principal, coordinate, random"),
        ("{type='loft', dimension=3}", "adapter.dimension", "allowed are type, targets, batches, tau, rank, support"),
        ("{type='lorra'}", "adapter", "did you mean 'lora'? allowed are lora, unilora"),
    ],
)
def test_adapters_that_the_base_or_an_engine_cannot_carry_are_refused_with_what_is_allowed(
    spec_file: Path, capsys: pytest.CaptureFixture[str], adapter: str, path: str, message: str
) -> None:
    assert main(["validate", str(spec_file), "--json", "--set", f"adapter={adapter}"]) == 2
    faults = {fault["path"]: fault["message"] for fault in json.loads(capsys.readouterr().out)["error"]["faults"]}
    assert message in faults[path]


def test_a_start_that_a_family_lacks_is_refused_for_growth(spec_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    growth = "growth={levels=[1, 2], plans=[{edits=[{edit='append'}], inherit={new='zero'}}]}"
    overrides = ["--set", "adapter={type='hyper', dimension=64}", "--set", growth, "--set", "task.hops=2"]
    assert main(["validate", str(spec_file), "--json", *overrides]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["error"]["faults"]
    assert fault["path"] == "growth.plans[0].inherit.new"
    assert "got 'zero'; adapters of type 'hyper' allow copy, fresh, interpolate" in fault["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.toml"], "does not exist"),
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
        (["grow", "runs/x", "--apend", "2"], "--append"),
        (["keys", "create", "--scpe", "read"], "--scope"),
        (["keys", "create", "--name", "x", "--scop", "read"], "--scope"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.endswith(f"did you mean '{meant}'?\n")
    assert "choose from" not in error


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode_gets_stand_ins(spec_file: Path, encoding: str) -> None:
    def validate(*more: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-m", "neuromas", "validate", str(spec_file), "--set", "topology={layers=[2,1]}", *more],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONIOENCODING": encoding},
            cwd=Path(__file__).parents[2],
        ).stdout

    drawing = validate().decode(encoding).split("\n\n")[0].splitlines()
    assert drawing == ["n1 -+", "    +-> n3 ---> n4", "n2 -+"]
    assert json.loads(validate("--json").decode(encoding))["order"] == ["n1", "n2", "n3", "n4"]


def test_what_is_no_checkpoint_is_answered_with_what_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = tmp_path / "comparison" / "five-graph-s0" / "checkpoints" / "stage-0-000004"
    checkpoint.mkdir(parents=True)
    (checkpoint / "manifest.json").write_text('{"sequence": 1}')
    (tmp_path / "comparison" / "comparison.json").write_text("{}")
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run.toml").write_text(SPEC)
    for path, message in {
        tmp_path / "comparison": "a folder of several runs; name one of them: five-graph-s0",
        tmp_path / "begun": "no checkpoint yet",
        tmp_path / "run.toml": "this is a file",
        tmp_path: "not the folder of a run",
    }.items():
        assert main(["eval", str(path)]) == 2
        assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("port", ["65536", "-1"])
def test_a_port_is_one_that_exists(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["serve", "x"], ["service"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--port", port])
        assert stop.value.code == 2
        assert f"got {port}; allowed are 0 (a free one) to 65535" in capsys.readouterr().err


def test_trying_several_plans_without_ray_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python knows a package that is not installed
    assert main(["grow", "x", "--plan", "a.toml", "--plan", "b.toml"]) == 2
    assert "plans: got 2; trying several needs Ray" in capsys.readouterr().err


def test_examples_are_written_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["examples"]) == 0
    assert "examples/topologies/diamond.json" in capsys.readouterr().out.splitlines()
    assert main(["validate", "examples/quickstart.toml", "--set", "engine.type=transformers"]) == 0
    assert main(["examples"]) == 2


def test_a_base_that_cannot_be_had_offline_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(SPEC)
    done = subprocess.run(
        [sys.executable, "-m", "neuromas", "validate", str(tmp_path / "run.toml"), "--set", "base=owner/model"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == [
        (
            "  base: base 'owner/model' is neither a folder nor in the local hub cache, and could not be downloaded: "
            "HF_HUB_OFFLINE is set. Without a way to the hub, copy the model's folder here and give its path"
        )
    ]
