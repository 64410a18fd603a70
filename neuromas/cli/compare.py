"""``neuromas compare``: a spec beside its baselines."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Parser
from neuromas.cli.options import SpecOptions, add_spec, integers, words
from neuromas.display.console import Console
from neuromas.spec.load import load_spec
from neuromas.studies.arms import ARMS
from neuromas.workflows.compare import compare

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
    parser.add_argument(
        "--arms", metavar="A,B", type=words, help=f"arms of {', '.join(ARMS)} (default: those that fit the spec)"
    )
    parser.add_argument("--seeds", metavar="S,T", type=integers, help="seeds (default: the spec's)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("comparison"), help="folder to write to (default: comparison)"
    )


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    spec = load_spec(arguments.path, arguments.set)
    found = compare(spec, arguments.arms or (), arguments.out, seeds=arguments.seeds or (), jobs=arguments.jobs)
    console.show(str(found), found.document)
    return 0
