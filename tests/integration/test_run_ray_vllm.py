"""The default run: Ray actors with an engine inside, from the command line, and the same graph served by vLLM."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from neuromas.journal import lines as journal

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("engine", ["", 'engine = { type = "vllm" }\n'], ids=["default", "vllm"])
def test_a_run_trains_and_trainer_and_engine_agree(tmp_path: Path, engine: str) -> None:
    spec = tmp_path / "run.toml"
    spec.write_text(
        engine + 'name = "run"\ntopology = { chain = 3 }\ntask = { type = "chain", hops = 2 }\n'
        "training = { steps = 3, prompts_per_step = 4, group_size = 4, warmup_steps = 0 }\n"
        "evaluation = { examples = 16 }\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "neuromas", "train", str(spec), "--out", str(tmp_path), "--json"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["steps"]) == ("succeeded", 3)
    assert result["spending"]["calls"] == 3 * 16 * 3
    lines = list(journal.read(tmp_path / "run" / "metrics.jsonl"))
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert max(line["parity/logprob_diff_max"] for line in lines) < 1e-4
    assert "Traceback" not in done.stderr


def test_libraries_keep_quiet_where_the_engine_shares_the_terminal(tmp_path: Path) -> None:
    spec = tmp_path / "run.toml"
    spec.write_text(
        'name = "run"\ntopology = { chain = 1 }\ntask = { type = "chain", hops = 1 }\nruntime = { type = "local" }\n'
        'engine = { type = "vllm" }\n'
        "training = { steps = 1, prompts_per_step = 2, group_size = 2 }\nevaluation = { examples = 2 }\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "neuromas", "train", str(spec), "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    strange = re.compile(r"triton|numa|warn|^\[?[WIE]\d{4} ", re.IGNORECASE)
    assert [line for line in done.stderr.splitlines() if strange.search(line)] == []
