"""The script that measures the GPU path, at toy sizes on the CPU: every step runs, its figures come out as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import neuromas
from neuromas.spec.machine import RuntimeSpec
from neuromas.training.trl_arguments import stays_on_cpu

ROOT = Path(neuromas.__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu" / "run.sh"


def run(*arguments: str | Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": str(python)}
    command = ["bash", SCRIPT, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_step_of_the_dry_run_succeeds(tmp_path: Path) -> None:
    done = run("--out", tmp_path, "--dry-run")
    assert done.returncode == 0, done.stdout
    joint = json.loads((tmp_path / "joint_small.json").read_text())["rows"]
    assert [row["what"] for row in joint] == [
        "stock",
        "joint, N = 1",
        "joint packed, N = 1",
        "joint, N = 2",
        "joint packed, N = 2",
        "separate, N = 2",
    ]
    exact, half = json.loads((tmp_path / "agreement.json").read_text())["rows"]
    assert exact["max diff"] < 1e-4
    assert exact["max diff"] < half["mean diff"] < 0.1
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()


def test_a_failing_step_is_counted_and_does_not_stop_the_next(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\necho "no torch here" >&2\nexit 3\n')
    broken.chmod(0o755)
    done = run("--out", tmp_path / "out", "--dry-run", python=broken)
    assert done.returncode == 4
    assert done.stdout.count("no torch here") == 4
    assert done.stdout.endswith("== 4 steps failed\n")


def test_a_wrong_option_is_named() -> None:
    done = run("--dry")
    assert done.returncode == 2
    assert done.stderr == "run.sh: got --dry, allowed are --out FOLDER, --base FOLDER and --dry-run\n"


def test_one_process_uses_the_gpu_it_sees_and_a_learner_of_a_cluster_the_one_it_was_given() -> None:
    assert not stays_on_cpu(RuntimeSpec(type="local"))
    assert stays_on_cpu(RuntimeSpec(type="ray"))
    assert not stays_on_cpu(RuntimeSpec(type="ray", gpus_per_learner=0.5))
