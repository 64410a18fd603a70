"""``neuromas eval``: measures a checkpoint on held-out examples."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from neuromas.checkpoints.location import read_topology
from neuromas.checkpoints.trained import Trained, find_trained
from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import MeasureOptions, add_measure
from neuromas.cli.status import StatusLine
from neuromas.cluster.evaluation import Evaluation, EvaluationRequest
from neuromas.cluster.runtime import Runtime, RuntimeSetup, open_runtime
from neuromas.report.numbers import percent, share
from neuromas.run.preflight import check_run
from neuromas.run.result import score
from neuromas.run.run import worker_setup

EXAMPLES = """eval runs/quickstart
eval runs/quickstart --examples 1024 --sampled --json"""


class Arguments(MeasureOptions):
    """What the command reads."""

    sampled: bool
    runtime: Literal["ray", "local"] | None


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_measure(parser)
    parser.add_argument("--sampled", action="store_true", help="also sample at the run's temperature")
    parser.add_argument("--runtime", choices=("ray", "local"), help="runtime (default: the run's own)")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path).on_machine(arguments.engine, arguments.runtime)
    examples = arguments.examples or trained.spec.evaluation.examples
    modes = ("greedy", "sampled") if arguments.sampled else ("greedy",)
    console.say(f"evaluating {trained.checkpoint} on {examples} test questions")
    spec = trained.as_run()
    found = {}
    with tempfile.TemporaryDirectory(prefix="neuromas-eval-") as scratch, StatusLine(console) as status:
        status.phase("checking the spec")
        preflight = check_run(spec, read_topology, ("test",))
        setup = RuntimeSetup(spec, Path(scratch), worker_setup(spec, preflight), None, arguments.verbose)
        runtime = open_runtime(setup, status)
        try:
            for mode in modes:
                status.phase(f"evaluating, {mode}, {examples} questions")
                found[mode] = _evaluate(runtime, trained, arguments.level, examples, mode)
        finally:
            runtime.close()
    document = _document(trained, arguments.level, found)
    console.show(_text(document), document)
    return 0


def _evaluate(runtime: Runtime, trained: Trained, level: int | None, examples: int, mode: str) -> Evaluation:
    return runtime.evaluate(EvaluationRequest(trained.checkpoint, level, examples, "test", greedy=mode == "greedy"))


def _document(trained: Trained, level: int | None, found: dict[str, Evaluation]) -> dict[str, Any]:
    return {
        "checkpoint": str(trained.checkpoint),
        "level": level,
        "accuracy": {mode: score(evaluation).to_document() for mode, evaluation in found.items()},
        "roles": [asdict(role) for role in found["greedy"].roles],
    }


def _text(document: dict[str, Any]) -> str:
    lines = [f"accuracy, {mode + ':':<10}{share(figure)}" for mode, figure in document["accuracy"].items()]
    lines.append("what the nodes say (greedy):")
    for role in document["roles"]:
        said = ", ".join(f"{entry['label']} {percent(entry['share'])}" for entry in role["said"][:3])
        lines.append(f"  {role['node']:<12}{said or 'nothing the task can read'}; correct {percent(role['correct'])}")
    return "\n".join(lines)
