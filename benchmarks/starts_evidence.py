"""How fast a graph learns by what its new adapters start from: EVA, LOFT's supports, grown nodes.

    python -m benchmarks.starts_evidence --studies lora loft grown --seeds 0 1 2 --out runs/starts

Each arm is `neuromas train` on the shipped base; of several learning rates the first seed chooses, by the sampled
accuracy on validation questions. Rewards are those of the training rollouts: each is sampled before its step's update,
so the first of a grown stage is the graph's before any step of the new node. Accuracies are of test questions. Finished
runs are lines of `<out>/records.jsonl` and are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.pages import replace_table
from benchmarks.start_arms import STUDIES, Document, arm_spec, next_rate
from benchmarks.sweep import Study, chosen, listed, read_records, run_missing, spread, tried_rates

PAGE = Path("docs/evidence/families.md")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the tables; returns the exit code."""
    options = _parser().parse_args(argv)
    studies = [
        Study(name, tuple(STUDIES[name].arms), partial(arm_spec, name), partial(next_rate, name))
        for name in options.studies
    ]
    failed = 0 if options.publish else run_missing(studies, options.seeds, options.out)
    found = read_records(options.out)
    print("\n\n".join(table(found, study) for study in options.studies))
    if options.publish:
        publish(found, options.studies)
    return 1 if failed else 0


def publish(records: Sequence[Document], studies: Sequence[str]) -> None:
    """Write the tables and records of some studies into docs/."""
    for study in studies:
        own = [record for record in records if record["study"] == study]
        Path(f"docs/evidence/starts-{study}.json").write_text(listed(own), encoding="utf-8")
        replace_table(PAGE, f"starts-{study}", table(records, study))


def table(records: Sequence[Document], study: str) -> str:
    """Return a study as a Markdown table: an arm a row, means over seeds with the lowest and highest, in percent."""
    about = STUDIES[study]
    steps = [f"step {first}" if first == last else f"steps {first} to {last}" for first, last in about.windows]
    titles = ["start", "trained numbers, all nodes", "rate", "seeds", *steps, "sampled", "greedy"]
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for arm in about.arms:
        if rows := chosen(records, study, arm):
            is_swept = next_rate(study, arm, tried_rates(records, study, arm)) is None
            rate = f"{rows[0]['rate']:g}{'' if is_swept else ', sweep goes on'}"
            cells = [arm, f"{rows[0]['trained']:,}", rate, ", ".join(str(row["seed"]) for row in rows)]
            for first, last in about.windows:
                cells.append(spread([statistics.mean(row["rewards"][-1][first - 1 : last]) for row in rows]))
            cells += [spread([row[mode] for row in rows]) for mode in ("sampled", "greedy")]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES), metavar="STUDY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="the first one chooses the rates")
    parser.add_argument("--out", type=Path, default=Path("runs/starts"), help="folder of runs and records")
    parser.add_argument("--publish", action="store_true", help="run nothing; write docs/ from what has finished")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
