"""``neuromas make-base``: makes the tiny base from nothing, and shows what it can do."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from neuromas.base.card import BaseCard
from neuromas.base.recipe import Recipe
from neuromas.cli.command import Options, Parser
from neuromas.cli.options import natural
from neuromas.display.console import Console
from neuromas.errors import BaseModelError, writing
from neuromas.report.numbers import percent

if TYPE_CHECKING:
    from neuromas.base.pretrain import PretrainingProgress

EXAMPLES = """make-base --out my-base
make-base --out other-base --seed 1
make-base --out smoke-base --smoke"""


class Arguments(Options):
    """What the command reads."""

    out: Path
    seed: int
    smoke: bool


def add(parser: Parser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("tiny-base"), help="new folder (default: tiny-base)"
    )
    parser.add_argument("--seed", metavar="N", type=natural, default=0, help="of weights and questions (default: 0)")
    parser.add_argument("--smoke", action="store_true", help="a base that takes seconds and knows nothing, for tests")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    out = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BaseModelError(f"{out} holds something already; make the base in a new folder (--out)")
    recipe = Recipe.smoke() if arguments.smoke else Recipe.tiny()
    with writing(out):
        try:
            out.mkdir(parents=True, exist_ok=True)  # what cannot be written is found before the work
            card = _make(replace(recipe, seed=arguments.seed), out, console)
        except BaseException:
            shutil.rmtree(out, ignore_errors=True)
            raise
    console.show(_text(card, out), asdict(card) | {"folder": str(out)})
    return 0


def _make(recipe: Recipe, out: Path, console: Console) -> BaseCard:
    from neuromas.base.pretrain import make_base

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total} {task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console.stderr,
        disable=not console.stderr.is_terminal,
    )
    last = ""
    with progress:
        task = progress.add_task("pretraining", total=recipe.num_steps, figures="")

        def show(state: PretrainingProgress) -> None:
            nonlocal last
            figures = f"loss {state.loss:.3f} right {percent(state.right)}"
            progress.update(task, description=state.stage, completed=state.step, figures=figures)
            if not console.stderr.is_terminal and (state.stage != last or state.step % 250 == 0):
                console.say(f"{state.stage} step {state.step}/{state.num_steps} {figures}")
            last = state.stage

        return make_base(recipe, out, show)


def _text(card: BaseCard, out: Path) -> str:
    lines = [f"{out}: {card.num_parameters:,} parameters, {card.cpu_s:.0f} cpu seconds", "", _header()]
    lines += [
        f"{probe['probe']:<16}{probe['value']:>7.2f}{probe['prior']:>7.2f}  {_names(probe['names'])}"
        for probe in card.skills["probes"]
    ]
    return "\n".join(lines)


def _header() -> str:
    return f"{'wanted|stated':<16}{'value':>7}{'prior':>7}  names it says by itself"


def _names(names: dict[str, Any]) -> str:
    return " ".join(f"{name} {share:.2f}" for name, share in names.items())
