"""The grammar of the command line: commands, options, help and examples. Loads nothing but argparse."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from neuromas.cli.command import Commands, add_command
from neuromas.cli.service_parser import add_service_commands

_EPILOG = """\
exit codes: 0 done, 1 the run failed, 2 bad input, 130 interrupted (a run can be resumed)

examples:
  neuromas validate examples/quickstart.toml
  neuromas train examples/quickstart.toml --out runs
  neuromas eval runs/quickstart --examples 512 --sampled
  neuromas serve runs/quickstart
  neuromas service
  neuromas runs submit examples/quickstart.toml --watch
"""


class Arguments(argparse.Namespace):
    """Parsed arguments; each command reads those that its options set."""

    module: str
    json: bool
    verbose: bool
    path: Path
    paths: list[Path]
    set: list[str]
    out: Path | None
    resume: bool
    overwrite: bool
    nodes: bool
    examples: int | None
    level: int | None
    sampled: bool
    engine: Literal["vllm", "transformers"] | None
    runtime: Literal["ray", "local"] | None
    plan: list[Path] | None
    plan_file: Path | None
    trial_steps: int | None
    append: int | None
    steps: int | None
    name: str | None
    seed: int
    smoke: bool
    host: str
    port: int
    arms: tuple[str, ...] | None
    seeds: tuple[int, ...] | None
    jobs: int
    verb: str
    id: str
    server: str | None
    bind_host: str | None
    bind_port: int | None
    data: Path | None
    store: str | None
    with_keys: bool
    scope: list[str]
    requests_per_minute: int | None
    max_queued_runs: int | None
    state: str | None
    limit: int
    checkpoint: str
    watch: bool
    check: bool
    wait: bool
    replicas: int | None
    max_replicas: int | None
    format: str


def package_version() -> str:
    """Return the installed version, or that of a checkout."""
    try:
        return version("neuromas")
    except PackageNotFoundError:
        return "0.1.0+checkout"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``neuromas``."""
    parser = argparse.ArgumentParser(
        prog="neuromas",
        description="Train graphs of language-model nodes jointly, grow them, and serve them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neuromas {package_version()}")
    commands = parser.add_subparsers(dest="module", metavar="COMMAND", required=True)
    for add in (_add_validate, _add_train, _add_eval, _add_influence, _add_grow, _add_export):
        add(commands)
    for add in (_add_report, _add_compare, _add_demo, _add_serve, _add_make_base):
        add(commands)
    add_service_commands(commands)
    return parser


def _add_spec(parser: argparse.ArgumentParser, what: str = "run spec (.toml or .json)") -> None:
    parser.add_argument("path", metavar="SPEC", type=Path, help=what)
    _add_set(parser)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="replace a value of the spec; may be repeated"
    )


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="CHECKPOINT", type=Path, help="a run folder (its last checkpoint) or a checkpoint"
    )


def _add_validate(commands: Commands) -> None:
    parser = add_command(
        commands,
        "validate",
        "validate",
        "check a run spec or a topology and show what it needs",
        "validate run.toml\nvalidate topology.json\nvalidate run.toml --set topology.chain=7 --json",
    )
    _add_spec(parser, "run spec or bare topology (.toml or .json)")


def _add_train(commands: Commands) -> None:
    parser = add_command(
        commands,
        "train",
        "train",
        "train a run spec, growing the graph where the spec says so",
        "train run.toml --out runs\ntrain run.toml --out runs --resume\n"
        "train run.toml --set training.steps=20 --set runtime.type=local",
    )
    _add_spec(parser)
    _add_run_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the run's folder")


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier run of the same name first")
    parser.add_argument("--nodes", action="store_true", help="show a line per node with every step shown")


def _add_eval(commands: Commands) -> None:
    parser = add_command(
        commands,
        "eval",
        "evaluate",
        "measure a checkpoint's accuracy on held-out examples",
        "eval runs/quickstart\neval runs/quickstart --examples 1024 --sampled --json",
    )
    _add_checkpoint(parser)
    parser.add_argument("--examples", metavar="N", type=int, help="held-out examples (default: the run's own number)")
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    parser.add_argument("--sampled", action="store_true", help="also sample at the run's temperature")
    _add_machine(parser)


def _add_influence(commands: Commands) -> None:
    parser = add_command(
        commands,
        "influence",
        "influence",
        "measure what each node contributes: accuracy without its message, and with the adapters exchanged",
        "influence runs/quickstart\ninfluence runs/quickstart --examples 256 --json",
    )
    _add_checkpoint(parser)
    parser.add_argument("--examples", metavar="N", type=int, help="held-out examples (default: the run's own number)")
    parser.add_argument("--level", metavar="L", type=int, help="task level (default: the task's target)")
    parser.add_argument("--engine", choices=("vllm", "transformers"), help="engine (default: the run's own)")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", choices=("vllm", "transformers"), help="engine (default: the run's own)")
    parser.add_argument("--runtime", choices=("ray", "local"), help="runtime (default: the run's own)")


def _add_grow(commands: Commands) -> None:
    parser = add_command(
        commands,
        "grow",
        "grow",
        "grow a trained graph into a larger one and train it as a new run",
        "grow runs/small --append 2 --level 5 --steps 40 --out runs\ngrow runs/small --plan plan.toml --name large\n"
        "grow runs/small --plan deeper.toml --plan wider.toml --trial-steps 20",
    )
    _add_checkpoint(parser)
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
    _add_set(parser)
    _add_run_options(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the new run's folder")


def _add_export(commands: Commands) -> None:
    parser = add_command(
        commands,
        "export",
        "export",
        "write a checkpoint's adapters as stock PEFT LoRA folders",
        "export runs/quickstart --out exported",
    )
    _add_checkpoint(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="new folder to write to")


def _add_report(commands: Commands) -> None:
    parser = add_command(commands, "report", "report", "write report.html of a run", "report runs/quickstart")
    parser.add_argument("path", metavar="RUN", type=Path, help="a run folder")


def _add_compare(commands: Commands) -> None:
    parser = add_command(
        commands,
        "compare",
        "compare",
        "train a spec beside its baselines, on the same base and the same rollouts",
        "compare run.toml --out comparison\ncompare run.toml --arms graph,untrained,single --seeds 0,1,2 --jobs 2",
    )
    _add_spec(parser)
    parser.add_argument("--arms", metavar="A,B", type=_words, help="arms to run (default: those that fit the spec)")
    parser.add_argument("--seeds", metavar="S,T", type=_integers, help="seeds (default: the spec's)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("comparison"), help="folder to write to (default: comparison)"
    )


def _add_demo(commands: Commands) -> None:
    parser = add_command(
        commands,
        "demo",
        "demo",
        "show in minutes what joint training and growth do, on the tiny base",
        "demo\ndemo --out runs --jobs 2",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs"), help="folder of runs (default: runs)")
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="runs at a time (default: 2)")


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in text.split(","))))


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"got {number}; allowed are whole numbers from 0 on")
    return number


def _integers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in _words(text))


def _add_serve(commands: Commands) -> None:
    parser = add_command(
        commands,
        "serve",
        "serve",
        "serve a trained graph as one OpenAI-compatible model",
        "serve runs/quickstart --port 8000",
    )
    _add_checkpoint(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: 127.0.0.1, this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="port (default: 8000; 0 = a free one)")
    parser.add_argument("--name", metavar="NAME", help="model name (default: the run's name)")
    parser.add_argument("--engine", choices=("vllm", "transformers"), help="engine (default: the run's own)")


def _add_make_base(commands: Commands) -> None:
    parser = add_command(
        commands,
        "make-base",
        "make_base",
        "pretrain the tiny base model from nothing, as the shipped one was made",
        "make-base --out my-base\nmake-base --out other-base --seed 1\nmake-base --out smoke-base --smoke",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="new folder (default: ./tiny-base)")
    parser.add_argument("--seed", metavar="N", type=_natural, default=0, help="of weights and questions (default: 0)")
    parser.add_argument("--smoke", action="store_true", help="a base that takes seconds and knows nothing, for tests")
