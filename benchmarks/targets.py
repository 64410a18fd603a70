"""Does the score kernel choose layers that learn more? All linear layers, those it chooses, and as many at random.

    python -m benchmarks.targets --seeds 0 1 2 --out runs/targets [--publish]

A seed's kernel is that of the untrained graph with adapters on all linear layers: `neuromas diagnose SPEC` names the
fewest layers that hold nine tenths of the push, on validation questions. Then each choice is trained, `neuromas train`
on the shipped base at the same rank and learning rate; fewer layers train fewer numbers. All figures are of test
questions. They are few steps, so that no choice is at its ceiling. Finished runs are not run again.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.pages import replace_table
from benchmarks.training_run import train
from neuromas.base.linears import linear_names
from neuromas.base.resolve import resolve_base

Document = dict[str, Any]
CHOICES: Final = ("all", "kernel", "random")
STEPS: Final = 8
PAGE: Final = Path("docs/adapters.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and print the table; returns the exit code."""
    options = _parser().parse_args(argv)
    found: dict[str, list[Document]] = {choice: [] for choice in CHOICES}
    for seed in options.seeds:
        targets = choices(seed, kernel_targets(seed, options.out))
        for choice in CHOICES:
            result = train(spec(f"{choice}-s{seed}", seed, targets[choice], STEPS), options.out)
            if result is None:
                return 1
            found[choice].append({**result, "targets": targets[choice]})
            print(table(found), flush=True)
    if options.publish:
        replace_table(PAGE, "targets", table(found))
    return 0


def spec(name: str, seed: int, targets: Sequence[str], steps: int) -> Document:
    """Return a run of the chain of three hops with LoRA of rank 1 on some layers."""
    return {
        "name": name,
        "seed": seed,
        "topology": {"chain": 3},
        "task": {"type": "chain", "hops": 3},
        "adapter": {"type": "lora", "rank": 1, "targets": list(targets)},
        "training": {"steps": steps, "prompts_per_step": 24, "group_size": 8},
        "evaluation": {"examples": 512},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_per_sample": 0},
        "engine": {"type": "transformers"},
        "runtime": {"type": "local"},
    }


def kernel_targets(seed: int, out: Path) -> list[str]:
    """Return the layers that the kernel of a seed's untrained graph chooses.

    Raises:
        RuntimeError: no question had both right and wrong answers.
        subprocess.CalledProcessError: the look failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    file, look = out / f"look-s{seed}.json", out / f"diagnosis-s{seed}.json"
    if not look.is_file():
        file.write_text(json.dumps(spec(f"look-s{seed}", seed, all_layers(), STEPS)) + "\n")
        command = [
            sys.executable,
            "-m",
            "neuromas",
            "diagnose",
            str(file),
            "--questions",
            "64",
            "--calls",
            "64",
            "--json",
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        look.write_bytes(done.stdout)
    targets: list[str] = json.loads(look.read_text())["targets"]
    if not targets:
        raise RuntimeError(f"{look}: no question had both right and wrong answers; ask more of them")
    return targets


def all_layers() -> tuple[str, ...]:
    """Return the names of the shipped base's linear layers."""
    return tuple(linear_names(resolve_base("tiny")))


def choices(seed: int, chosen: Sequence[str]) -> dict[str, list[str]]:
    """Return each choice's layers: all, those that the kernel chose, and as many drawn by the seed."""
    every = all_layers()
    return {"all": list(every), "kernel": list(chosen), "random": random.Random(seed).sample(every, len(chosen))}


def table(found: Mapping[str, Sequence[Document]]) -> str:
    """Return the finished runs as a Markdown table: means over seeds with the lowest and highest, in percent."""
    lines = ["| layers | left out, by seed | trained numbers | sampled | greedy |", "|---|---|---|---|---|"]
    for choice, results in found.items():
        if results:
            left_out = [", ".join(name for name in all_layers() if name not in result["targets"]) for result in results]
            trained = ", ".join(f"{number:,}" for number in dict.fromkeys(r["trainable_parameters"] for r in results))
            accuracies = (_spread(results, mode) for mode in ("sampled", "greedy"))
            cells = [choice, "; ".join(left_out) if any(left_out) else "none", trained, *accuracies]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(results: Sequence[Document], mode: str) -> str:
    values = [100 * result["accuracy"][mode]["value"] for result in results]
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/targets"), help="folder of the runs")
    parser.add_argument("--publish", action="store_true", help=f"write the table into {PAGE}")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
