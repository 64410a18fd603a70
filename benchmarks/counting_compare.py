"""A graph of a real model beside what costs as much: `neuromas compare` on BIG-bench object counting.

    neuromas base get smollm2-135m
    python -m benchmarks.counting_compare --data bigbench --out runs/counting

``--data`` is a folder with BIG-bench's questions as object_counting.train.jsonl and object_counting.test.jsonl: a
"question", an "answer" and a "level", the most things that it lists, a line. Each arm is trained in a process of its
own; finished ones are read when the command is given again, and ``--arms`` may name more than before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import neuromas as nm
from benchmarks.counting_arms import NAME, graph_spec, most_frequent, write_data
from benchmarks.pages import replace_table
from benchmarks.real_evidence import PAGE
from benchmarks.sweep import listed, spread
from neuromas.report.numbers import chance, change, count
from neuromas.training.statistics import wilson_interval

Document = dict[str, Any]
FIGURES: Final = Path("docs/evidence/counting.json")
ARMS: Final = (
    "graph",
    "untrained",
    "single",
    "call",
    "vote",
    "long",
    "shared",
    "refine",
    "refine-untrained",
    "in-turn",
)
_TITLES: Final = (
    "BIG-bench object counting, up to 5 things",
    "greedy",
    "95 %",
    "sampled",
    "change, p",
    "trained numbers",
    "rollouts",
    "calls",
    "tokens",
    "calls an answer",
    "minutes",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Train the arms that are missing, then print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with object_counting.train.jsonl and .test.jsonl"
    )
    parser.add_argument("--arms", nargs="+", default=list(ARMS), help="arms of `neuromas compare`")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/counting"), help="folder of data, spec and runs")
    parser.add_argument("--publish", action="store_true", help="put the table into docs/")
    options = parser.parse_args(argv)
    spec = graph_spec(options.out, write_data(options.data, options.out))
    (options.out / f"{NAME}.json").write_text(f"{json.dumps(spec, indent=1)}\n", encoding="utf-8")
    found = nm.compare(nm.parse_run_spec(spec), options.arms, options.out, seeds=options.seeds)
    (group,) = found.document["groups"]
    shown = table(group["arms"], most_frequent(options.out))
    print(shown)
    if options.publish:
        FIGURES.write_text(listed(group["arms"]), encoding="utf-8")
        replace_table(PAGE, NAME, shown)
    return 0


def table(arms: Sequence[Document], guess: tuple[str, float]) -> str:
    """Return the arms of a comparison as a Markdown table, in percent; the change is against the first arm, sampled."""
    answer, right = guess
    lines = [
        f"| {' | '.join(_TITLES)} |",
        f"|{'---|' * len(_TITLES)}",
        f"| always {answer} | {100 * right:.1f} |{' - |' * (len(_TITLES) - 2)}",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(arm))} |" for arm in arms)])


def _cells(arm: Document) -> list[str]:
    greedy, sampled = (
        [run["accuracy"][how] for run in arm["runs"] if how in run["accuracy"]] for how in ("greedy", "sampled")
    )
    against = arm["against"].get("sampled")
    return [
        arm["title"],
        spread([figure["value"] for figure in greedy]) if greedy else "-",
        _interval(greedy or sampled),
        spread([figure["value"] for figure in sampled]),
        "-" if against is None else f"{change(against['gain'])}, {chance(against['p_value'])}",
        *(count(arm[key]) for key in ("trainable_parameters", "rollouts", "calls", "tokens", "calls_per_answer")),
        f"{arm['seconds'] / 60:.1f}" if arm["seconds"] else "-",
    ]


def _interval(figures: Sequence[Document]) -> str:
    asked = sum(figure["examples"] for figure in figures)
    interval = wilson_interval(sum(figure["value"] * figure["examples"] for figure in figures), asked)
    return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


if __name__ == "__main__":
    sys.exit(main())
