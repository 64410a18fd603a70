"""``neuromas diagnose``: what training can still move in a graph, trained or not: by adapter, and by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from neuromas.cli.command import Parser
from neuromas.cli.options import CheckpointOptions, add_engine
from neuromas.display.console import Console
from neuromas.display.training import TrainingDisplay
from neuromas.spec.load import load_spec
from neuromas.spec.machine import EngineType
from neuromas.studies.diagnose import CALLS, QUESTIONS
from neuromas.workflows.diagnose import diagnose

EXAMPLES = """diagnose runs/quickstart
diagnose examples/quickstart.toml
diagnose runs/quickstart --questions 32 --calls 64 --json"""


SUFFIXES: Final = (".toml", ".json")
"""By which a spec is told from a folder."""


class Arguments(CheckpointOptions):
    """What the command reads."""

    questions: int
    calls: int
    level: int | None
    engine: EngineType | None


def add(parser: Parser) -> None:
    """Add the arguments."""
    what = "a run folder (its last checkpoint), a checkpoint, or a run spec (.toml or .json) for its graph untrained"
    parser.add_argument("path", metavar="CHECKPOINT", type=Path, help=what)
    for name, usual, what in (
        ("--questions", QUESTIONS, "validation questions"),
        ("--calls", CALLS, "messages of an adapter"),
    ):
        parser.add_argument(name, metavar="N", type=positive, default=usual, help=f"{what} (default: {usual})")
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    add_engine(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    source = load_spec(arguments.path) if arguments.path.suffix in SUFFIXES else arguments.path
    with TrainingDisplay(console) as display:
        found = diagnose(
            source,
            questions=arguments.questions,
            calls=arguments.calls,
            level=arguments.level,
            engine=arguments.engine,
            on_event=display,
        )
    console.show(str(found), found.document)
    return 0


def positive(word: str) -> int:
    """Return a number of at least 1."""
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number
