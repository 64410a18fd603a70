"""How one command is added to the command line. Loads nothing but argparse."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, module: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """Add a command and return its parser.

    Args:
        commands: of the program.
        name: what people type.
        module: that runs it: a name in this package, or the whole name of a module elsewhere.
        summary: what it does.
        examples: one per line, without the program's name.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  neuromas {line}" for line in examples.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(module=module)
    add_output(parser)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has."""
    parser.add_argument("--json", action="store_true", help="write the result as one JSON document to stdout")
    parser.add_argument("-v", "--verbose", action="store_true", help="show details, tracebacks and library warnings")
