"""The demo: the quickstart graph, its baselines, and growth beside the same size from scratch, on one machine."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console

import neuromas
from neuromas.display.console import fitted
from neuromas.display.runs import RunsDisplay
from neuromas.spec.load import load_spec
from neuromas.spec.run import RunSpec
from neuromas.studies.arms import final_topology
from neuromas.studies.compare import ArmGroup, make_group, run_titles, with_local_runtime, write_comparison
from neuromas.studies.side_by_side import run_side_by_side

DEMO_FOLDER = "demo"
_EXAMPLES = Path(neuromas.__file__).with_name("examples")


def demo(out: Path, console: Console, jobs: int = 2) -> dict[str, Any]:
    """Run the demo, write its comparison and report, and return the comparison as a document.

    The first graph trains on the default runtime (Ray actors); the others run beside and after it, one process each.
    Runs that a broken-off demo has finished are kept.

    Args:
        out: folder of runs; the demo's own is ``demo`` in it.
        console: for progress.
        jobs: runs at a time.
    """
    folder = out / DEMO_FOLDER
    groups = demo_groups()
    specs = demo_specs(groups)
    console.print(fitted(_INTRODUCTION.format(runs=len(specs), folder=folder), console), highlight=False, markup=False)
    with RunsDisplay(console, run_titles(groups)) as display:
        results = run_side_by_side(specs, folder, display, jobs)
    return write_comparison(folder, "demo", groups, results)


def demo_groups() -> tuple[ArmGroup, ...]:
    """Return the two comparisons of the demo."""
    growth = example("growth")
    size = len(final_topology(growth).nodes)
    return (
        make_group(example("quickstart"), title="Chains of 5 hops: 5 nodes and their baselines"),
        make_group(growth, ("grown", "scratch"), title=f"Chains of 7 hops: grown to {size} nodes, and from scratch"),
    )


def demo_specs(groups: tuple[ArmGroup, ...]) -> list[RunSpec]:
    """Return the runs: the first as it is, on Ray; the others in one process each.

    The groups take turns: two processes then share the calls about equally.
    """
    turns = zip_longest(*(group.jobs for group in groups))
    first, *others = [job for turn in turns for job in turn if job is not None]
    return [first, *map(with_local_runtime, others)]


def example(name: str) -> RunSpec:
    """Return a run of the examples that ship with the package."""
    return load_spec(_EXAMPLES / f"{name}.toml")


_INTRODUCTION = """\
NeuroMAS demo: {runs} runs on the shipped tiny base, two at a time.
The first graph is trained after about a minute and a half, everything after about four. Runs: {folder}
"""
