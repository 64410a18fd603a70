"""``neuromas compare``: a spec beside its baselines."""

from __future__ import annotations

from pathlib import Path

from neuromas.base.suited import suit_spec
from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import SpecOptions, add_spec, integers, words
from neuromas.spec.load import load_spec
from neuromas.studies.arms import default_arms
from neuromas.studies.compare import compare, make_group, run_titles
from neuromas.studies.display import RunsDisplay
from neuromas.studies.table import comparison_text

EXAMPLES = """compare run.toml --out comparison
compare run.toml --arms graph,untrained,single --seeds 0,1,2 --jobs 2"""


class Arguments(SpecOptions):
    """What the command reads."""

    arms: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    jobs: int
    out: Path


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_spec(parser)
    parser.add_argument("--arms", metavar="A,B", type=words, help="arms to run (default: those that fit the spec)")
    parser.add_argument("--seeds", metavar="S,T", type=integers, help="seeds (default: the spec's)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("comparison"), help="folder to write to (default: comparison)"
    )


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    spec = suit_spec(load_spec(arguments.path, arguments.set)).spec
    arms, seeds = arguments.arms or default_arms(spec), arguments.seeds or ()
    titles = run_titles([make_group(spec, arms, seeds)])
    with RunsDisplay(console.stderr, titles) as display:
        document = compare(spec, arms, arguments.out, display, seeds=seeds, jobs=arguments.jobs)
    console.show(f"{comparison_text(document)}\n{arguments.out / 'report.html'}", document)
    return 0
