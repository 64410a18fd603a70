"""``neuromas compare``: a spec beside its baselines."""

from __future__ import annotations

from neuromas.baselines.arms import default_arms
from neuromas.cli.console import Console
from neuromas.cli.parser import Arguments
from neuromas.comparison.compare import compare, make_group, run_titles
from neuromas.comparison.display import RunsDisplay
from neuromas.comparison.table import comparison_text
from neuromas.spec.load import load_spec


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    assert arguments.out is not None
    spec = load_spec(arguments.path, arguments.set)
    arms, seeds = arguments.arms or default_arms(spec), arguments.seeds or ()
    titles = run_titles([make_group(spec, arms, seeds)])
    with RunsDisplay(console.stderr, titles) as display:
        document = compare(spec, arms, arguments.out, display, seeds=seeds, jobs=arguments.jobs)
    console.show(f"{comparison_text(document)}\n{arguments.out / 'report.html'}", document)
    return 0
