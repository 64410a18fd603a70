"""``neuromas examples``: writes the example specs and topologies that ship with the package."""

from __future__ import annotations

import shutil
from pathlib import Path

import neuromas
from neuromas.cli.command import Options, Parser
from neuromas.display.console import Console
from neuromas.errors import Fault, SpecError, writing

EXAMPLES = """examples
examples --out my-specs"""


class Arguments(Options):
    """What the command reads."""

    out: Path


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("examples"), help="new folder (default: examples)"
    )


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    out = arguments.out
    if out.exists():
        raise SpecError("the examples are not written", [Fault("--out", f"{out} exists already; name a new folder")])
    with writing(out):
        try:
            shutil.copytree(Path(neuromas.__file__).with_name("examples"), out)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
    written = sorted(path for path in out.rglob("*") if path.is_file())
    console.show("\n".join(map(str, written)), {"files": list(map(str, written))})
    return 0
