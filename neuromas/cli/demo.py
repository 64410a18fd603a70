"""``neuromas demo``: joint training, its baselines and growth, on the tiny base."""

from __future__ import annotations

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.comparison.demo import DEMO_FOLDER, demo
from neuromas.comparison.table import comparison_text


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    assert arguments.out is not None
    document = demo(arguments.out, console.stderr, arguments.jobs)
    console.show(f"{comparison_text(document)}\n{arguments.out / DEMO_FOLDER / 'report.html'}", document)
    return 0
