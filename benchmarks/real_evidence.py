"""Growth on a real language model: graphs grown with the number of digits they add, beside what else one would train.

    neuromas base get smollm2-135m
    python -m benchmarks.real_evidence --studies two --seeds 0 1 2 --out runs/real

Every arm of every seed is one `neuromas train` on one core. Finished arms are lines of `<out>/records.jsonl` and are
skipped when the command is given again; a broken-off run is resumed. Rewards are those of training rollouts, each
sampled before its step's update: the first of a stage is that of the graph as it was grown. Accuracies are of test
questions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.pages import replace_table
from benchmarks.real_arms import ARMS, STUDIES, TITLES, Document, RealStudy, arm_spec, missing, write_data
from benchmarks.sweep import RECORDS_FILE, listed, read_records, rewards, spread
from benchmarks.training_run import train
from neuromas.report.numbers import count

PAGE = Path("docs/evidence/real.md")
FIGURES = Path("docs/evidence/real.json")
_LAST = 4
"""Steps at the end of a run whose mean reward is shown."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the tables; returns the exit code."""
    options = _parser().parse_args(argv)
    failed = 0 if options.publish else run_missing(options)
    records = read_records(options.out)
    print("\n\n".join(table(records, study) for study in STUDIES))
    if options.publish:
        FIGURES.write_text(listed(records), encoding="utf-8")
        for study in STUDIES:
            replace_table(PAGE, f"real-{study}", table(records, study))
    return 1 if failed else 0


def run_missing(options: argparse.Namespace) -> int:
    """Train the arms that have no record; returns how many failed."""
    write_data(options.out)
    wanted = missing(read_records(options.out), options.studies, options.arms, options.seeds)
    return train_recorded(wanted, arm_spec, options.out)


def train_recorded(
    wanted: Iterable[tuple[str, str, int]],
    spec_of: Callable[[str, str, int], Document],
    out: Path,
    more: Callable[[Path], Document] = lambda _: {},
) -> int:
    """Train arms, each of a study and with a seed, and add a record of each to ``out``; returns how many failed.

    Args:
        wanted: study, arm and seed of each.
        spec_of: their run specs.
        out: folder of the runs and the records.
        more: what else a record keeps, from the folder of its run.
    """
    failed = 0
    for study, arm, seed in wanted:
        spec = spec_of(study, arm, seed)
        result = train(spec, out)
        if result is None:
            failed += 1
            continue
        run, folder = {"study": study, "arm": arm, "seed": seed}, out / "runs" / spec["name"]
        record = run | summarize(result, rewards(folder / "metrics.jsonl")) | more(folder)
        with (out / RECORDS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{spec['name']}: sampled {record['sampled']:.3f}, {record['seconds']:.0f} s", flush=True)
    return failed


def summarize(result: Mapping[str, Any], by_stage: Sequence[Sequence[float]]) -> Document:
    """Return what the evidence keeps of a run's result.json and the rewards of its steps."""
    accuracy, spending = result["accuracy"], result["spending"]
    return {
        "nodes": len(result["topology"]["nodes"]),
        "trained": result["trainable_parameters"],
        "examples": accuracy["greedy"]["examples"],
        **{
            how: accuracy[how]["value"]
            for how in ("greedy", "sampled", "untrained", "untrained_sampled", "voted")
            if how in accuracy
        },
        "rewards": [list(stage) for stage in by_stage],
        "rollouts": spending["rollouts"],
        "calls": spending["calls"],
        "tokens": spending["prompt_tokens"] + spending["generated_tokens"],
        "seconds": result["seconds"]["total"],
        "versions": result["versions"],
    }


def table(records: Sequence[Document], study: str) -> str:
    """Return a study as a Markdown table: an arm a row, means over seeds with the lowest and highest, in percent."""
    about = STUDIES[study]
    titles = (
        f"sums of {about.levels[-1]} digits, questions {_kind(about)}",
        "nodes",
        "seeds",
        "greedy",
        "sampled",
        "vote",
        "reward, first step of the last stage",
        f"reward, last {_LAST} steps",
        "rollouts",
        "calls",
        "tokens",
    )
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for arm in ARMS:
        rows = [row for row in records if (row["study"], row["arm"]) == (study, arm)]
        if rows:
            lines.append(f"| {' | '.join(_cells(arm, sorted(rows, key=lambda row: int(row['seed']))))} |")
    if len(lines) == 2:
        return f"{titles[0][0].upper()}{titles[0][1:]}: no run has finished."
    return "\n".join(lines)


def _kind(study: RealStudy) -> str:
    if study.names:
        return "stay and say how many numbers count"
    return "stay" if study.stays else "grow"


def _cells(arm: str, rows: Sequence[Document]) -> list[str]:
    voted = [row["voted"] for row in rows if "voted" in row]
    return [
        TITLES[arm],
        "/".join(dict.fromkeys(str(row["nodes"]) for row in rows)),
        ", ".join(str(row["seed"]) for row in rows),
        spread([row["greedy"] for row in rows]),
        spread([row["sampled"] for row in rows]),
        spread(voted) if voted else "-",
        spread([row["rewards"][-1][0] for row in rows]),
        spread([statistics.mean(row["rewards"][-1][-_LAST:]) for row in rows]),
        *(count(round(statistics.mean(row[key] for row in rows))) for key in ("rollouts", "calls", "tokens")),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/real"), help="folder of data, specs, logs, runs, records"
    )
    parser.add_argument("--publish", action="store_true", help="run nothing; write docs/ from what has finished")
    return parser


if __name__ == "__main__":
    sys.exit(main())
