"""Memory and time of one update on a real model: cut and packed as by default, against one pass over padded rows.

Rows are those of a chain of nodes: groups of 8 whose prompts share a question. Each alternative is a process of its
own, whose peak of resident memory is read at its end; they take turns. Seconds are CPU seconds of the update alone.

    python -m benchmarks.update_memory [--base smollm2-135m] [--calls 192] [--rounds 2] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.measure import Cell, ratio, report

GROUP: Final = 8
NODES: Final = 3
SHARED, OWN, COMPLETION = 32, 8, 10
"""Tokens of a prompt that a group shares, its own ones, and those of a message."""
ALTERNATIVES: Final = {"one pass, padded": (False, False), "cut": (True, False), "cut and packed": (True, True)}
"""Name -> whether the update is cut as planned, and whether what a group shares is read once."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--calls", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alternative", choices=list(ALTERNATIVES), help="run this one alone, in this process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.alternative is not None:
        sys.stdout.write(json.dumps(update(options)) + "\n")
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ALTERNATIVES}
    for turn in range(options.rounds):
        for name in ALTERNATIVES if turn % 2 == 0 else reversed(ALTERNATIVES):
            found[name].append(apart(name, options))
    whole = [run["seconds"] for run in found["one pass, padded"]]
    rows = [row(name, runs, whole) for name, runs in found.items()]
    report(f"an update of {options.calls} calls on {options.base}", rows, options.json)


def apart(alternative: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what one alternative took, in a process of its own."""
    given = {"base": options.base, "calls": options.calls, "threads": options.threads, "alternative": alternative}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.update_memory", *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def update(options: argparse.Namespace) -> dict[str, Any]:
    """Do one update in this process and return what it took."""
    import torch

    from neuromas.adapters.build import build_model
    from neuromas.base.resolve import resolve_base
    from neuromas.base.sizes import read_sizes
    from neuromas.base.suited import suit_spec
    from neuromas.spec.parse import parse_run_spec
    from neuromas.training.memory import plan_memory
    from neuromas.training.packing import pack
    from neuromas.training.scoring import add_scoring, score_bucket

    torch.set_num_threads(options.threads)
    folder = resolve_base(options.base)
    document = {"base": str(folder), "topology": {"chain": NODES}, "task": {"type": "chain", "hops": NODES}}
    spec = suit_spec(parse_run_spec(document)).spec
    sizes = read_sizes(folder, spec.adapters.targets)
    tokens = options.calls * (SHARED + OWN + COMPLETION)
    plan = plan_memory(spec, None if sizes is None else sizes.dimensions, step_tokens=tokens)
    is_cut, is_packed = ALTERNATIVES[options.alternative]
    model, bank = build_model(folder, spec.adapters, spec.topology, seed=0)
    add_scoring(model.get_base_model())
    prompts, completions, nodes = rows_of(options.calls)
    # Rows of one group share their beginning; as groups of one each row is read whole.
    groups = nodes if is_packed else np.arange(options.calls)
    limit = plan.tokens_per_forward if is_cut else 1 << 40
    began = time.process_time()
    buckets = pack(prompts, completions, groups, tokens_per_forward=limit)
    for bucket in buckets:
        bank.set_routes(torch.from_numpy(bucket.groups % NODES))
        scores = score_bucket(model, bucket, torch.ones(len(bucket.groups)), torch.device("cpu"))
        torch.autograd.backward(scores.logprobs.sum())
    seconds = time.process_time() - began
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": seconds,
        "peak": int(line.split()[1]) << 10,
        "planned": plan.peak_bytes,
        "passes": len(buckets),
        "tokens": sum(bucket.num_tokens for bucket in buckets),
    }


def rows_of(calls: int) -> tuple[list[list[int]], list[list[int]], np.ndarray]:
    """Return prompts, completions and the group of each call: groups of 8 that share a question."""
    numbers = np.random.default_rng(0)
    prompts, completions, groups = [], [], []
    for group in range(-(-calls // GROUP)):
        question = numbers.integers(3, 140, SHARED).tolist()
        for _ in range(min(GROUP, calls - group * GROUP)):
            prompts.append(question + numbers.integers(3, 140, OWN).tolist())
            completions.append(numbers.integers(3, 140, COMPLETION).tolist())
            groups.append(group)
    return prompts, completions, np.array(groups)


def row(name: str, runs: list[dict[str, Any]], whole: list[float]) -> dict[str, Cell]:
    """Return a line of the table."""
    middle, low, high = ratio([run["seconds"] for run in runs], whole)
    return {
        "update": name,
        "peak, GB": max(run["peak"] for run in runs) / 1e9,
        "planned, GB": runs[0]["planned"] / 1e9,
        "passes": runs[0]["passes"],
        "tokens": runs[0]["tokens"],
        "CPU s": sorted(run["seconds"] for run in runs)[len(runs) // 2],
        "over one pass": middle,
        "low": low,
        "high": high,
    }


if __name__ == "__main__":
    main()
