"""``neuromas grow``: makes a larger graph of a trained one and trains it as a run of its own."""

from __future__ import annotations

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.cli.train import train
from neuromas.errors import Fault, SpecError
from neuromas.growth.lineage import describe_plan
from neuromas.parent import Parent
from neuromas.spec.growth import AppendSpec, PlanSpec
from neuromas.spec.load import load_document
from neuromas.spec.overrides import apply_overrides
from neuromas.spec.parse import parse_run_spec, parse_section
from neuromas.spec.run import RunSpec
from neuromas.trained import Trained, find_trained


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path)
    parent = Parent(trained.checkpoint, _plan(arguments), arguments.level)
    grown = parent.grow()
    console.say(
        f"{trained.spec.name}: {len(trained.topology.nodes)} -> {len(grown.topology.nodes)} nodes by "
        f"{describe_plan(parent.plan)}"
    )
    child = trained.as_run().model_copy(update={"topology": grown.topology})
    return train(_child_spec(child, trained, arguments), arguments, console, parent)


def _plan(arguments: Arguments) -> PlanSpec:
    if arguments.plan is not None:
        return parse_section(PlanSpec, load_document(arguments.plan), "the growth plan")
    count = arguments.append or 0
    if count < 1:
        raise SpecError("the growth is not valid", [Fault("--append", f"got {count}; allowed is at least 1")])
    return PlanSpec(edits=(AppendSpec(edit="append", layers=(1,) * count),))


def _child_spec(child: RunSpec, trained: Trained, arguments: Arguments) -> RunSpec:
    document = child.model_dump(mode="json")
    document["name"] = arguments.name or f"{trained.spec.name}-grown"
    if arguments.steps is not None:
        document["training"]["steps"] = arguments.steps
    return parse_run_spec(apply_overrides(document, arguments.set))
