"""``neuromas grow``: makes a larger graph of a trained one and trains it as a run of its own.

Several plans are first tried side by side, each beside the parent trained on for as long; the best of those that beat
the parent is the one that is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.checkpoints.location import read_topology
from neuromas.checkpoints.trained import Trained, find_trained
from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import CheckpointOptions, RunOptions, add_checkpoint, add_run, add_set
from neuromas.cli.train import train
from neuromas.errors import Fault, GrowthError, SpecError
from neuromas.growth.lineage import describe_plan
from neuromas.run.parent import Parent
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.schema.parse import parse_section
from neuromas.spec.growth import AppendSpec, PlanSpec, TrialSpec
from neuromas.spec.load import load_document
from neuromas.spec.overrides import apply_overrides
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec

if TYPE_CHECKING:
    from neuromas.run.search import Ranked

EXAMPLES = """grow runs/small --append 2 --level 5 --steps 40 --out runs
grow runs/small --plan plan.toml --name large
grow runs/small --plan deeper.toml --plan wider.toml --trial-steps 20"""


class Arguments(CheckpointOptions, RunOptions):
    """What the command reads."""

    plan: list[Path] | None
    append: int | None
    steps: int | None
    trial_steps: int | None
    level: int | None
    name: str | None
    set: list[str]


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--plan",
        metavar="FILE",
        type=Path,
        action="append",
        help="growth plan (.toml or .json): edits and inherit; several are tried side by side and the best is trained",
    )
    how.add_argument("--append", metavar="N", type=int, help="append N nodes in series after the output")
    parser.add_argument("--steps", metavar="N", type=int, help="optimizer steps (default: the parent's)")
    parser.add_argument(
        "--trial-steps",
        metavar="N",
        type=int,
        help="with several plans: steps of each trial (default: 30, grafts 180)",
    )
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    parser.add_argument("--name", metavar="NAME", help="name of the new run (default: the parent's with -grown)")
    add_set(parser)
    add_run(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    plans = _plans(arguments)
    trained = find_trained(arguments.path)
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
        if len(arguments.plan) > 1 and find_spec("ray") is None:
            message = f"got {len(arguments.plan)}; trying several needs Ray, which is not installed: name one plan"
            raise SpecError("the growth cannot start", [Fault("--plan", message)])
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
    from neuromas.run.candidates import search_growth
    from neuromas.run.search import draw_ranking

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
