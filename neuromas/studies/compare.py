"""compare(): trains the arms of a comparison and puts their figures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from neuromas.errors import Fault, SpecError
from neuromas.journal.folder import RunFolder
from neuromas.report.data import COMPARISON_FILE
from neuromas.report.page import write_report
from neuromas.spec.run import RunSpec
from neuromas.studies.arms import Arm, arm, default_arms
from neuromas.studies.side_by_side import RunsObserver, run_side_by_side

Document = dict[str, Any]
_MODES = {"greedy": "untrained", "sampled": "untrained_sampled"}


@dataclass(frozen=True, slots=True)
class Group:
    """Arms made from one spec, which may be compared with each other."""

    title: str
    spec: RunSpec
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]

    @property
    def jobs(self) -> tuple[RunSpec, ...]:
        """The runs of the group, the arms of one seed after those of the one before."""
        return tuple(self.job(entry, seed) for seed in self.seeds for entry in self.arms if entry.make is not None)

    def job(self, entry: Arm, seed: int) -> RunSpec:
        """Return the spec of one arm and seed, named after both."""
        assert entry.make is not None
        made = entry.make(self.spec)
        return made.model_copy(update={"name": job_name(self.spec, entry, seed), "seed": seed})


def job_name(spec: RunSpec, entry: Arm, seed: int) -> str:
    """Return the name of the run of one arm and seed; an untrained graph is read off the trained one's run."""
    name = "graph" if entry.make is None else entry.name
    return f"{spec.name}-{name}-s{seed}"


def compare(group: Group, out: Path, on_event: RunsObserver, jobs: int = 1) -> Document:
    """Train the arms of a group, write ``comparison.json`` and ``report.html`` into ``out`` and return the document.

    Args:
        group: what is compared.
        out: folder of the comparison and its runs; finished runs in it are used as they are.
        on_event: told the events of all runs.
        jobs: runs at a time. More than one run on the "local" runtime, one core each.

    Raises:
        SpecError: an arm cannot be made from the spec.
        SideBySideError: a run failed.
    """
    specs = [with_local_runtime(job) if jobs > 1 else job for job in group.jobs]
    return write_comparison(out, group.spec.name, [group], run_side_by_side(specs, out, on_event, jobs))


def make_group(spec: RunSpec, arms: Sequence[str] = (), seeds: Sequence[int] = (), title: str = "") -> Group:
    """Return the group of the named arms.

    Raises:
        SpecError: an arm is unknown, or "untrained" is asked for without "graph".
    """
    names = tuple(arms) or default_arms(spec)
    if "untrained" in names and "graph" not in names:
        message = "'untrained' is read off the run of 'graph'; name both"
        raise SpecError("the comparison cannot run", [Fault("arms", message)])
    return Group(title or spec.name, spec, tuple(map(arm, names)), tuple(seeds) or (spec.seed,))


def run_titles(groups: Sequence[Group]) -> dict[str, tuple[str, int]]:
    """Return, for the display, each run's title and number of optimizer steps by its name."""
    titles = {}
    for group in groups:
        for seed in group.seeds:
            for entry in group.arms:
                if entry.make is not None:
                    job = group.job(entry, seed)
                    suffix = f", seed {seed}" if len(group.seeds) > 1 else ""
                    titles[job.name] = (entry.title + suffix, job.training.steps)
    return titles


def with_local_runtime(spec: RunSpec) -> RunSpec:
    """Return the spec with everything in the process that runs it."""
    runtime = spec.runtime.model_copy(update={"type": "local", "rollout_workers": 1, "learner_workers": 1})
    return spec.model_copy(update={"runtime": runtime})


def write_comparison(out: Path, name: str, groups: Sequence[Group], results: Mapping[str, Document]) -> Document:
    """Write the document and the report of a comparison and return the document."""
    document = {
        "name": name,
        "groups": [
            {
                "title": group.title,
                "base": group.spec.base,
                "task": group.spec.task.model_dump(mode="json"),
                "seeds": list(group.seeds),
                "arms": [_arm_document(group, entry, results) for entry in group.arms],
            }
            for group in groups
        ],
    }
    RunFolder(out).write_json(COMPARISON_FILE, document)
    write_report(out)
    return document


def _arm_document(group: Group, entry: Arm, results: Mapping[str, Document]) -> Document:
    runs = [_run_document(entry, seed, job_name(group.spec, entry, seed), results) for seed in group.seeds]
    document: Document = {"arm": entry.name, "title": entry.title, "note": entry.note, "runs": runs}
    for key in ("nodes", "trainable_parameters", "steps", "rollouts", "calls", "tokens"):
        document[key] = round(fmean(run[key] for run in runs))
    return document


def _run_document(entry: Arm, seed: int, name: str, results: Mapping[str, Document]) -> Document:
    result = results[name]
    accuracy, spending = result["accuracy"], result["spending"]
    is_trained = entry.make is not None
    keys = {mode: mode if is_trained else untrained for mode, untrained in _MODES.items()}
    return {
        "seed": seed,
        "folder": name,
        "accuracy": {mode: accuracy[key] for mode, key in keys.items() if key in accuracy},
        "seconds": result["seconds"]["total"],
        "nodes": len(result["topology"]["nodes"]),
        "trainable_parameters": result["trainable_parameters"] if is_trained else 0,
        "steps": result["steps"] if is_trained else 0,
        **{key: spending[key] if is_trained else 0 for key in ("rollouts", "calls", "tokens")},
    }
