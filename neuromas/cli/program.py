"""The commands of ``neuromas``. Only the module of the one that is asked for is loaded."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from neuromas.cli.command import CommandParser, Parser, sentence

COMMANDS: Final = {
    "examples": ("neuromas.cli.examples", "write the example specs and topologies into a folder"),
    "validate": ("neuromas.cli.validate", "check a run spec or a topology and show what it needs"),
    "tasks": ("neuromas.cli.tasks", "list the families of tasks, and show questions of one"),
    "train": ("neuromas.cli.train", "train a run spec, growing the graph where the spec says so"),
    "eval": ("neuromas.cli.evaluate", "measure a checkpoint's accuracy on held-out examples"),
    "analyze": (
        "neuromas.cli.analyze",
        "measure what a trained graph has learned: what each node and edge is worth, what nodes say",
    ),
    "diagnose": ("neuromas.cli.diagnose", "measure what training can still move in a graph, trained or not"),
    "grow": ("neuromas.cli.grow", "grow a trained graph into a larger one and train it as a new run"),
    "export": ("neuromas.cli.export", "write a checkpoint's adapters as stock PEFT LoRA folders"),
    "import": ("neuromas.cli.import_adapters", "make PEFT adapters of elsewhere the nodes of a graph"),
    "report": ("neuromas.cli.report", "write report.html of a run"),
    "compare": ("neuromas.cli.compare", "train a spec beside its baselines, on the same base and the same rollouts"),
    "demo": ("neuromas.cli.demo", "show in minutes what joint training and growth do, on the tiny base"),
    "serve": ("neuromas.cli.serve", "serve a trained graph as one OpenAI-compatible model"),
    "base": ("neuromas.cli.base", "list, get, import and show base models"),
    "make-base": ("neuromas.cli.make_base", "pretrain the tiny base model from nothing, as the shipped one was made"),
    "service": (
        "neuromas.services.cli.service",
        "run the whole service on this machine: API, dashboard, store and a local Ray cluster",
    ),
    "keys": (
        "neuromas.services.cli.keys",
        "make, list and revoke keys of the API, in the store of this machine's settings",
    ),
    "runs": ("neuromas.cli.runs", "submit runs to a server, follow and steer them"),
    "adapters": ("neuromas.cli.adapters", "list and delete the PEFT adapters that were brought to a server"),
    "endpoints": ("neuromas.cli.endpoints", "serve checkpoints as models of a server"),
    "checkpoints": ("neuromas.cli.checkpoints", "list a run's checkpoints, and get them as archives"),
    "watch": ("neuromas.cli.watch", "follow a run with a live display"),
}
"""Module and summary of each command, in the order of the help."""

_EPILOG = """\
exit codes: 0 done, 1 the run failed, 2 bad input,
            130 interrupted (a run can be resumed)

examples:
  neuromas validate examples/quickstart.toml
  neuromas train examples/quickstart.toml --out runs
  neuromas eval runs/quickstart --examples 512 --sampled
  neuromas serve runs/quickstart
  neuromas service
  neuromas runs submit examples/quickstart.toml --watch
"""


def package_version() -> str:
    """Return the installed version, or that of a checkout."""
    try:
        return version("neuromas")
    except PackageNotFoundError:
        return "0.1.0+checkout"


def make_parser() -> Parser:
    """Return the parser of ``neuromas``."""
    parser = Parser(
        prog="neuromas",
        description="Train graphs of language-model nodes jointly, grow them, and serve them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"neuromas {package_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, (module, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, description=sentence(summary), module=module)
    return parser
