"""``neuromas influence``: what each node of a trained graph contributes, measured on held-out examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from neuromas.adapters.ref import AdapterRef
from neuromas.analysis.influence import Influence, message_influence, swap_test
from neuromas.cli.command import Parser
from neuromas.cli.console import Console
from neuromas.cli.options import MeasureOptions as Arguments
from neuromas.cli.options import add_measure
from neuromas.cluster.setup import set_threads
from neuromas.preflight import check_run
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import Provenance
from neuromas.run import worker_setup
from neuromas.tasks.registry import make_task
from neuromas.trained import Trained, find_trained
from neuromas.training.evaluate import held_out
from neuromas.training.location import read_topology

_SWAP = "adapters exchanged"

EXAMPLES = """influence runs/quickstart
influence runs/quickstart --examples 256 --json"""


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_measure(parser)


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    trained = find_trained(arguments.path).on_machine(arguments.engine, "local")
    examples = arguments.examples or trained.spec.evaluation.examples
    console.say(f"asking {trained.checkpoint} {examples} held-out questions, once per node and change")
    client, refs = open_client(trained)
    try:
        batch = _batch(trained, refs, arguments.level, examples)
        messages = message_influence(client, batch)
        swap = swap_test(client, batch) if len(refs) > 1 else None
    finally:
        client.close()
    document = _document(trained, arguments.level, messages, swap)
    console.show(_text(document), document)
    return 0


def open_client(trained: Trained) -> tuple[LocalRolloutClient, dict[str, AdapterRef]]:
    """Return a client of an engine in this process that holds the graph's adapters, and their versions by name.

    Raises:
        SpecError: the base or the engine do not fit, with all reasons.
        CheckpointError: the checkpoint cannot be read.
    """
    spec = trained.as_run()
    setup = worker_setup(spec, check_run(spec, read_topology))
    set_threads(spec.engine.threads)
    from neuromas.training.servable import plain_loras

    loras = plain_loras(trained.checkpoint, setup.base_folder, spec.adapter, spec.seed)
    refs = {name: AdapterRef(name, 0, spec.name) for name in loras}
    client = LocalRolloutClient(setup.make())
    client.publish({refs[name]: lora for name, lora in loras.items()})
    return client, refs


def _batch(trained: Trained, refs: dict[str, AdapterRef], level: int | None, examples: int) -> RolloutBatch:
    spec = trained.spec
    task = make_task(spec.task, spec.seed)
    return RolloutBatch(
        topology=trained.topology,
        examples=held_out(task, level, examples),
        group_size=1,
        adapters=refs,
        sampling=spec.sampling,
        greedy=True,
        seed=spec.evaluation.seed,
        provenance=Provenance(spec.name, 0, 0),
        task=task,
    )


def _document(
    trained: Trained, level: int | None, messages: Sequence[Influence], swap: Influence | None
) -> dict[str, Any]:
    return {
        "checkpoint": str(trained.checkpoint),
        "level": level,
        "without_message": [_entry(influence) for influence in messages],
        "adapters_exchanged": None if swap is None else _entry(swap),
    }


def _entry(influence: Influence) -> dict[str, Any]:
    return {
        "change": influence.change,
        "accuracy": influence.accuracy.value,
        "examples": len(influence.accuracy.rewards),
        "effect": asdict(influence.effect),
    }


def _text(document: dict[str, Any]) -> str:
    lines = ["greedy accuracy when a node's message is cut off (change against the whole graph, 95 % interval):"]
    lines += [_line(entry["change"], entry) for entry in document["without_message"]]
    if not document["without_message"]:
        lines.append("  the graph has no hidden node")
    if (swap := document["adapters_exchanged"]) is not None:
        lines += [f"{_SWAP}, each node with the next one's:", _line("all", swap)]
    return "\n".join(lines)


def _line(label: str, entry: dict[str, Any]) -> str:
    effect = entry["effect"]
    return (
        f"  {label:<12}{entry['accuracy']:.3f}   {effect['gain']:+.3f} [{effect['low']:+.3f}, {effect['high']:+.3f}], "
        f"p {effect['p_value']:.3g}"
    )
