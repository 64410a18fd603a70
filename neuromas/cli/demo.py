"""``neuromas demo``: joint training, its baselines and growth, on the tiny base."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Options, Parser
from neuromas.display.console import Console
from neuromas.studies.demo import DEMO_FOLDER, demo
from neuromas.studies.table import comparison_text

EXAMPLES = """demo
demo --out runs --jobs 2"""


class Arguments(Options):
    """What the command reads."""

    out: Path
    jobs: int


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="runs at a time (default: 2)")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    document = demo(arguments.out, console.stderr, arguments.jobs)
    console.show(f"{comparison_text(document)}\n{arguments.out / DEMO_FOLDER / 'report.html'}", document)
    return 0
