"""Two data-parallel processes are one process that sees all groups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("parallel_stage.py")
ENVIRONMENT = {"PYTHONPATH": f"{SCRIPT.parents[2]}:{SCRIPT.parent}", "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def start(out: Path, settings: dict[str, Any], **rank: str) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    command = [sys.executable, str(SCRIPT), str(out), json.dumps(settings)]
    return subprocess.Popen(command, env=os.environ | ENVIRONMENT | rank, stderr=subprocess.PIPE)


def finish(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors.decode()


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 2, "rows_per_forward": 9},
        {"steps": 2, "loss": "bnpo", "estimator": "reinforce", "drop_zero_variance": False},
    ],
    ids=["rollout", "bnpo_reinforce"],
)
def test_two_processes_are_one(tmp_path: Path, free_port: int, settings: dict[str, Any]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    finish(start(one, settings))
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port), "LOCAL_WORLD_SIZE": "2"}
    finish(*(start(two, settings, RANK=rank, LOCAL_RANK=rank, **common) for rank in ("0", "1")))
    alone, both = load_file(one / "gradients.safetensors"), load_file(two / "gradients.safetensors")
    largest = max(float(value.abs().max()) for value in alone.values())
    assert largest > 1e-3
    assert max(float((alone[key] - both[key]).abs().max()) for key in alone) < 1e-6
    weights, parallel = load_file(one / "adapters.safetensors"), load_file(two / "adapters.safetensors")
    assert max(float((weights[key] - parallel[key]).abs().max()) for key in weights) < 1e-4
    first, second = (json.loads((folder / "metrics.json").read_text()) for folder in (one, two))
    for name in ("rollout/reward_mean", "rollout/calls", "train/groups_kept", "train/entropy/n1", "train/loss"):
        assert [step[name] for step in second] == pytest.approx([step[name] for step in first], abs=1e-5), name


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
