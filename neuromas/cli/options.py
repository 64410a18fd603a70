"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from neuromas.cli.command import Options, Parser
from neuromas.run.imports import MAX_ERROR
from neuromas.spec.machine import EngineType


class SpecOptions(Options):
    """A spec and what replaces values of it."""

    path: Path
    set: list[str]


class CheckpointOptions(Options):
    """A trained graph."""

    path: Path


class MeasureOptions(CheckpointOptions):
    """A trained graph and what it is measured on."""

    examples: int | None
    level: int | None
    engine: EngineType | None


class RunOptions(Options):
    """Where a run is written and what is shown of it."""

    out: Path
    overwrite: bool
    resume: bool
    nodes: bool


class ServerOptions(Options):
    """A server, and the run that is meant where a command is about one."""

    server: str | None
    id: str
    limit: int


def add_spec(parser: Parser, what: str = "run spec (.toml or .json)") -> None:
    """Add a spec and ``--set``."""
    parser.add_argument("path", metavar="SPEC", type=Path, help=what)
    add_set(parser)


def add_set(parser: Parser) -> None:
    """Add what replaces values of a spec."""
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="replace a value of the spec; may be repeated"
    )


def add_import(parser: Parser) -> None:
    """Add a spec and the PEFT adapters that its nodes begin with."""
    add_spec(parser)
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="holds a PEFT folder for each adapter, named after it"
    )
    parser.add_argument(
        "--max-error",
        metavar="SHARE",
        type=float,
        default=MAX_ERROR,
        help="largest relative error of a layer where an adapter is no LoRA of the spec's rank (default: %(default)s)",
    )


def add_checkpoint(parser: Parser) -> None:
    """Add a trained graph."""
    parser.add_argument(
        "path", metavar="CHECKPOINT", type=Path, help="a run folder (its last checkpoint) or a checkpoint"
    )


def add_measure(parser: Parser) -> None:
    """Add a trained graph and what it is measured on."""
    add_checkpoint(parser)
    parser.add_argument("--examples", metavar="N", type=int, help="held-out examples (default: the run's own number)")
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    add_engine(parser)


def add_engine(parser: Parser) -> None:
    """Add the engine, for machines other than the run's."""
    parser.add_argument("--engine", choices=("vllm", "transformers"), help="engine (default: the run's own)")


def add_run(parser: Parser) -> None:
    """Add where a run is written and what is shown of it."""
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run of the same name first")
    parser.add_argument("--nodes", action="store_true", help="show a line per node with every step shown")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the run's folder")


def add_server(parser: Parser) -> None:
    """Add the server that is asked."""
    parser.add_argument(
        "--server",
        metavar="URL",
        help="address of the service (default: $NEUROMAS_SERVER, else http://127.0.0.1:8080); "
        "its key, where it wants one, is read from $NEUROMAS_API_KEY",
    )


def add_run_id(parser: Parser) -> None:
    """Add a run of a server."""
    parser.add_argument("id", metavar="RUN", help="id of the run (run_...)")


def add_limit(parser: Parser) -> None:
    """Add how much of a list is wanted."""
    parser.add_argument("--limit", type=int, default=20, help="at most so many (default: 20)")


def words(text: str) -> tuple[str, ...]:
    """Return the words of a list with commas."""
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def integers(text: str) -> tuple[int, ...]:
    """Return the numbers of a list with commas."""
    return tuple(int(word) for word in words(text))


def natural(text: str) -> int:
    """Return a whole number from 0 on."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"got {number}; allowed are whole numbers from 0 on")
    return number


def port_number(text: str) -> int:
    """Return a port."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"got {number}; allowed are 0 (a free one) to 65535")
    return number
