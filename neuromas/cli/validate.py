"""``neuromas validate``: checks a run spec or a bare topology and shows what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuromas.adapters.kinds import KindTotals
from neuromas.base.suited import suit_spec
from neuromas.checkpoints.trained import find_trained
from neuromas.cli.command import Parser
from neuromas.cli.options import SpecOptions as Arguments
from neuromas.cli.options import add_spec
from neuromas.cli.preview import memory_text, passes_text, preview, preview_lines, time_texts
from neuromas.display.console import Console
from neuromas.run.preflight import Preflight, check_run, held_out_sizes
from neuromas.run.result import spec_hash
from neuromas.spec.credit import calls_per_example, rollouts_per_example
from neuromas.spec.load import is_topology_document, load_document, load_spec, load_topology
from neuromas.spec.run import RunSpec
from neuromas.tasks.held_out import HeldOutPart
from neuromas.topology.draw import draw_text
from neuromas.topology.graph import Topology

EXAMPLES = """validate run.toml
validate topology.json
validate run.toml --set topology.chain=7 --json"""

_FEW = 30  # questions; with fewer a 95 % interval may be wider than .35


def add(parser: Parser) -> None:
    """Add the arguments."""
    add_spec(parser, "run spec or bare topology (.toml or .json)")


def run(arguments: Arguments, console: Console) -> int:
    """Run the command."""
    if is_topology_document(load_document(arguments.path)):
        topology = load_topology(arguments.path, arguments.set)
        facts = topology_facts(topology)
        console.show(_text(topology, facts), {"valid": True, "kind": "topology"} | facts)
        return 0
    suited = suit_spec(load_spec(arguments.path, arguments.set))
    spec = suited.spec
    preflight = check_run(spec, find_trained)
    chosen = {choice.setting: choice.value for choice in suited.choices}
    facts = topology_facts(spec.topology) | run_facts(spec, preflight) | {"chosen_by_base": chosen}
    facts["notes"] += _held_out_notes(held_out_sizes(spec, preflight.task))
    seen = preview(preflight)
    memory = seen["memory_bytes"]
    shown = {"memory": memory_text(memory), "passes": passes_text(memory)}
    shown |= time_texts(seen["time"])
    lines = [*preview_lines(seen, len(preflight.graphs[0].nodes)), ""]
    text = _text(spec.topology, facts | shown, lines)
    console.show(text, {"valid": True, "kind": "run"} | facts | {"preview": seen})
    return 0


def _held_out_notes(sizes: Mapping[int | None, Mapping[HeldOutPart, int]]) -> list[str]:
    notes = []
    for level, parts in sizes.items():
        few = " Few: intervals will be wide" if min(parts.values()) < _FEW else ""
        place = "" if level is None else f" at level {level}"
        notes.append(
            f"Held-out questions{place}: {parts['validation']} for decisions (validation), {parts['test']} for the "
            f"result (test).{few}"
        )
    return notes


def topology_facts(topology: Topology) -> dict[str, Any]:
    """Return what the graph alone says."""
    return {
        "name": topology.name,
        "hash": topology.content_hash,
        "nodes": len(topology.nodes),
        "order": list(topology.order),
        "depth": topology.depth,
        "width": topology.width,
        "calls_per_answer": len(topology.nodes),
        "adapters": len(topology.adapters),
        "output": topology.output,
    }


def run_facts(spec: RunSpec, preflight: Preflight) -> dict[str, Any]:
    """Return what the run needs."""
    training = spec.training
    calls = sum(calls_per_example(training, spec.topology).values())
    return {
        "run": spec.name,
        "spec_hash": spec_hash(spec),
        "base": str(preflight.base.folder),
        "engine": preflight.engine,
        "trainable_parameters": preflight.num_trained(spec.topology),
        "adapter_kinds": [_kind(kind) for kind in preflight.totals(spec.topology)],
        "adapter_bytes": preflight.published_bytes(spec.topology),
        "longest_call_tokens": preflight.longest_call,
        "rollouts_per_step": training.prompts_per_step * rollouts_per_example(training, spec.topology),
        "calls_per_step": training.prompts_per_step * calls,
        "steps": training.steps,
        "stages": [len(graph.nodes) for graph in preflight.graphs],
        "notes": [*preflight.notes, *spec.adapters.notes(spec.topology)],
    }


def _kind(kind: KindTotals) -> dict[str, Any]:
    """Return what the adapters of one node group are, as plain data."""
    return {
        "group": kind.group or None,
        "type": kind.section.type,
        "adapters": kind.adapters,
        "trainable_parameters_each": kind.parameters.per_adapter,
        "trainable_parameters_shared": kind.parameters.shared,
        "served_rank": kind.section.served_rank,
    }


def _kind_line(kind: Mapping[str, Any]) -> str:
    shared = kind["trainable_parameters_shared"]
    also = f", {shared:,} shared" if shared else ""
    where = "no group" if kind["group"] is None else f"group {kind['group']}"
    each = f"{kind['trainable_parameters_each']:,} trained numbers each{also}, served rank {kind['served_rank']}"
    return f"  {where}: {kind['adapters']} of type {kind['type']}, {each}"


_COLUMNS = 80
_HASH = 16
"""Digits that are shown of a hash; --json has all."""
_LABELS = {
    "order": "order",
    "depth": "depth",
    "width": "width",
    "calls_per_answer": "calls per answer",
    "adapters": "adapters",
    "base": "base",
    "engine": "engine",
    "trainable_parameters": "trainable parameters",
    "adapter_bytes": "adapter bytes per sync",
    "longest_call_tokens": "longest call, tokens",
    "rollouts_per_step": "rollouts per step",
    "calls_per_step": "calls per step",
    "steps": "optimizer steps",
    "stages": "nodes by stage",
    "memory": "memory, at most",
    "passes": "forward pass",
    "time": "time",
    "counted_for": "counted for",
    "hash": "topology hash",
}


def _text(topology: Topology, facts: Mapping[str, Any], preview: Sequence[str] = ()) -> str:
    lines = [draw_text(topology, _COLUMNS), "", *preview]
    shown = {**facts, "hash": facts["hash"][:_HASH]}
    for key, label in _LABELS.items():
        if key in shown:
            lines.append(f"{label + ':':<24}{_value(shown[key])}")
    if len(kinds := facts.get("adapter_kinds", ())) > 1:
        lines += ["", "adapters by node group:", *map(_kind_line, kinds)]
    if chosen := facts.get("chosen_by_base"):
        lines += ["", "left out in the spec and chosen to suit the base:"]
        lines += [
            f"  {setting} = {_value(list(value) if isinstance(value, tuple) else value)}"
            for setting, value in chosen.items()
        ]
    lines += ["", *facts["notes"]] if facts.get("notes") else []
    return "\n".join([*lines, "", "valid"])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
