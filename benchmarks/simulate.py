"""How long a step takes on a graph, a base and a cluster that are not at hand, from steps that were measured here.

    python -m benchmarks.simulate measure [--base smollm2-135m] [--out runs/simulate]
    python -m benchmarks.simulate check [--out runs/simulate]
    python -m benchmarks.simulate predict --nodes 31 --depth 5 --weights 4e9 --workers 1 6 48 --learners 1 2 16

`measure` trains a few steps of graphs of several shapes on the shipped base and on a real one, a process each, one
thread; finished ones are not repeated. `check` fits the rates of `benchmarks/step_model.py` to some of the shapes and
predicts the others. `predict` takes the host's seconds from that fit and the device's rates from its arguments.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.measure import Cell, report
from benchmarks.scale import tree
from benchmarks.step_model import Cluster, Rates, StepTime, Work, fit, predict
from benchmarks.training_run import train
from neuromas.base.resolve import resolve_base
from neuromas.base.sizes import read_sizes
from neuromas.topology.document import topology_from_document

Document = dict[str, Any]
STEPS: Final = 5
WARM: Final = 2
"""Steps of a shape, and those at its beginning that do not count."""
ENDLESS: Final = 10**9
"""Workers with whom calls cost nothing: what is left are passes, one after the other."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A step to measure.

    Attributes:
        topology: as in a run spec.
        questions: of a step.
        group: rollouts of each.
        is_real: on the real base, which reads plain prompts, instead of the shipped one.
        is_told: whether rates are fitted to it; the others are predicted.
    """

    topology: Document
    questions: int
    group: int
    is_real: bool = False
    is_told: bool = True


SHAPES: Final[Mapping[str, Shape]] = {
    "one": Shape({"chain": 1}, 8, 8),
    "one-wide": Shape({"chain": 1}, 48, 8),
    "chain": Shape({"chain": 3}, 8, 4),
    "chain-wide": Shape({"chain": 7}, 24, 8),
    "tree": Shape(tree(4), 8, 4),
    "tree-large": Shape(tree(6), 4, 4),
    "chain-asked": Shape({"chain": 5}, 16, 8, is_told=False),
    "tree-asked": Shape(tree(5), 8, 8, is_told=False),
    "real-one": Shape({"chain": 1}, 4, 4, is_real=True),
    "real-chain": Shape({"chain": 2}, 4, 8, is_real=True),
    "real-asked": Shape({"chain": 3}, 4, 4, is_real=True, is_told=False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, check or predict; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.verb == "measure":
        return 0 if measure(options.out, options.base) else 1
    steps = read_steps(options.out)
    rates = fit([steps[name] for name, shape in SHAPES.items() if shape.is_told and name in steps])
    if options.verb == "check":
        report("seconds of a step, measured and predicted", check(steps, rates), options.json)
        print(f"  rates: {_rates_text(rates)}")
    else:
        report("seconds of a step", predicted(options, rates), options.json)
    return 0


def measure(out: Path, base: str) -> bool:
    """Train what is missing; returns whether all shapes are there."""
    os.environ["OMP_NUM_THREADS"] = "1"
    done = True
    for name, shape in SHAPES.items():
        if not (out / "runs" / name / "result.json").is_file():
            done &= train(spec_of(name, shape, base), out) is not None
    return done


def spec_of(name: str, shape: Shape, base: str) -> Document:
    """Return the run spec of a shape."""
    spec: Document = {
        "name": name,
        "topology": shape.topology,
        "task": {"type": "chain", "hops": 3},
        "adapter": {"type": "lora", "rank": 1},
        "training": {"steps": STEPS, "prompts_per_step": shape.questions, "group_size": shape.group},
        "evaluation": {"examples": 4},
        "checkpoint": {"every": 0},
        "tracking": {"rollouts_per_sample": 0},
        "runtime": {"type": "local"},
    }
    if shape.is_real:
        spec["base"] = base
        spec["prompt"] = {"renderer": "plain"}
        spec["sampling"] = {"max_tokens": 12}
        spec["engine"] = {"max_model_len": 512}
    return spec


def read_steps(out: Path) -> dict[str, tuple[Work, StepTime]]:
    """Return what the measured shapes computed and how long their steps took, medians, by name."""
    return {name: read_step(out / "runs" / name) for name in SHAPES if (out / "runs" / name / "result.json").is_file()}


def read_step(run: Path) -> tuple[Work, StepTime]:
    """Return the work and the seconds of a run's steps, medians over those behind the first ones."""
    spec = json.loads((run / "spec.resolved.json").read_text(encoding="utf-8"))
    graph = topology_from_document(json.loads((run / "result.json").read_text(encoding="utf-8"))["topology"])
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines][WARM:]
    values = {key: median(step[key] for step in steps) for key in _READ}
    calls = values["rollout/calls"]
    message, edges = values["rollout/tokens"] / calls, sum(len(graph.predecessors(node)) for node in graph.order)
    sizes = read_sizes(resolve_base(spec["base"]), ())
    if sizes is None or sizes.dimensions is None:
        raise ValueError(f"{run}: the files of base {spec['base']!r} do not say its sizes")
    training = spec["training"]
    work = Work(
        nodes=len(graph.order),
        depth=graph.depth,
        questions=training["prompts_per_step"],
        group=training["group_size"],
        prompt_tokens=values["rollout/prompt_tokens"] / calls,
        message_tokens=message,
        read_tokens=message * edges / len(graph.order),
        weights=sizes.dimensions.parameters,
        weight_bytes=4.0,
        kept=max(1.0, values["train/groups_kept"]) / training["prompts_per_step"],  # where none is, one is computed
    )
    update = median(step["time/step_s"] - step["time/rollout_s"] - step["time/sync_s"] for step in steps)
    return work, StepTime(values["time/rollout_s"], update, values["time/sync_s"])


_READ: Final = (
    "rollout/calls",
    "rollout/tokens",
    "rollout/prompt_tokens",
    "train/groups_kept",
    "time/rollout_s",
    "time/sync_s",
)


def check(steps: Mapping[str, tuple[Work, StepTime]], rates: Rates) -> list[dict[str, Cell]]:
    """Return a row for each measured shape: seconds that were measured and those that the rates say."""
    rows: list[dict[str, Cell]] = []
    for name, (work, seconds) in steps.items():
        said = predict(work, rates)
        rows.append(
            {
                "shape": name,
                "fitted": "yes" if SHAPES[name].is_told else "no",
                "calls": work.calls,
                "rollouts": seconds.rollout,
                "said ": said.rollout,
                "update": seconds.update,
                "said": said.update,
                "step": seconds.total(),
                "said of step": said.total(),
                "ratio": said.total() / seconds.total(),
            }
        )
    return rows


def predicted(options: argparse.Namespace, rates: Rates) -> list[dict[str, Cell]]:
    """Return a row for each cluster: what the work takes on it."""
    read = options.message * (options.nodes - 1) / options.nodes  # a tree's or a chain's: an edge to every node but one
    shape = (options.nodes, options.depth, options.questions, options.group)
    work = Work(*shape, options.prompt, options.message, read, options.weights)
    device = replace(rates, read_bytes_s=options.read_bytes, sample_flops=options.flops, train_flops=options.flops)
    rows: list[dict[str, Cell]] = []
    for workers, learners in zip(options.workers, options.learners, strict=True):
        seconds = predict(work, device, Cluster(workers, learners, options.link), options.trained)
        rows.append(
            {
                "nodes": work.nodes,
                "workers": workers,
                "learners": learners,
                "rollouts": seconds.rollout,
                "of it passes": predict(work, device, Cluster(ENDLESS)).rollout,
                "update": seconds.update,
                "publish": seconds.publish,
                "step": seconds.total(),
                "overlapped": seconds.total(overlap=True),
            }
        )
    return rows


def _rates_text(rates: Rates) -> str:
    host = {"pass": rates.pass_s, "call": rates.call_s, "update": rates.update_s}
    host |= {"row of it": rates.row_s, "adapter published": rates.adapter_s}
    read, sample, train = rates.read_bytes_s, rates.sample_flops, rates.train_flops
    said = ", ".join(f"{1e3 * seconds:.3g} ms a {name}" for name, seconds in host.items())
    return f"{said}; {read:.3g} bytes/s, {sample:.3g} and {train:.3g} operations/s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("measure", "check", "predict"):
        own = verbs.add_parser(verb)
        own.add_argument("--out", type=Path, default=Path("runs/simulate"), help="folder of the measured runs")
        own.add_argument("--json", type=Path)
    verbs.choices["measure"].add_argument("--base", default="smollm2-135m", help="the real base")
    asked = verbs.choices["predict"]
    for name, default, what in (
        ("nodes", 7, "of the graph"),
        ("depth", 3, "nodes on its longest path"),
        ("questions", 64, "of a step"),
        ("group", 8, "rollouts of each"),
    ):
        asked.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    for name, what in (("workers", "rollout workers"), ("learners", "learners")):
        asked.add_argument(f"--{name}", type=int, nargs="+", default=[1], help=f"{what}, a device each; one a row (1)")
    for name, number, what in (
        ("prompt", 512.0, "tokens of a prompt"),
        ("message", 128.0, "tokens of a message"),
        ("weights", 4e9, "numbers of the base, two bytes each"),
        ("trained", 4e6, "numbers that train, of each node"),
        ("flops", 4e14, "operations per second of a device: 40 %% of an H100's in bfloat16"),
        ("read-bytes", 2e12, "bytes per second that a device reads: 60 %% of an H100's"),
        ("link", 2e10, "bytes per second between devices"),
    ):
        asked.add_argument(f"--{name}", type=float, default=number, help=f"{what} ({number:g})")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
