"""``neuromas import``: PEFT adapters that were made elsewhere, as the nodes of a graph."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Parser
from neuromas.cli.options import SpecOptions, add_import
from neuromas.display.console import Console
from neuromas.spec.load import load_spec
from neuromas.workflows.import_adapters import import_adapters

EXAMPLES = """import run.toml exported/adapters --out runs
import run.toml folders --set adapter.rank=16 --max-error 0.1"""


class Arguments(SpecOptions):
    """What the command reads."""

    folder: Path
    out: Path
    max_error: float
    overwrite: bool


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_import(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="parent folder (default: runs)")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run in the folder first")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    spec = load_spec(arguments.path, arguments.set)
    imported = import_adapters(
        spec, arguments.folder, arguments.out, max_error=arguments.max_error, overwrite=arguments.overwrite
    )
    console.show(str(imported), imported.document)
    return 0
