"""compare(): trains the arms of a comparison and puts their figures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from neuromas.errors import Fault, SpecError
from neuromas.journal.folder import REWARDS_FILE, RunFolder
from neuromas.report.data import COMPARISON_FILE
from neuromas.report.page import write_report
from neuromas.spec.machine import RuntimeSpec
from neuromas.spec.run import RunSpec
from neuromas.studies.arms import Arm, arm, default_arms
from neuromas.studies.side_by_side import RunsObserver, run_side_by_side
from neuromas.training.statistics import paired_test

Document = dict[str, Any]
Rewards = Mapping[str, Sequence[float]]
"""Figure -> reward of every test question, in their order."""


@dataclass(frozen=True, slots=True)
class ArmGroup:
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
    """Return the name of the run of one arm and seed, or of the run that the arm is read off."""
    return f"{spec.name}-{entry.of or entry.name}-s{seed}"


def compare(group: ArmGroup, out: Path, on_event: RunsObserver, jobs: int = 1) -> Document:
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


def make_group(spec: RunSpec, arms: Sequence[str] = (), seeds: Sequence[int] = (), title: str = "") -> ArmGroup:
    """Return the group of the named arms.

    Raises:
        SpecError: an arm is unknown, or asked for without the one whose run it is read off.
    """
    chosen = tuple(map(arm, tuple(arms) or default_arms(spec)))
    for entry in chosen:
        if entry.of and entry.of not in [other.name for other in chosen]:
            message = f"{entry.name!r} is read off the run of {entry.of!r}; name both"
            raise SpecError("the comparison cannot run", [Fault("arms", message)])
    return ArmGroup(title or spec.name, spec, chosen, tuple(seeds) or (spec.seed,))


def run_titles(groups: Sequence[ArmGroup]) -> dict[str, tuple[str, int]]:
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
    return spec.model_copy(update={"runtime": RuntimeSpec(type="local")})


def write_comparison(out: Path, name: str, groups: Sequence[ArmGroup], results: Mapping[str, Document]) -> Document:
    """Write the document and the report of a comparison and return the document."""
    document = {
        "name": name,
        "groups": [
            {
                "title": group.title,
                "base": group.spec.base,
                "task": group.spec.task.model_dump(mode="json"),
                "seeds": list(group.seeds),
                "arms": [_arm_document(group, entry, results, out) for entry in group.arms],
            }
            for group in groups
        ],
    }
    RunFolder(out).write_json(COMPARISON_FILE, document)
    write_report(out)
    return document


def _arm_document(group: ArmGroup, entry: Arm, results: Mapping[str, Document], out: Path) -> Document:
    runs = [_run_document(group, entry, seed, results) for seed in group.seeds]
    document: Document = {"arm": entry.name, "title": entry.title, "note": entry.note, "of": entry.of, "runs": runs}
    for key in ("nodes", "calls_per_answer", "trainable_parameters", "steps", "rollouts", "calls", "tokens"):
        document[key] = round(fmean(run[key] for run in runs))
    document["seconds"] = fmean(run["seconds"] for run in runs)
    document["against"] = {} if entry == group.arms[0] else _against(group, entry, out)
    return document


def _run_document(group: ArmGroup, entry: Arm, seed: int, results: Mapping[str, Document]) -> Document:
    name = job_name(group.spec, entry, seed)
    result = results[name]
    accuracy, spending, is_trained = result["accuracy"], result["spending"], entry.is_trained
    nodes = len(result["topology"]["nodes"])
    return {
        "seed": seed,
        "folder": name,
        "accuracy": {mode: accuracy[key] for mode, key in entry.reads.items() if key in accuracy},
        "seconds": result["seconds"]["total"] if is_trained else 0.0,
        "nodes": nodes,
        "calls_per_answer": len(group.spec.topology.nodes) if entry.is_vote else nodes,
        "trainable_parameters": result["trainable_parameters"] if is_trained else 0,
        "steps": result["steps"] if is_trained else 0,
        **{key: spending[key] if is_trained else 0 for key in ("rollouts", "calls", "tokens")},
    }


def _against(group: ArmGroup, entry: Arm, out: Path) -> dict[str, Document]:
    """Return, by column, the paired test of an arm against the first one, question by question.

    With several seeds, each question's rewards are first averaged over them: answers of different seeds to one
    question are not independent.
    """
    first, found = group.arms[0], {}
    for mode, figure in entry.reads.items():
        before = _by_question(group, first, first.reads.get(mode, ""), out)
        after = _by_question(group, entry, figure, out)
        if before and len(before) == len(after):
            found[mode] = asdict(paired_test(before, after))
    return found


def _by_question(group: ArmGroup, entry: Arm, figure: str, out: Path) -> list[float]:
    """Return the mean reward of each test question over the seeds; nothing where a run did not record it."""
    runs = [_rewards(out / job_name(group.spec, entry, seed)).get(figure, ()) for seed in group.seeds]
    return [fmean(rewards) for rewards in zip(*runs, strict=True)] if len({*map(len, runs)}) == 1 else []


def _rewards(folder: Path) -> Rewards:
    if not (folder / REWARDS_FILE).is_file():
        return {}
    rewards: Rewards = RunFolder(folder).read_json(REWARDS_FILE)
    return rewards
