"""``neuromas train``: trains a run spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from neuromas.cli.command import Parser
from neuromas.cli.options import RunOptions, SpecOptions, add_run, add_spec
from neuromas.display.console import Console
from neuromas.display.training import TrainingDisplay
from neuromas.errors import NeuroMASError
from neuromas.journal.events import Observer
from neuromas.run.outcome import RunResult
from neuromas.run.run import run as train
from neuromas.run.stages import StageInterruptedError
from neuromas.spec.load import load_spec

_INTERRUPTED = 130

EXAMPLES = """train run.toml --out runs
train run.toml --out runs --resume
train run.toml --set training.steps=20 --set runtime.type=local"""


class Arguments(SpecOptions, RunOptions):
    """What the command reads."""


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_spec(parser)
    add_run(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    spec = load_spec(arguments.path, arguments.set)

    def begin(tell: Observer) -> RunResult:
        return train(
            spec,
            arguments.out,
            tell,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            show_worker_logs=arguments.verbose,
        )

    return show_run(begin, arguments.out, console, show_nodes=arguments.nodes)


def show_run(begin: Callable[[Observer], RunResult], out: Path, console: Console, *, show_nodes: bool) -> int:
    """Run with a display and show the result; returns the exit code.

    Args:
        begin: runs, given who is told what happens.
        out: folder of runs, for what is said of one that broke off.
        console: where to write.
        show_nodes: add a line per node to every step that is shown.
    """
    display = TrainingDisplay(console, show_nodes=show_nodes)
    try:
        with display:
            result = begin(display)
    except StageInterruptedError as error:
        console.fail_with(error)
        console.say(f"to go on: the same command with --resume (run folder {out / display.run})")
        return _INTERRUPTED
    except KeyboardInterrupt:
        console.fail("interrupted", "interrupted")
        where = "from the last checkpoint if it has one, else from the start"
        console.say(f"to go on {where}: the same command with --resume (run folder {out / display.run})")
        return _INTERRUPTED
    except NeuroMASError as error:
        if isinstance(error, RuntimeError) and display.run:
            console.say(f"the run folder is {out / display.run}; --resume goes on from its last checkpoint")
        raise
    console.show(str(result), result.document | {"folder": str(result.folder)})
    return 0
