"""What a graph of many nodes costs, command by command: validate, train, grow and serve, over the number of nodes.

    python -m benchmarks.scale [--depths 3 7 10] [--out runs/scale] [--json FILE]

The graph is a complete binary tree over the shipped base, every node with an adapter of its own, so that a node's
prompt is as long in a large graph as in a small one. Each command is a process of its own, as a user calls it: two
optimizer steps with an evaluation and a checkpoint, one more on the graph after a node was put behind its output, one
question. Memory is that of the command's largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.measure import Cell, report

SPEC = {
    "name": "scale",
    "task": {"type": "chain", "hops": 3},
    "adapter": {"type": "lora", "rank": 1},
    "training": {"steps": 2, "prompts_per_step": 2, "group_size": 4, "learning_rate": 1e-2},
    "evaluation": {"examples": 4},
    "checkpoint": {"every": 0},
    "tracking": {"rollouts_every": 1, "rollouts_per_sample": 1},
    "runtime": {"type": "local"},
}
WORDS = 16
"""Positions in a layer that the shipped base has a word for."""
NOTHING: dict[str, Cell] = {"cpu s": "", "peak MB": ""}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one command: wall seconds, processor seconds, and the most memory in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    options = _parser().parse_args(argv)
    rows: list[dict[str, Cell]] = []
    for depth in options.depths:
        rows += measure(depth, options.out / f"depth-{depth}")
        report("graphs of many nodes", rows, options.json)
    return 0


def measure(depth: int, place: Path) -> list[dict[str, Cell]]:
    """Return a line per command for a tree of 2^depth - 1 nodes."""
    place.mkdir(parents=True, exist_ok=True)
    spec = place / "scale.json"
    spec.write_text(json.dumps(SPEC | {"topology": tree(depth)}), encoding="utf-8")
    runs = str(place / "runs")
    costs = {
        "validate": run("validate", str(spec)),
        "train": run("train", str(spec), "--out", runs, "--overwrite"),
        "grow": run("grow", f"{runs}/scale", "--append", "1", "--steps", "1", "--out", runs, "--overwrite"),
        "serve": serve(f"{runs}/scale-grown"),
    }
    nodes = 2**depth - 1
    steps = [json.loads(line) for line in (place / "runs/scale/metrics.jsonl").read_text().splitlines()]
    timed = steps[-1]
    rows: list[dict[str, Cell]] = [
        {"nodes": nodes, "what": name, "wall s": cost.wall_s, "cpu s": cost.cpu_s, "peak MB": cost.peak_mb}
        for name, cost in costs.items()
    ]
    parts = ("rollout_s", "sync_s", "plan_s", "step_s")
    rows += [{"nodes": nodes, "what": f"step: {part}", "wall s": timed[f"time/{part}"], **NOTHING} for part in parts]
    size = sum(file.stat().st_size for file in (place / "runs/scale/checkpoints").rglob("*") if file.is_file())
    rows.append({"nodes": nodes, "what": "checkpoints, MB", "wall s": size / 1e6, **NOTHING})
    return rows


def tree(depth: int) -> dict[str, Any]:
    """Return a complete binary tree, leaves first; positions that the base has no word for are named again from 0."""
    layers = [range(2 ** (depth - 1 - layer)) for layer in range(depth)]
    return {
        "nodes": [
            {"id": f"n{layer}.{index}", "position": [layer + 1, 1 + index % WORDS]}
            for layer, indices in enumerate(layers)
            for index in indices
        ],
        "edges": [
            [f"n{layer}.{index}", f"n{layer + 1}.{index // 2}"]
            for layer, indices in enumerate(layers[:-1])
            for index in indices
        ],
    }


def run(*command: str) -> Cost:
    """Run a command of NeuroMAS to its end.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "neuromas", *command], stdout=subprocess.DEVNULL)
    return _wait(process, began, command[0])


def serve(run_folder: str) -> Cost:
    """Serve a graph, ask it one question, and end the server."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "neuromas", "serve", run_folder, "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = next(found for line in process.stdout if (found := re.search(r"http://([\w.:]+)", line)))
    body = json.dumps({"model": "scale-grown", "messages": [{"role": "user", "content": "where"}]})
    connection = HTTPConnection(address[1], timeout=600)
    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
    if (status := connection.getresponse().status) != HTTPStatus.OK:
        raise RuntimeError(f"the endpoint answered {status}")
    process.terminate()
    return _wait(process, began, "serve")


def _wait(process: subprocess.Popen[str] | subprocess.Popen[bytes], began: float, name: str) -> Cost:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 143, -15):
        raise RuntimeError(f"neuromas {name} ended with exit code {process.returncode}")
    return Cost(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[3, 7, 10])
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    parser.add_argument("--json", type=Path)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
