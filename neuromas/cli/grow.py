"""``neuromas grow``: makes a larger graph of a trained one and trains it as a run of its own."""

from __future__ import annotations

from pathlib import Path

from neuromas.cli.command import Parser
from neuromas.cli.options import CheckpointOptions, RunOptions, add_checkpoint, add_run, add_set
from neuromas.cli.train import show_run
from neuromas.display.console import Console
from neuromas.journal.events import Observer
from neuromas.run.outcome import RunResult
from neuromas.workflows.grow import grow

EXAMPLES = """grow runs/small --append 2 --level 5 --steps 40 --out runs
grow runs/small --plan plan.toml --name large
grow runs/small --plan deeper.toml --plan wider.toml --trial-steps 20"""


class Arguments(CheckpointOptions, RunOptions):
    """What the command reads."""

    plan: list[Path] | None
    append: int | None
    steps: int | None
    trial_steps: int | None
    level: int | None
    name: str | None
    set: list[str]


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_checkpoint(parser)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "--plan",
        metavar="FILE",
        type=Path,
        action="append",
        help="growth plan (.toml or .json): edits and inherit; several are tried side by side and the best is trained",
    )
    how.add_argument("--append", metavar="N", type=int, help="append N nodes in series after the output")
    parser.add_argument("--steps", metavar="N", type=int, help="optimizer steps (default: the parent's)")
    parser.add_argument(
        "--trial-steps",
        metavar="N",
        type=int,
        help="with several plans: steps of each trial (default: 30, grafts 180)",
    )
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    parser.add_argument("--name", metavar="NAME", help="name of the new run (default: the parent's with -grown)")
    add_set(parser)
    add_run(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""

    def begin(tell: Observer) -> RunResult:
        return grow(
            arguments.path,
            arguments.append,
            plans=arguments.plan or (),
            steps=arguments.steps,
            level=arguments.level,
            name=arguments.name or "",
            trial_steps=arguments.trial_steps,
            overrides=arguments.set,
            out=arguments.out,
            on_event=tell,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            show_worker_logs=arguments.verbose,
        )

    return show_run(begin, arguments.out, console, show_nodes=arguments.nodes)
