"""``neuromas train`` is killed, interrupted and resumed: the run ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_files import TOO_LARGE, limited

from neuromas.cli.main import main
from neuromas.journal import lines as journal

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
STEPS = 10
SPEC = f"""
name = "run"
topology = {{ chain = 2 }}
task = {{ type = "chain", hops = 1 }}
training = {{ steps = {STEPS}, prompts_per_step = 4, group_size = 4, warmup_steps = 0 }}
evaluation = {{ examples = 8 }}
checkpoint = {{ every = 2 }}
engine = {{ type = "transformers" }}
runtime = {{ type = "local" }}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "run.toml"
    path.write_text(SPEC)
    return path


def start(spec: Path, out: Path, file_bytes: int | None = None) -> subprocess.Popen:
    """Begin to train; no file may get larger than ``file_bytes``, as if the disk were full there."""
    command = [sys.executable, "-m", "neuromas", "train", str(spec), "--out", str(out), "--nodes"]
    command = command if file_bytes is None else limited(command, file_bytes)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"stage-0-{STEPS:06d}" / "adapters.safetensors")


def wait_for_step(step: int, process: subprocess.Popen) -> None:
    """Read the display, one line per step with --nodes, up to the line of a step."""
    assert process.stderr is not None
    seen = [process.stderr.readline()]
    while f"step {step}/{STEPS}" not in seen[-1]:
        seen.append(process.stderr.readline())
        assert seen[-1], "".join(seen)


@pytest.fixture(scope="module")
def uninterrupted(spec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    assert main(["train", str(spec), "--out", str(out)]) == 0
    assert json.loads((out / "run" / "result.json").read_text())["steps"] == STEPS
    return out / "run"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_broken_off_run_resumes_to_the_same_weights(
    number: signal.Signals, code: int, spec: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    process = start(spec, tmp_path)
    wait_for_step(3, process)
    process.send_signal(number)
    _, stderr = process.communicate()
    assert process.returncode == code, stderr
    if code == 130:
        assert "--resume" in stderr
        assert (tmp_path / "run" / "checkpoints" / "latest.json").exists()

    check_resume(spec, tmp_path, uninterrupted)


@pytest.mark.parametrize(
    ("file_bytes", "file"),
    [(30_000, "checkpoints/stage-0-000002"), (2_500, "metrics.jsonl"), (200, "spec.resolved.json")],
)
def test_a_run_on_a_full_disk_says_so_and_resumes_to_the_same_weights_once_there_is_space(
    file_bytes: int, file: str, spec: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    process = start(spec, tmp_path, file_bytes)
    _, stderr = process.communicate()
    assert process.returncode == 1
    assert f"error: {tmp_path / 'run' / file} cannot be written: {TOO_LARGE}\n" in stderr
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.rglob(".*")] == []
    check_resume(spec, tmp_path, uninterrupted)


def check_resume(spec: Path, out: Path, uninterrupted: Path) -> None:
    """Resume a run and check that it ends as the one that nothing happened to."""
    assert main(["train", str(spec), "--out", str(out), "--resume"]) == 0
    mine, theirs = weights(out / "run"), weights(uninterrupted)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    steps = [line["step"] for line in journal.read(out / "run" / "metrics.jsonl")]
    assert steps == list(range(1, STEPS + 1))


def test_an_existing_run_is_neither_overwritten_nor_mixed_up(
    spec: Path, uninterrupted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (uninterrupted / "result.json").read_bytes()
    again = ["train", str(spec), "--out", str(uninterrupted.parent)]
    assert main(again) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*again, "--resume", "--set", "training.steps=7"]) == 2
    assert "differs from the spec" in capsys.readouterr().err
    assert (uninterrupted / "result.json").read_bytes() == before
