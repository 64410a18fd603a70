"""``neuromas analyze``: what a trained graph has learned: what each node and edge is worth, what nodes say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.checkpoints.location import read_topology
from neuromas.checkpoints.trained import Trained, find_trained
from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import MeasureOptions, add_measure
from neuromas.cli.status import StatusLine
from neuromas.cluster.setup import set_threads
from neuromas.report.numbers import change, percent
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import Provenance
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.studies.analyze import SIGNIFICANT, analyze, num_changes
from neuromas.studies.similarity import closest
from neuromas.tasks.base import Task
from neuromas.tasks.held_out import held_out
from neuromas.tasks.registry import make_task

_ALIKE = 3
_CHANGES = {"cut": "cut off", "shuffled": "of another question", "untrained": "by the bare base"}

EXAMPLES = """analyze runs/quickstart
analyze runs/quickstart --examples 256 --json"""


class Arguments(MeasureOptions):
    """What the command reads."""


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_measure(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path).on_machine(arguments.engine, "local")
    examples = arguments.examples or trained.spec.evaluation.examples
    with StatusLine(console) as status:
        status.phase("importing torch, loading the adapters")
        loras = load_adapters(trained)
        status.phase("importing and starting the engine")
        client, refs = open_client(trained, loras)
        try:
            task = make_task(trained.spec.task, trained.spec.seed)
            batch = _batch(trained, task, refs, arguments.level, examples)
            status.say(f"asking {trained.checkpoint} {len(batch.examples)} held-out questions for each change")
            document = analyze(client, batch, task, loras, _progress(status, num_changes(batch)))
        finally:
            client.close()
    document = {"checkpoint": str(trained.checkpoint), "level": arguments.level, **document}
    console.show(text(document), document)
    return 0


def open_client(
    trained: Trained, loras: Mapping[str, PlainLora]
) -> tuple[LocalRolloutClient, dict[str, AdapterRef | None]]:
    """Return a client of an engine in this process that holds the adapters, and their versions by name.

    Raises:
        SpecError: the base or the engine do not fit, with all reasons.
    """
    spec = trained.as_run()
    setup = worker_setup(spec, check_run(spec, read_topology, ("test",)))
    set_threads(spec.engine.threads)
    refs = {name: AdapterRef(name, 0, spec.name) for name in loras}
    client = LocalRolloutClient(setup.make())
    client.publish({refs[name]: lora for name, lora in loras.items()})
    return client, dict(refs)


def text(document: Mapping[str, Any]) -> str:
    """Return the findings for people."""
    lines = [f"greedy accuracy {percent(document['accuracy'])} on {document['examples']} held-out questions", ""]
    lines.append("what each message is worth (change of accuracy in points, 95 % interval):")
    for node in document["nodes"]:
        lines += [_line(f"{node['node']} {_CHANGES[kind]}", entry) for kind, entry in node["changes"].items()]
    lines += [_line(f"edge {entry['change']} silent", entry) for entry in document["edges"]]
    if document["exchanged"] is not None:
        lines.append(_line("adapters, each the next one's", document["exchanged"]))
    lines += ["", "what the nodes say:", *map(_said, document["nodes"])]
    if alike := closest(document["similarity"])[:_ALIKE]:
        lines += ["", "most alike adapters (cosine of their updates):"]
        lines += [f"  {one}, {other}  {cosine:+.2f}" for one, other, cosine in alike]
    if idle := [node["node"] for node in document["nodes"] if node["is_idle"]]:
        lines += ["", f"idle: {', '.join(idle)}: no change of what they say costs accuracy (p > {SIGNIFICANT})"]
    return "\n".join(lines)


def load_adapters(trained: Trained) -> Mapping[str, PlainLora]:
    """Return the adapters of a trained graph by name."""
    from neuromas.base.resolve import resolve_base
    from neuromas.checkpoints.servable import plain_loras

    spec = trained.spec
    return plain_loras(trained.checkpoint, resolve_base(spec.base), spec.adapter, spec.seed)


def _batch(
    trained: Trained, task: Task, refs: Mapping[str, AdapterRef | None], level: int | None, examples: int
) -> RolloutBatch:
    spec = trained.spec
    return RolloutBatch(
        topology=trained.topology,
        examples=held_out(task, level, examples, "test"),
        group_size=1,
        adapters=refs,
        sampling=spec.sampling,
        greedy=True,
        seed=spec.evaluation.seed,
        provenance=Provenance(spec.name, 0, 0),
        task=task,
    )


def _progress(status: StatusLine, runs: int) -> Callable[[str], None]:
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        status.phase(f"asked {done} of {runs} times (last: {what})")

    status.phase(f"asked 0 of {runs} times")
    return tell


def _line(label: str, entry: Mapping[str, Any]) -> str:
    effect = entry["effect"]
    gain, low, high, p = (effect[key] for key in ("gain", "low", "high", "p_value"))
    return f"  {label:<30}{change(gain):>6}  [{change(low)}, {change(high)}]  p {p:.2g}"


def _said(node: Mapping[str, Any]) -> str:
    found = node["messages"]
    if found is None:
        return f"  {node['node']:<10}nothing: every rollout failed before it"
    said = ", ".join(f"{label['label']} {percent(label['share'])}" for label in node["says"][:3])
    return (
        f"  {node['node']:<10}{said or 'nothing the task can read'}; correct {percent(node['correct'])}; "
        f"{found['distinct']} different, {found['entropy_bits']:.1f} bits, of the answer {found['answer_bits']:.1f}; "
        f"{found['tokens']:.1f} tokens" + (f", {percent(found['cut_share'])} cut" if found["cut_share"] else "")
    )
