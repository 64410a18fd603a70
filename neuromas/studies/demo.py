"""The demo: the quickstart graph, its baselines, and growth beside the same size from scratch, on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace
from itertools import permutations
from pathlib import Path
from typing import Any

from rich.console import Console

from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.studies.arms import final_topology
from neuromas.studies.compare import Group, make_group, run_titles, with_local_runtime, write_comparison
from neuromas.studies.display import RunsDisplay
from neuromas.studies.lanes import run_side_by_side

DEMO_FOLDER = "demo"
_TRAINING = {"prompts_per_step": 24, "group_size": 8, "learning_rate": 1e-2}
# The same runs as examples/quickstart.toml and examples/growth.toml, which a test holds equal: an installed package
# has no examples folder.
QUICKSTART = {
    "name": "quickstart",
    "seed": 0,
    "topology": {"chain": 5},
    "task": {"type": "chain", "hops": 5},
    "adapter": {"rank": 1},
    "training": {"steps": 60, **_TRAINING},
}
GROWTH = {
    "name": "growth",
    "seed": 0,
    "topology": {"chain": 3},
    "task": {"type": "chain", "hops": 7, "cycles": "any"},
    "training": {"steps": 60, **_TRAINING},
    "growth": {
        "levels": [3, 5, 7],
        "plans": [{"edits": [{"edit": "append", "layers": [1, 1]}], "inherit": {"new": "fresh"}}],
        "trigger": {"type": "threshold", "accuracy": 0.95, "every": 5, "examples": 128, "min_steps": 10},
        "max_steps_per_level": 45,
    },
}


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
    specs = demo_specs(groups, jobs)
    console.print(_INTRODUCTION.format(runs=len(specs), folder=folder), highlight=False)
    with RunsDisplay(console, run_titles(groups)) as display:
        results = run_side_by_side(specs, folder, display, jobs)
    return write_comparison(folder, "demo", groups, results)


def demo_groups() -> tuple[Group, ...]:
    """Return the two comparisons of the demo."""
    quickstart, growth = parse_run_spec(QUICKSTART), parse_run_spec(GROWTH)
    size = len(final_topology(growth).nodes)
    return (
        make_group(quickstart, title="Chains of 5 hops: 5 nodes and their baselines"),
        make_group(growth, ("grown", "scratch"), title=f"Chains of 7 hops: grown to {size} nodes, and from scratch"),
    )


def demo_specs(groups: tuple[Group, ...], jobs: int = 2) -> list[RunSpec]:
    """Return the runs: the first as it is, on Ray; the others in one process each, in the order that ends soonest.

    Args:
        groups: what is compared.
        jobs: runs at a time.
    """
    first, *others = [job for group in groups for job in group.jobs]
    best = min(permutations(others), key=lambda order: _expected_end([first, *order], jobs))
    return [first, *map(with_local_runtime, best)]


def _expected_end(specs: Sequence[RunSpec], jobs: int) -> int:
    """Return when the last run ends, in expected calls, if each begins as soon as one of ``jobs`` places is free."""
    free_at = [0] * jobs
    for spec in specs:
        heapreplace(free_at, free_at[0] + _expected_calls(spec))
    return max(free_at)


def _expected_calls(spec: RunSpec) -> int:
    """Return about how many calls a run makes per example; a graph that grows is nearly full-sized most of the time."""
    graph = spec.topology if spec.growth is None else final_topology(spec)
    return len(graph.nodes) * spec.training.steps


_INTRODUCTION = """\
[bold]NeuroMAS demo[/bold]: {runs} runs on the shipped tiny base, real vLLM rollouts, two at a time.
The first graph is trained after about a minute and a half, everything after about four. Runs: {folder}
"""
