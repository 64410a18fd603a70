"""What counterfactual credit is worth at equal calls, on chains of the shipped base.

    python -m benchmarks.credit --studies chain2 chain3 chain5 --seeds 0 1 2 --out runs/credit

A chain of n nodes answers questions of n hops, in three arms that ask the nodes equally often, with one learning rate,
that of the defaults:

- counterfactual: G samples of each node in its context; a question takes n + (G - 1) n (n + 1) / 2 calls
- shared, larger groups: as many calls of the same questions: groups of 1 + (G - 1) (n + 1) / 2 rollouts
- shared, more steps: groups of G rollouts, and more steps, each of as many questions

Finished runs are lines of `<out>/records.jsonl` and are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.pages import replace_table
from benchmarks.sweep import Study, chosen, listed, read_records, run_missing, spread

Document = dict[str, Any]
PAGE = Path("docs/evidence/credit.md")
STUDIES: Final = {"chain2": 2, "chain3": 3, "chain5": 5}
"""Nodes, and hops of the questions."""
GROUP: Final = 5
STEPS: Final = 60
RATE: Final = 1e-2
PARTS: Final = 4
"""Of the calls, for which mean rewards are shown."""
COUNTERFACTUAL: Final = "counterfactual"
ARMS: Mapping[str, Callable[[int], Document]] = {
    COUNTERFACTUAL: lambda _: {"credit": "counterfactual"},
    "shared, larger groups": lambda nodes: {"group_size": 1 + (GROUP - 1) * (nodes + 1) // 2},
    "shared, more steps": lambda nodes: {"steps": STEPS * (2 + (GROUP - 1) * (nodes + 1)) // (2 * GROUP)},
}


def arm_spec(study: str, arm: str, rate: float, seed: int) -> Document:
    """Return the run spec of one arm.

    Raises:
        KeyError: the study or the arm does not exist.
    """
    nodes = STUDIES[study]
    training = {"steps": STEPS, "prompts_per_step": 12, "group_size": GROUP, "learning_rate": rate}
    return {
        "name": f"{study}-{arm.replace(', ', '-').replace(' ', '-')}-s{seed}",
        "seed": seed,
        "topology": {"chain": nodes},
        "task": {"type": "chain", "hops": nodes},
        "training": training | ARMS[arm](nodes),
        "engine": {"type": "transformers"},
        "runtime": {"type": "local"},
        "evaluation": {"examples": 128},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_per_sample": 0},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the tables; returns the exit code."""
    options = _parser().parse_args(argv)
    studies = [
        Study(name, tuple(ARMS), partial(arm_spec, name), lambda _, tried: None if tried else RATE)
        for name in options.studies
    ]
    failed = 0 if options.publish else run_missing(studies, options.seeds, options.out)
    found = read_records(options.out)
    print("\n\n".join(table(found, study) for study in options.studies))
    if options.publish:
        Path("docs/evidence/credit.json").write_text(listed(found), encoding="utf-8")
        for study in {record["study"]: None for record in found}:
            replace_table(PAGE, f"credit-{study}", table(found, study))
    return 1 if failed else 0


def table(records: Sequence[Document], study: str) -> str:
    """Return a study as a Markdown table: an arm a row, means over seeds with the lowest and highest, in percent."""
    parts = [f"reward, calls {100 * part // PARTS} to {100 * (part + 1) // PARTS} %" for part in range(PARTS)]
    titles = ["credit", "calls", "seeds", *parts, "sampled", "greedy"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for arm in ARMS:
        if rows := chosen(records, study, arm):
            calls = " or ".join(f"{count:,}" for count in sorted({row["calls"] for row in rows}))
            cells = [arm, calls, ", ".join(str(row["seed"]) for row in rows)]
            cells += [spread(values) for values in zip(*map(reward_parts, rows), strict=True)]
            cells += [spread([row[mode] for row in rows]) for mode in ("sampled", "greedy")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *differences(records, study)])


def differences(records: Sequence[Document], study: str) -> list[str]:
    """Return how far counterfactual credit is from each other arm, seed by seed, in points of sampled accuracy."""
    found = {arm: {row["seed"]: row["sampled"] for row in chosen(records, study, arm)} for arm in ARMS}
    lines = []
    for arm in ARMS:
        both = sorted(found[arm].keys() & found[COUNTERFACTUAL].keys())
        if arm != COUNTERFACTUAL and both:
            points = [100 * (found[COUNTERFACTUAL][seed] - found[arm][seed]) for seed in both]
            by_seed = ", ".join(f"{point:+.1f}" for point in points)
            lines += ["", f"Counterfactual less {arm}, sampled: {statistics.mean(points):+.1f} points ({by_seed})."]
    return lines


def reward_parts(record: Document) -> list[float]:
    """Return the mean reward of the training rollouts in each part of a run's calls; all steps take equally many."""
    (rewards,) = record["rewards"]
    edges = [len(rewards) * part // PARTS for part in range(PARTS + 1)]
    return [statistics.mean(rewards[begin:end]) for begin, end in pairwise(edges)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES), metavar="STUDY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/credit"), help="folder of runs and records")
    parser.add_argument("--publish", action="store_true", help="run nothing; write docs/ from what has finished")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
