"""BIG-bench navigate on a real model: graphs of 1, 3, 5 and 7 calls from scratch, and 3 -> 5 -> 7 grown.

    neuromas base get smollm2-135m
    python -m benchmarks.navigate_evidence --data bigbench --arms single scratch-3 --seeds 0 --out runs/navigate

``--data`` is a folder with BIG-bench's questions as navigate.train.jsonl and navigate.test.jsonl: one "question" and
one "answer", True or False, a line. Every arm of every seed is one `neuromas train`. Finished arms are lines of
``<out>/records.jsonl`` and are skipped when the command is given again; a broken-off run is resumed. Two rules that do
not navigate stand beside the arms, scored on the same test questions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.navigate_arms import ARMS, STUDY, TITLES, Document, Row, arm_spec, measured_rows, rules, write_data
from benchmarks.pages import replace_table
from benchmarks.real_arms import missing
from benchmarks.real_evidence import PAGE, train_recorded
from benchmarks.sweep import listed, read_records, spread
from neuromas.journal.folder import REWARDS_FILE
from neuromas.report.numbers import count
from neuromas.training.statistics import wilson_interval

FIGURES: Final = Path("docs/evidence/navigate.json")
_ENDS: Final = 6
"""Steps at either end of a run whose mean rewards are shown."""
_TITLES: Final = (
    "BIG-bench navigate",
    "nodes",
    "seeds",
    "greedy",
    "95 %",
    "says Yes",
    "sampled",
    "untrained, greedy",
    "untrained, sampled",
    f"reward, first {_ENDS} steps",
    f"last {_ENDS}",
    "rollouts",
    "calls",
    "tokens",
    "minutes",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table; returns the exit code."""
    options = _parser().parse_args(argv)
    worked = write_data(options.data, options.out)
    failed = 0
    if not options.publish:
        wanted = missing(read_records(options.out), [STUDY], options.arms, options.seeds)
        rows = measured_rows(options.out)
        failed = train_recorded(
            wanted,
            lambda _, arm, seed: arm_spec(arm, seed, worked),
            options.out,
            lambda folder: {"yes": said_yes(json.loads((folder / REWARDS_FILE).read_text())["greedy"], rows)},
        )
    records = read_records(options.out)
    shown = table(records, rules(options.data, options.out))
    print(shown)
    if options.publish:
        FIGURES.write_text(listed(records), encoding="utf-8")
        replace_table(PAGE, STUDY, shown)
    return 1 if failed else 0


def said_yes(rewards: Sequence[float], rows: Sequence[Row]) -> float:
    """Return the share of questions whose answer was Yes: paid for where that is right, else not paid for."""
    return sum((reward == 1) == (row["answer"] == "Yes") for reward, row in zip(rewards, rows, strict=True)) / len(rows)


def table(records: Sequence[Document], rules: Mapping[str, float]) -> str:
    """Return rules and arms as a Markdown table, in percent.

    Several seeds are a mean with the lowest and highest; the interval is of all their answers together.

    Args:
        records: finished runs.
        rules: by title, the share of the test questions that a rule answers right.
    """
    lines = [f"| {' | '.join(_TITLES)} |", f"|{'---|' * len(_TITLES)}"]
    for title, right in rules.items():
        lines.append(f"| {title} | - | - | {100 * right:.1f} |{' - |' * (len(_TITLES) - 4)}")
    done = {arm: [row for row in records if row["arm"] == arm] for arm in ARMS}
    lines += [f"| {' | '.join(_cells(arm, rows))} |" for arm, rows in done.items() if rows]
    return "\n".join(lines)


def _cells(arm: str, rows: Sequence[Document]) -> list[str]:
    asked = sum(row["examples"] for row in rows)
    interval = wilson_interval(sum(row["greedy"] * row["examples"] for row in rows), asked)
    rows = sorted(rows, key=lambda row: int(row["seed"]))
    steps = [[reward for stage in row["rewards"] for reward in stage] for row in rows]
    return [
        TITLES[arm],
        "/".join(dict.fromkeys(str(row["nodes"]) for row in rows)),
        ", ".join(str(row["seed"]) for row in rows),
        spread([row["greedy"] for row in rows]),
        f"{100 * interval.low:.1f} to {100 * interval.high:.1f}",
        *(spread([row[how] for row in rows]) for how in ("yes", "sampled", "untrained", "untrained_sampled")),
        spread([statistics.mean(own[:_ENDS]) for own in steps]),
        spread([statistics.mean(own[-_ENDS:]) for own in steps]),
        *(count(round(statistics.mean(row[key] for row in rows))) for key in ("rollouts", "calls", "tokens")),
        f"{statistics.mean(row['seconds'] for row in rows) / 60:.1f}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with navigate.train.jsonl and .test.jsonl")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/navigate"), help="folder of data, specs, logs, runs")
    parser.add_argument("--publish", action="store_true", help="run nothing; write docs/ from what has finished")
    return parser


if __name__ == "__main__":
    sys.exit(main())
