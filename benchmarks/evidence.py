"""The README's figures: the quickstart and its baselines over several seeds, as documents, a table and a picture.

Finished runs in the output folder are used as they are, so a broken-off call is simply repeated.

    python -m benchmarks.evidence [--seeds 0 1 2] [--jobs 2] [--out runs/evidence] [--docs docs]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.pages import replace_table
from neuromas.display.runs import RunsDisplay
from neuromas.report.data import RunData
from neuromas.report.graph import draw_trained
from neuromas.report.numbers import count
from neuromas.studies.compare import (
    ArmGroup,
    Document,
    job_name,
    make_group,
    run_titles,
    with_local_runtime,
    write_comparison,
)
from neuromas.studies.demo import example
from neuromas.studies.side_by_side import run_side_by_side

README = Path("README.md")
HEAD = "| {title} | greedy | sampled | nodes | trained parameters | rollouts | node calls |"
RULE = "|---|---|---|---|---|---|---|"


def make_groups(seeds: Sequence[int]) -> list[ArmGroup]:
    return [make_group(example("quickstart"), seeds=seeds, title="Chains of 5 hops")]


def markdown(document: Document) -> str:
    """Return the groups as Markdown tables: means over seeds, the lowest and highest seed in brackets."""
    tables = []
    for group in document["groups"]:
        rows = [_row(arm) for arm in group["arms"]]
        title = f"{group['title']}; seeds {', '.join(map(str, group['seeds']))}"
        tables.append("\n".join([HEAD.format(title=title), RULE, *rows]))
    return "\n\n".join(tables)


def _row(arm: Document) -> str:
    figures = (count(arm[key]) for key in ("nodes", "trainable_parameters", "rollouts", "calls"))
    cells = [f"{arm['title']}, {arm['note']}", _spread(arm, "greedy"), _spread(arm, "sampled"), *figures]
    return f"| {' | '.join(cells)} |"


def _spread(arm: Document, mode: str) -> str:
    values = [100 * run["accuracy"][mode]["value"] for run in arm["runs"] if mode in run["accuracy"]]
    if not values:
        return "-"
    return f"**{sum(values) / len(values):.1f}** ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    options = _parser().parse_args()
    console, groups = Console(stderr=True), make_groups(options.seeds)
    if options.finished:
        results = finished_results(options.out)
        document = write_comparison(options.out, "evidence", [_reduced(group, results) for group in groups], results)
        publish(document, options.out, options.docs)
        return
    specs = [with_local_runtime(job) for group in groups for job in group.jobs]
    with RunsDisplay(console, run_titles(groups)) as display:
        results = run_side_by_side(specs, options.out, display, options.jobs)
    document = write_comparison(options.out, "evidence", groups, results)
    publish(document, options.out, options.docs)
    print(markdown(document))


def finished_results(out: Path) -> dict[str, Document]:
    """Return the results of the runs that have finished, by name."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))}


def _reduced(group: ArmGroup, results: Mapping[str, Document]) -> ArmGroup:
    """Return the group with the seeds whose first arm has finished, and the arms that have finished for all of them."""
    seeds = tuple(seed for seed in group.seeds if job_name(group.spec, group.arms[0], seed) in results)
    arms = tuple(arm for arm in group.arms if all(job_name(group.spec, arm, seed) in results for seed in seeds))
    return replace(group, seeds=seeds, arms=arms)


def publish(document: Document, out: Path, docs: Path) -> None:
    """Write the comparison, the README's table and a picture of the graph, from the seed that learned it best."""
    (docs / "evidence").mkdir(parents=True, exist_ok=True)
    (docs / "evidence" / "comparison.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    picture = docs / "assets" / "trained-graph.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    runs = document["groups"][0]["arms"][0]["runs"]
    best = max(runs, key=lambda run: run["accuracy"]["sampled"]["value"])
    picture.write_text(draw_trained(RunData.read(out / best["folder"])) + "\n", encoding="utf-8")
    replace_table(README, "evidence", markdown(document))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    parser.add_argument("--finished", action="store_true", help="run nothing; publish the runs that have finished")
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"), help="folder of the runs")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of documents and the picture")
    return parser


if __name__ == "__main__":
    main()
