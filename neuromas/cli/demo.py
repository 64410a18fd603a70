"""``neuromas demo``: what joint training and growth do, shown in minutes."""

from __future__ import annotations

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.comparison.demo import DEMO_FOLDER, demo
from neuromas.comparison.table import comparison_text
from neuromas.runfolder import REPORT_FILE


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    assert arguments.out is not None
    document = demo(arguments.out, console.stderr, arguments.jobs)
    console.show(
        f"{comparison_text(document)}\n\nreport  {arguments.out / DEMO_FOLDER / REPORT_FILE}", document
    )
    return 0
