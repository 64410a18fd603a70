"""grow(): a larger graph made of a trained one and trained as a run of its own.

Several plans are first tried side by side, each beside the parent trained on for as long; the best of those that beat
the parent is the one that is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.checkpoints.trained import TrainedCheckpoint, find_trained
from neuromas.display.training import shown
from neuromas.errors import Fault, GrowthError, SpecError
from neuromas.growth.lineage import describe_plan
from neuromas.journal.events import Notice, Observer
from neuromas.run.grafts import lineage_faults
from neuromas.run.outcome import RunResult
from neuromas.run.parent import Parent
from neuromas.run.preflight import check_run
from neuromas.run.run import run, worker_setup
from neuromas.schema.parse import parse_section
from neuromas.spec.growth import AppendSpec, PlanSpec, TrialSpec
from neuromas.spec.load import load_document
from neuromas.spec.overrides import apply_overrides
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.workflows.opened import check_level

if TYPE_CHECKING:
    from neuromas.run.search import Ranked

Plan = PlanSpec | Path | str
"""A growth plan, or the file of one (.toml or .json)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a trained graph is grown, and what of its run the child changes.

    Attributes:
        plans: growths; of several the best is trained, after a trial of each.
        steps: optimizer steps of the child; None = the parent's.
        level: task level of the child; None = the task's target.
        name: of the child's run; "" = the parent's with ``-grown``.
        trial_steps: of each trial; None = 30, where a plan grafts 180.
        overrides: values of the child's spec, such as ``task.hops=7``.
    """

    plans: tuple[PlanSpec, ...]
    steps: int | None = None
    level: int | None = None
    name: str = ""
    trial_steps: int | None = None
    overrides: tuple[str, ...] = ()

    def name_after(self, parent: TrainedCheckpoint) -> str:
        """Return the name of the child's run."""
        return self.name or f"{parent.spec.name}-grown"

    def child(self, spec: RunSpec, parent: TrainedCheckpoint) -> RunSpec:
        """Return the child's spec, given the parent's with the grown graph.

        Raises:
            SpecError: an override does not fit.
        """
        document: dict[str, Any] = spec.model_dump(mode="json")
        document["name"] = self.name_after(parent)
        if self.steps is not None:
            document["training"]["steps"] = self.steps
        return parse_run_spec(apply_overrides(document, self.overrides))


def grow(
    source: Path | str,
    append: int | None = None,
    *,
    plans: Sequence[Plan] = (),
    steps: int | None = None,
    level: int | None = None,
    name: str = "",
    trial_steps: int | None = None,
    overrides: Sequence[str] = (),
    out: Path | str = "runs",
    on_event: Observer | None = None,
    resume: bool = False,
    overwrite: bool = False,
    show_worker_logs: bool = False,
) -> RunResult:
    """Grow a trained graph, train the larger one, and return the result.

    Args:
        source: a run folder or a checkpoint.
        append: append so many nodes in series after the output; instead of ``plans``.
        plans: growths; several are tried side by side on Ray and the best is trained.
        steps: see ``Growth``, as for ``level``, ``name``, ``trial_steps`` and ``overrides``.
        level: see ``Growth``.
        name: see ``Growth``.
        trial_steps: see ``Growth``.
        overrides: see ``Growth``.
        out: see ``train``, as for all that follow.
        on_event: see ``train``.
        resume: see ``train``.
        overwrite: see ``train``.
        show_worker_logs: see ``train``.

    Raises:
        GrowthError: the plan does not fit the graph, or none of several beats the parent.
        CheckpointError: there is no checkpoint, or it is altered.
        SpecError: the child cannot start, with all reasons.
        NeuroMASError: the run failed.
    """
    growth = Growth(_plans(append, plans), steps, level, name, trial_steps, tuple(overrides))
    trained = find_trained(Path(source))
    check_level(growth.child(trained.as_run(), trained), level)
    with shown(on_event) as tell:
        plan = growth.plans[0] if len(growth.plans) == 1 else _best(trained, growth, Path(out), tell)
        parent = Parent(trained.checkpoint, plan, level)
        grown = parent.grow().topology
        sizes = f"{len(trained.topology.nodes)} -> {len(grown.nodes)} nodes"
        tell(Notice(message=f"{trained.spec.name}: {sizes} by {describe_plan(plan)}", source="growth"))
        spec = growth.child(trained.as_run().with_topology(grown), trained)
        return run(
            spec,
            Path(out),
            tell,
            resume=resume,
            overwrite=overwrite,
            parent=parent,
            show_worker_logs=show_worker_logs,
        )


def _plans(append: int | None, plans: Sequence[Plan]) -> tuple[PlanSpec, ...]:
    """Return the plans that are meant.

    Raises:
        SpecError: there is none, or both ways of naming one were used.
    """
    if (append is None) == (not plans):
        raise SpecError("the growth cannot start", [Fault("append, plans", "give exactly one of the two")])
    if append is not None:
        if append < 1:
            raise SpecError("the growth is not valid", [Fault("append", f"got {append}; allowed is at least 1")])
        return (PlanSpec(edits=(AppendSpec(edit="append", layers=(1,) * append),)),)
    if len(plans) > 1 and find_spec("ray") is None:
        message = f"got {len(plans)}; trying several needs Ray, which is not installed: name one plan"
        raise SpecError("the growth cannot start", [Fault("plans", message)])
    return tuple(map(_read, plans))


def _read(plan: Plan) -> PlanSpec:
    if isinstance(plan, PlanSpec):
        return plan
    return parse_section(PlanSpec, load_document(Path(plan)), f"the growth plan {plan}")


def _best(trained: TrainedCheckpoint, growth: Growth, out: Path, tell: Observer) -> PlanSpec:
    """Return the plan that does best in a trial.

    Raises:
        GrowthError: none beats the parent.
    """
    from neuromas.run.candidates import search_growth
    from neuromas.run.search import draw_ranking

    spec = parse_run_spec(apply_overrides(trained.as_run().model_dump(mode="json"), growth.overrides))
    folder = out / f"{growth.name_after(trained)}-trials"
    trial = TrialSpec(steps=growth.trial_steps, examples=spec.evaluation.examples)
    many = f"trying {len(growth.plans)} plans and the parent side by side; their runs are in {folder}"
    tell(Notice(message=many, source="growth"))
    worker = worker_setup(spec, check_run(spec, find_trained))
    faults = (lineage_faults(spec, trained, plan, find_trained) for plan in growth.plans)
    if found := list(dict.fromkeys(chain.from_iterable(faults))):
        raise SpecError("the growth cannot start", found)
    ranking = search_growth(spec, worker, trained.checkpoint, growth.plans, trial, folder, level=growth.level)
    tell(Notice(message=draw_ranking(ranking), source="growth"))
    chosen = next((one.plan for one in ranking if _is_better(one)), None)
    if chosen is None:
        raise GrowthError(
            "no plan beats the parent trained on for as long (p <= 0.05), so nothing was grown; try others, longer "
            "trials (trial_steps), or name one plan to train it all the same"
        )
    return chosen


def _is_better(one: Ranked) -> bool:
    return one.verdict is not None and one.verdict.kept
