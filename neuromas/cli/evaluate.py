"""``neuromas eval``: measures a checkpoint on held-out examples."""

from __future__ import annotations

from typing import Literal

from neuromas.cli.command import Parser
from neuromas.cli.options import MeasureOptions, add_measure
from neuromas.display.console import Console
from neuromas.display.training import TrainingDisplay
from neuromas.workflows.evaluate import evaluate

EXAMPLES = """eval runs/quickstart
eval runs/quickstart --examples 1024 --sampled --json"""


class Arguments(MeasureOptions):
    """What the command reads."""

    sampled: bool
    runtime: Literal["ray", "local"] | None


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_measure(parser)
    parser.add_argument("--sampled", action="store_true", help="also sample at the run's temperature")
    parser.add_argument("--runtime", choices=("ray", "local"), help="runtime (default: the run's own)")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    with TrainingDisplay(console) as display:
        found = evaluate(
            arguments.path,
            examples=arguments.examples,
            level=arguments.level,
            sampled=arguments.sampled,
            engine=arguments.engine,
            runtime=arguments.runtime,
            on_event=display,
            show_worker_logs=arguments.verbose,
        )
    console.show(str(found), found.document)
    return 0
