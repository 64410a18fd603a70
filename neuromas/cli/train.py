"""``neuromas train``: trains a run spec."""

from __future__ import annotations

from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import RunOptions, SpecOptions, add_run, add_spec
from neuromas.cli.progress import TrainingDisplay
from neuromas.errors import NeuroMASError
from neuromas.journal.folder import REPORT_FILE
from neuromas.report.numbers import clock, share
from neuromas.report.verdict import gain, verdict
from neuromas.run.parent import Parent
from neuromas.run.run import RunResult
from neuromas.run.run import run as run_spec
from neuromas.run.stage import StageInterruptedError
from neuromas.spec.load import load_spec
from neuromas.spec.run import RunSpec

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
    return train(load_spec(arguments.path, arguments.set), arguments, console)


def train(spec: RunSpec, arguments: RunOptions, console: Console, parent: Parent | None = None) -> int:
    """Train a spec with a display and show the result; returns the exit code."""
    try:
        with TrainingDisplay(console, show_nodes=arguments.nodes) as display:
            result = run_spec(
                spec,
                arguments.out,
                display,
                resume=arguments.resume,
                overwrite=arguments.overwrite,
                parent=parent,
                show_worker_logs=arguments.verbose,
            )
    except StageInterruptedError as error:
        console.fail_with(error)
        console.say(f"to go on: the same command with --resume (run folder {arguments.out / spec.name})")
        return _INTERRUPTED
    except KeyboardInterrupt:
        console.fail("interrupted", "interrupted before the step was done")
        console.say(f"to go on from the last checkpoint: the same command with --resume ({arguments.out / spec.name})")
        return _INTERRUPTED
    except NeuroMASError as error:
        if isinstance(error, RuntimeError):
            console.say(f"the run folder is {arguments.out / spec.name}; --resume goes on from its last checkpoint")
        raise
    console.show(summary(result), result.document | {"folder": str(result.folder)})
    return 0


def summary(result: RunResult) -> str:
    """Return the few lines that a person reads at the end of a run."""
    document, folder = result.document, result.folder
    spending, seconds = document["spending"], document["seconds"]
    follow = f"neuromas serve {folder}" if gain(document) == 1 else f"neuromas analyze {folder}"
    lines = [
        verdict(document),
        "",
        f"{document['name']}: {len(document['topology']['nodes'])} nodes, {document['steps']} steps",
    ]
    lines += [f"  {label:<22}{share(document['accuracy'][key])}" for key, label in _ACCURACIES.items()]
    lines += [
        f"  {'rollouts, calls':<22}{spending['rollouts']:,}, {spending['calls']:,}",
        f"  {'tokens':<22}{spending['tokens']:,}",
        f"  {'trainable parameters':<22}{document['trainable_parameters']:,}",
        f"  {'time':<22}{clock(seconds['total'])} ({clock(seconds['start_up'])} start, {clock(seconds['train'])} "
        f"training, {clock(seconds['evaluation'])} evaluation)",
        f"  {'report':<22}{folder / REPORT_FILE}",
        f"  {'next':<22}{follow}",
    ]
    return "\n".join(lines)


_ACCURACIES = {
    "greedy": "accuracy, greedy",
    "sampled": "accuracy, sampled",
    "untrained": "untrained, greedy",
    "untrained_sampled": "untrained, sampled",
}
