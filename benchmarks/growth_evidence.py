"""What growth gains, and against what: grown graphs beside graphs from scratch and beside the small parent.

    python -m benchmarks.growth_evidence --families chain7 --seeds 0 1 2 --arms grown scratch parent --out results

Every arm of every seed is one `neuromas train` of its own, one after the other. Finished arms are lines of
`<out>/records.jsonl` and are skipped when the script is started again; a broken-off run is resumed. The table at the
end has means and ranges over seeds, in rollouts and in calls.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.growth_arms import ARMS, FAMILIES, NEEDS_GROWN, Document, GrownArm, arm_spec
from benchmarks.pages import replace_table
from benchmarks.training_run import train
from neuromas.report.numbers import count

README = Path("README.md")
README_ARMS = {
    "grown": "grown 3 → 5 → 7 nodes, in step with the task's levels",
    "scratch": "7 nodes from scratch, 7 hops all along",
    "scratch-levels": "7 nodes from scratch, the same levels",
    "parent": "3 nodes, 7 hops all along",
    "parent-levels": "3 nodes, the same levels",
    "parent-calls": "3 nodes, as many node calls as the grown graph",
}

RECORDS_FILE = "records.jsonl"
MAIN_ARMS = ("grown", "scratch", "parent", "scratch-levels", "parent-levels", "parent-calls")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print the table; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.publish:
        publish([record for folder in options.publish for record in read_records(folder / RECORDS_FILE)])
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for family, seed, arm in _missing(options):
        failed += not run_arm(family, arm, seed, options)
    print(table(read_records(options.out / RECORDS_FILE)))
    return 1 if failed else 0


def run_arm(family: str, arm: str, seed: int, options: argparse.Namespace) -> bool:
    """Train one arm in a process of its own and record it; returns whether that worked."""
    grown = _grown_of(family, seed, read_records(options.out / RECORDS_FILE))
    if arm in NEEDS_GROWN and grown is None:
        print(f"skipped {family} {arm} seed {seed}: the grown arm of this seed has not finished", file=sys.stderr)
        return False
    spec = arm_spec(family, arm, seed, grown)
    result = train(spec, options.out, options.set)
    if result is None:
        return False
    record = {"family": family, "arm": arm, "seed": seed} | summarize(result)
    with (options.out / RECORDS_FILE).open("a") as records:
        records.write(json.dumps(record) + "\n")
    print(_progress(record), flush=True)
    return True


def summarize(result: Mapping[str, Any]) -> Document:
    """Return what the evidence keeps of a run's result.json."""
    spending = result["spending"]
    return {
        "greedy": result["accuracy"]["greedy"]["value"],
        "sampled": result["accuracy"]["sampled"]["value"],
        "examples": result["accuracy"]["greedy"]["examples"],
        "nodes": len(result["topology"]["nodes"]),
        "level": result["level"],
        "stages": [
            {key: stage[key] for key in ("name", "nodes", "level", "steps", "reason", "accuracy")}
            for stage in result["stages"]
        ],
        "steps": result["steps"],
        "rollouts": spending["rollouts"],
        "calls": spending["calls"],
        "tokens": spending["prompt_tokens"] + spending["generated_tokens"],
        "generated_tokens": spending["generated_tokens"],
        "seconds": result["seconds"]["total"],
        "versions": result["versions"],
    }


def read_records(path: Path) -> list[Document]:
    """Return the finished arms of a records file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def publish(records: Sequence[Document]) -> None:
    """Write the records and their tables into docs/, and the main one into the README.

    What was published of the same runs is replaced, everything else stays.
    """
    place = Path("docs/evidence/growth.json")
    before = json.loads(place.read_text(encoding="utf-8")) if place.exists() else []
    records = merged([*before, *records])
    place.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    replace_table(Path("docs/evidence/growth.md"), "growth", table(records))
    main_rows = [row for row in records if row["family"] == "chain7" and row["arm"] in README_ARMS]
    replace_table(README, "growth", readme_table(main_rows))


def merged(records: Sequence[Document]) -> list[Document]:
    """Return the records in order of family, arm and seed; of the same run the last one."""
    by_run = {(row["family"], list(ARMS).index(row["arm"]), row["seed"]): row for row in records}
    return [by_run[key] for key in sorted(by_run)]


def readme_table(rows: Sequence[Document]) -> str:
    """Return the main arms of the chain as a short table: mean, lowest and highest seed, in percent."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"| Chains of 7 hops; seeds {', '.join(map(str, seeds))} | greedy | sampled | nodes | rollouts | node calls |",
        "|---|---|---|---|---|---|",
    ]
    for arm, title in README_ARMS.items():
        own = [row for row in rows if row["arm"] == arm]
        if own:
            nodes = "/".join(dict.fromkeys(str(row["nodes"]) for row in own))
            sizes = (count(round(statistics.mean(row[key] for row in own))) for key in ("rollouts", "calls"))
            fewer = "" if len(own) == len(seeds) else f" ({len(own)} seeds)"
            cells = [title + fewer, _percent(own, "greedy"), _percent(own, "sampled"), nodes, *sizes]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(rows: Sequence[Document], mode: str) -> str:
    values = [100 * row[mode] for row in rows]
    return f"**{statistics.mean(values):.1f}** ({min(values):.1f} to {max(values):.1f})"


def table(records: Sequence[Document]) -> str:
    """Return the records as a Markdown table per family, one row per arm, means with ranges over seeds."""
    blocks = []
    for family in FAMILIES:
        rows = [record for record in records if record["family"] == family]
        if not rows:
            continue
        steps = FAMILIES[family].training["steps"]
        lines = [
            (
                f"### {family}: levels {list(FAMILIES[family].levels)}, budget {steps} steps x "
                f"{FAMILIES[family].rollouts_per_step} rollouts"
            ),
            "",
            "| arm | nodes | seeds | greedy | by seed | sampled | rollouts | calls | tokens | stages (steps) |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [
            _row(arm, [row for row in rows if row["arm"] == arm])
            for arm in ARMS
            if any(row["arm"] == arm for row in rows)
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _row(arm: str, rows: Sequence[Document]) -> str:
    rows = sorted(rows, key=lambda row: row["seed"])
    greedy = [row["greedy"] for row in rows]
    stages = "; ".join("+".join(str(stage["steps"]) for stage in row["stages"]) for row in rows)
    cells = [
        arm,
        "/".join(dict.fromkeys(str(row["nodes"]) for row in rows)),
        ",".join(str(row["seed"]) for row in rows),
        f"{statistics.mean(greedy):.3f} ({min(greedy):.3f}-{max(greedy):.3f})",
        " ".join(f"{value:.3f}" for value in greedy),
        f"{statistics.mean(row['sampled'] for row in rows):.3f}",
        f"{statistics.mean(row['rollouts'] for row in rows) / 1e3:.1f}k",
        f"{statistics.mean(row['calls'] for row in rows) / 1e3:.0f}k",
        f"{statistics.mean(row['tokens'] for row in rows) / 1e6:.2f}M",
        stages,
    ]
    return f"| {' | '.join(cells)} |"


def _progress(record: Document) -> str:
    stages = ", ".join(f"{stage['level']}: {stage['steps']} -> {stage['accuracy']:.3f}" for stage in record["stages"])
    return (
        f"{record['family']} {record['arm']} seed {record['seed']}: greedy {record['greedy']:.3f} "
        f"sampled {record['sampled']:.3f}, {record['calls']} calls, {record['seconds']:.0f} s [{stages}]"
    )


def _missing(options: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Yield what is not recorded yet, the grown arm of a seed before the controls that need it."""
    done = {(row["family"], row["seed"], row["arm"]) for row in read_records(options.out / RECORDS_FILE)}
    for family in options.families:
        for seed in options.seeds:
            for arm in sorted(options.arms, key=lambda name: name in NEEDS_GROWN):
                if (family, seed, arm) not in done:
                    yield family, seed, arm


def _grown_of(family: str, seed: int, records: Sequence[Document]) -> GrownArm | None:
    for row in records:
        if (row["family"], row["seed"], row["arm"]) == (family, seed, "grown"):
            lengths = tuple(stage["steps"] for stage in row["stages"])
            return GrownArm(lengths, row["calls"]) if len(lengths) == len(FAMILIES[family].levels) else None
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=["chain7"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(MAIN_ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/growth"), help="folder of records, specs, logs and runs")
    parser.add_argument(
        "--publish",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="run nothing; write the records of folders into docs, beside those of other runs",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override for every run spec")
    return parser


if __name__ == "__main__":
    sys.exit(main())
