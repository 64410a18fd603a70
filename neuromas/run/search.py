"""Candidate growths tried side by side, each as one trial of Ray Tune. The only file of growth that knows Ray.

A candidate is one short stage: the parent's graph grown by a plan and trained from the parent's checkpoint, then
evaluated on the same validation questions as all others. The parent, trained on for as many rollouts, takes part as a
candidate without a plan, and every growth is judged against it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune

from neuromas.errors import GrowthError
from neuromas.growth.ledger import Spending
from neuromas.growth.lineage import describe_plan
from neuromas.growth.plan import apply_plan
from neuromas.growth.stage import Stage, StageRunner
from neuromas.growth.trial import TrialOutcome, judge, trial_steps
from neuromas.spec.growth import PlanSpec, TrialSpec
from neuromas.topology.graph import Topology

RunnerFactory = Callable[[str], StageRunner]
"""Makes the runner of one candidate, by its name, inside the candidate's own process."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stage to try: a growth by ``plan``, or, where it is None, the parent trained on."""

    name: str
    plan: PlanSpec | None
    stage: Stage


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate that was tried.

    Attributes:
        name: of the candidate; its stage has the same name.
        plan: its growth; None = the parent trained on.
        rewards: of its greedy answers, per held-out example; empty where it failed.
        verdict: judgement against the parent; None for the parent itself and for candidates that failed.
        checkpoint: its trained weights; None where it failed.
        spending: what its training sampled.
        error: why it failed; None where it did not.
    """

    name: str
    plan: PlanSpec | None
    rewards: tuple[float, ...]
    verdict: TrialOutcome | None
    checkpoint: Path | None
    spending: Spending
    error: str | None = None

    @property
    def accuracy(self) -> float:
        """Mean reward of its greedy answers; 0 where it failed."""
        return sum(self.rewards) / len(self.rewards) if self.rewards else 0.0


def make_candidates(
    topology: Topology,
    start: Path,
    plans: Sequence[PlanSpec],
    spec: TrialSpec,
    *,
    level: int | None = None,
    modules: Mapping[str, Topology] | None = None,
    examples_of: int | None = None,
) -> tuple[Candidate, ...]:
    """Return one candidate per plan and the parent, all as long as the longest of their families needs.

    Args:
        topology: the parent's graph.
        start: the parent's checkpoint.
        plans: growths to try.
        spec: length of a trial.
        level: task level to train and judge on; None = the target.
        modules: graphs of the checkpoints that grafts name.
        examples_of: as in ``apply_plan``.

    Raises:
        GrowthError: there is no plan, or one does not fit; the message starts with its path.
    """
    if not plans:
        raise GrowthError("search: got no plans; give at least one")
    steps = max(trial_steps(spec, plan) for plan in plans)
    parent = Stage("parent", 0, topology, steps, level, decay=False, start=start)
    candidates = [Candidate(parent.name, None, parent)]
    for index, plan in enumerate(plans):
        try:
            grown = apply_plan(topology, plan, modules, examples_of)
        except GrowthError as error:
            raise GrowthError(f"plans[{index}].{error}") from error
        name = f"plan-{index}"
        candidates.append(Candidate(name, plan, replace(parent, name=name, topology=grown.topology, grown=grown)))
    return tuple(candidates)


def search(
    candidates: Sequence[Candidate],
    make_runner: RunnerFactory,
    spec: TrialSpec,
    folder: Path,
    *,
    cpus_per_candidate: float = 1,
    gpus_per_candidate: float = 0,
) -> tuple[Ranked, ...]:
    """Try all candidates, as many at a time as the cluster has room for, and return them best first.

    Args:
        candidates: from ``make_candidates``.
        make_runner: picklable; called with the candidate's name in its process.
        spec: how the growths are judged.
        folder: where Ray Tune keeps its records; made if missing.
        cpus_per_candidate: CPU cores each candidate occupies.
        gpus_per_candidate: GPUs each candidate occupies.

    Raises:
        GrowthError: the parent failed, so that nothing can be judged.
    """
    table = {candidate.name: candidate for candidate in candidates}

    def trial(config: Mapping[str, str]) -> None:
        tune.report(_try_candidate(table[config["candidate"]], make_runner, spec))

    folder.mkdir(parents=True, exist_ok=True)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": cpus_per_candidate, "gpu": gpus_per_candidate}),
        param_space={"candidate": tune.grid_search(list(table))},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max"),
        run_config=tune.RunConfig(name="search", storage_path=str(folder.resolve()), verbose=0),
    )
    # Else Tune takes Ctrl-C for itself, and returns trials that are half done.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    results = {result.config["candidate"]: result for result in tuner.fit()}
    return _rank(candidates, {name: _read(result) for name, result in results.items()}, spec)


def draw_ranking(ranking: Sequence[Ranked]) -> str:
    """Return a ranking as text, one line per candidate, best first."""
    return "\n".join(map(_describe, ranking))


def _try_candidate(candidate: Candidate, make_runner: RunnerFactory, spec: TrialSpec) -> dict[str, Any]:
    """Train and evaluate one candidate; return what Ray Tune can keep as plain data."""
    runner = make_runner(candidate.name)
    outcome = runner.train(candidate.stage)
    rewards = runner.evaluate(outcome.checkpoint, candidate.stage.level, spec.examples)
    return {
        "accuracy": sum(rewards) / len(rewards),
        "rewards": json.dumps(rewards),
        "checkpoint": str(outcome.checkpoint),
        "spending": json.dumps(asdict(outcome.spending)),
    }


def _read(result: Any) -> tuple[tuple[float, ...], Path | None, Spending, str | None]:
    if result.error is not None or not result.metrics or "rewards" not in result.metrics:
        return (), None, Spending(), str(result.error or "it reported nothing")
    metrics = result.metrics
    rewards = tuple(json.loads(metrics["rewards"]))
    return rewards, Path(metrics["checkpoint"]), Spending(**json.loads(metrics["spending"])), None


def _rank(
    candidates: Sequence[Candidate],
    tried: Mapping[str, tuple[tuple[float, ...], Path | None, Spending, str | None]],
    spec: TrialSpec,
) -> tuple[Ranked, ...]:
    parent = next(candidate.name for candidate in candidates if candidate.plan is None)
    baseline, _, _, failure = tried[parent]
    if failure is not None:
        raise GrowthError(f"search: the parent's own trial failed, so no growth can be judged: {failure}")
    ranked = []
    for candidate in candidates:
        rewards, checkpoint, spending, error = tried[candidate.name]
        judged = candidate.plan is not None and error is None
        verdict = judge(rewards, baseline, spec, len(candidates) - 1) if judged else None
        ranked.append(Ranked(candidate.name, candidate.plan, rewards, verdict, checkpoint, spending, error))
    return tuple(sorted(ranked, key=lambda one: (one.error is not None, -one.accuracy)))


def _describe(one: Ranked) -> str:
    what = "the parent, trained on" if one.plan is None else describe_plan(one.plan)
    if one.error is not None:
        return f"{one.name}: failed: {one.error.splitlines()[-1]} ({what})"
    judged = (
        ""
        if one.verdict is None
        else f", {'better' if one.verdict.kept else 'not better'} (p {one.verdict.p_value:.3g})"
    )
    return f"{one.name}: accuracy {one.accuracy:.3f}{judged}, {one.spending.calls} calls ({what})"
