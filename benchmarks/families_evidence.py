"""How well each family of adapters learns, by how many numbers it trains: `make evidence-families`.

    python -m benchmarks.families_evidence --studies chain --seeds 0 1 2 --out runs/families

Each arm is `neuromas train` on the shipped base. Its learning rate is swept on the first seed, by the sampled accuracy
on validation questions, until the best one lies between two others; the other seeds take that rate. All figures are of
test questions. Finished runs are lines of `<out>/records.jsonl` and are not run again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import error_figure, family_figure
from benchmarks.family_arms import ARMS, STUDIES, Document, arm_spec
from benchmarks.family_figure import RateSeries
from benchmarks.pages import replace_table
from benchmarks.power_law import fit
from benchmarks.rates import next_rate
from benchmarks.sweep import Study, chosen, listed, read_records, run_missing, spread, tried_rates

PAGE = Path("docs/evidence/families.md")
SYSTEMS: Final = {"graph": "unilora", "one node": "single"}
"""What is compared at equal trained numbers: the system and the arms that are sizes of it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the tables; returns the exit code."""
    options = _parser().parse_args(argv)
    studies = [study_of(name, options.arms) for name in options.studies]
    failed = 0 if options.publish else run_missing(studies, options.seeds, options.out)
    found = read_records(options.out)
    print("\n\n".join(table(found, study) for study in options.studies))
    if options.publish:
        publish(found)
    return 1 if failed else 0


def study_of(name: str, arms: Sequence[str] = tuple(ARMS)) -> Study:
    """Return a study with some arms: each is swept from rate to rate until the best lies between two others."""
    return Study(name, arms, partial(arm_spec, name), lambda _, tried: next_rate(tried))


def publish(records: Sequence[Document]) -> None:
    """Write the tables, the picture and the records into docs/."""
    Path("docs/evidence/families.json").write_text(listed(records), encoding="utf-8")
    for study in STUDIES:
        if any(record["study"] == study for record in records):
            replace_table(PAGE, f"families-{study}", table(records, study))
            by_system = {name: errors(records, study, family) for name, family in SYSTEMS.items()}
            pictures = {"": family_figure.draw(series(records, study)), "-error": error_figure.draw(by_system)}
            for which, picture in pictures.items():
                Path(f"docs/assets/families-{study}{which}.svg").write_text(picture + "\n", encoding="utf-8")


def table(records: Sequence[Document], study: str) -> str:
    """Return a study as a Markdown table: an arm a row, means over seeds with the lowest and highest, in percent."""
    lines = [
        "| adapter | trained numbers, all nodes | rate | seeds | sampled | greedy |",
        "|---|---|---|---|---|---|",
    ]
    for arm in ARMS:
        if rows := chosen(records, study, arm):
            seeds = ", ".join(str(row["seed"]) for row in rows)
            is_swept = next_rate(tried_rates(records, study, arm)) is None
            rate = f"{rows[0]['rate']:g}{'' if is_swept else ', sweep goes on'}"
            cells = [arm, f"{rows[0]['trained']:,}", rate, seeds]
            cells += [spread([row[mode] for row in rows]) for mode in ("sampled", "greedy")]
            lines.append(f"| {' | '.join(cells)} |")
    for name, family in SYSTEMS.items():
        if law := fit(errors(records, study, family)):
            lines += ["", f"Slope of log error over log numbers, {name} of Uni-LoRA: {law}."]
    return "\n".join(lines)


def errors(records: Sequence[Document], study: str, family: str) -> list[tuple[float, float]]:
    """Return (trained numbers, error of sampled answers) of a family's runs; no error counts as half a question."""
    rows = (row for rows in _swept(records, study, family) for row in rows)
    return [(row["trained"], max(1 - row["sampled"], 0.5 / 512)) for row in rows]


def series(records: Sequence[Document], study: str) -> Iterator[RateSeries]:
    """Yield a line for each family: trained numbers of all nodes against sampled accuracy."""
    for family in dict.fromkeys(arm.partition("-")[0] for arm in ARMS):
        points = []
        for rows in _swept(records, study, family):
            values = [row["sampled"] for row in rows]
            points.append((rows[0]["trained"], statistics.mean(values), min(values), max(values)))
        if points:
            yield RateSeries(family, tuple(sorted(points)))


def _swept(records: Sequence[Document], study: str, family: str) -> Iterator[list[Document]]:
    """Yield the chosen runs of each size of a family whose sweep has ended."""
    for arm in ARMS:
        rows = chosen(records, study, arm) if arm.startswith(f"{family}-") else []
        if rows and next_rate(tried_rates(records, study, arm)) is None:
            yield rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", nargs="+", choices=list(STUDIES), default=list(STUDIES), metavar="STUDY")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="the first one sweeps the rates")
    parser.add_argument("--out", type=Path, default=Path("runs/families"), help="folder of runs and records")
    parser.add_argument("--publish", action="store_true", help="run nothing; write docs/ from what has finished")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
