"""``neuromas report``: writes the page of a run or a comparison."""

from __future__ import annotations

from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.report.page import write_report


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    page = write_report(arguments.path)
    console.show(str(page), {"report": str(page)})
    return 0
