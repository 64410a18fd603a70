"""``neuromas analyze``: what a trained graph has learned: what each node and edge is worth, what nodes say."""

from __future__ import annotations

from neuromas.cli.command import Parser
from neuromas.cli.options import MeasureOptions, add_measure
from neuromas.display.console import Console
from neuromas.display.training import TrainingDisplay
from neuromas.workflows.analyze import analyze

EXAMPLES = """analyze runs/quickstart
analyze runs/quickstart --examples 256 --json"""


class Arguments(MeasureOptions):
    """What the command reads."""


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_measure(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with TrainingDisplay(console) as display:
        found = analyze(
            arguments.path,
            examples=arguments.examples,
            level=arguments.level,
            engine=arguments.engine,
            on_event=display,
        )
    console.show(str(found), found.document)
    return 0
