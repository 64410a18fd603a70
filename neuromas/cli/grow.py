"""``neuromas grow``: makes a larger graph of a trained one and trains it as a run of its own.

Several plans are first tried side by side, each beside the parent trained on for as long; the best of those that beat
the parent is the one that is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.cli.train import train
from neuromas.errors import Fault, GrowthError, SpecError
from neuromas.growth.lineage import describe_plan
from neuromas.parent import Parent
from neuromas.preflight import check_run
from neuromas.run import worker_setup
from neuromas.spec.growth import AppendSpec, PlanSpec, TrialSpec
from neuromas.spec.load import load_document
from neuromas.spec.overrides import apply_overrides
from neuromas.spec.parse import parse_run_spec, parse_section
from neuromas.spec.run import RunSpec
from neuromas.trained import Trained, find_trained
from neuromas.training.location import read_topology

if TYPE_CHECKING:
    from neuromas.growth.search import Ranked


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path)
    plans = _plans(arguments)
    plan = plans[0] if len(plans) == 1 else _best(trained, plans, arguments, console)
    parent = Parent(trained.checkpoint, plan, arguments.level)
    grown = parent.grow()
    console.say(
        f"{trained.spec.name}: {len(trained.topology.nodes)} -> {len(grown.topology.nodes)} nodes by "
        f"{describe_plan(parent.plan)}"
    )
    child = trained.as_run().model_copy(update={"topology": grown.topology})
    return train(_child_spec(child, trained, arguments), arguments, console, parent)


def _plans(arguments: Arguments) -> list[PlanSpec]:
    if arguments.plan:
        return [parse_section(PlanSpec, load_document(path), f"the growth plan {path}") for path in arguments.plan]
    count = arguments.append or 0
    if count < 1:
        raise SpecError("the growth is not valid", [Fault("--append", f"got {count}; allowed is at least 1")])
    return [PlanSpec(edits=(AppendSpec(edit="append", layers=(1,) * count),))]


def _best(trained: Trained, plans: Sequence[PlanSpec], arguments: Arguments, console: Console) -> PlanSpec:
    """Return the plan that does best in a trial.

    Raises:
        GrowthError: none beats the parent.
    """
    from neuromas.candidates import search_growth
    from neuromas.growth.search import draw_ranking

    assert arguments.out is not None
    spec = parse_run_spec(apply_overrides(trained.as_run().model_dump(mode="json"), arguments.set))
    folder = arguments.out / f"{_child_name(trained, arguments)}-trials"
    trial = TrialSpec(steps=arguments.trial_steps, examples=spec.evaluation.examples)
    console.say(f"trying {len(plans)} plans and the parent side by side; their runs are in {folder}")
    worker = worker_setup(spec, check_run(spec, read_topology))
    ranking = search_growth(spec, worker, trained.checkpoint, plans, trial, folder, level=arguments.level)
    console.say(draw_ranking(ranking))
    chosen = next((one.plan for one in ranking if _is_better(one)), None)
    if chosen is None:
        raise GrowthError(
            "no plan beats the parent trained on for as long (p <= 0.05), so nothing was grown; try others, a longer "
            "--trial-steps, or name one --plan to train it all the same"
        )
    return chosen


def _is_better(one: Ranked) -> bool:
    return one.verdict is not None and one.verdict.kept


def _child_name(trained: Trained, arguments: Arguments) -> str:
    return arguments.name or f"{trained.spec.name}-grown"


def _child_spec(child: RunSpec, trained: Trained, arguments: Arguments) -> RunSpec:
    document: dict[str, Any] = child.model_dump(mode="json")
    document["name"] = _child_name(trained, arguments)
    if arguments.steps is not None:
        document["training"]["steps"] = arguments.steps
    return parse_run_spec(apply_overrides(document, arguments.set))
