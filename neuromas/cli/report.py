"""``neuromas report``: writes the page of a run or a comparison."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Options, Parser
from neuromas.display.console import Console
from neuromas.report.page import write_report

EXAMPLES = "report runs/quickstart"


class Arguments(Options):
    """What the command reads."""

    path: Path


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("path", metavar="RUN", type=Path, help="a run folder")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    page = write_report(arguments.path)
    console.show(str(page), {"report": str(page)})
    return 0
