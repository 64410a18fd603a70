"""Estimates: what a graph is, and what an answer and a training step of it cost, from its document alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neuromas.adapters.families.registry import default_adapter
from neuromas.adapters.kinds import AdapterKinds
from neuromas.base.resolve import TINY
from neuromas.base.sizes import TRAINING_COPIES, read_sizes
from neuromas.growth.plan import Grown
from neuromas.run.expected_time import expected_time
from neuromas.services.api.checked import CheckedRun, readable_base
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.spec.credit import calls_per_example, rollouts_per_example
from neuromas.spec.parts import SamplingSpec
from neuromas.spec.run import RunSpec
from neuromas.topology.draw import draw_mermaid, draw_text
from neuromas.topology.graph import Topology
from neuromas.topology.summary import summary
from neuromas.topology.svg import draw_svg

_FLOAT_BYTES: Final = 4
_MAX_DRAWN_EDGES: Final = 2048
"""Edges of the largest graph that is drawn with lines; more could not be told apart, and take long."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the costs of a graph depend on beside itself.

    Attributes:
        base: name of the base.
        folder: of the base; None where it cannot be read from here.
        adapter: its adapters.
        max_tokens: budget of nodes without one of their own.
        max_signal: longest message that a node reads, tokens; None = no limit.
    """

    base: str
    folder: Path | None
    adapters: AdapterKinds
    max_tokens: int
    max_signal: int | None

    @staticmethod
    def of(spec: RunSpec | None, settings: Settings) -> Assumptions:
        """Return those of a run spec; None = of a run spec that says nothing but the graph."""
        base = TINY if spec is None else spec.base
        folder = readable_base(base, settings)
        adapters = AdapterKinds(default_adapter()) if spec is None else spec.adapters
        sampling = SamplingSpec() if spec is None else spec.sampling
        signal = None if spec is None else spec.prompt.max_signal_tokens
        return Assumptions(base, folder, adapters, sampling.max_tokens, signal)


def report(topology: Topology, checked: CheckedRun | None, settings: Settings) -> Document:
    """Return what a graph is and needs.

    Args:
        topology: the graph.
        checked: the run around it; None for a bare topology.
        settings: say which bases can be read.
    """
    spec, expected = (None if checked is None else checked.spec), None
    if checked is not None and checked.preflight is not None:
        spec, expected = checked.preflight.spec, expected_time(checked.preflight)
    assumed = Assumptions.of(spec, settings)
    budgets = {node.id: node.max_tokens or assumed.max_tokens for node in topology.nodes}
    path = _critical_path(topology, budgets)
    read = [min(budgets[sender], assumed.max_signal or budgets[sender]) for sender, _ in topology.edges]
    prompts, training = (0, None) if spec is None else (spec.training.prompts_per_step, spec.training)
    tokens = {
        "completion_max": sum(budgets.values()),
        "messages_read_max": sum(read),
        "question_reads": sum(node.reads_task for node in topology.nodes),
        "critical_path": sum(budgets[node] for node in path),
        "rollouts_per_step": None if training is None else prompts * rollouts_per_example(training, topology),
        "calls_per_step": None if training is None else prompts * sum(calls_per_example(training, topology).values()),
    }
    parameters, memory = _weights(topology, assumed, sum(budgets.values()) + sum(read))
    return {
        "object": "topology.report",
        "valid": True,
        "kind": "topology" if spec is None else "run",
        "name": topology.name if spec is None else spec.name,
        "hash": topology.content_hash,
        "nodes": len(topology.nodes),
        "edges": len(topology.edges),
        "order": list(topology.order),
        "layers": [list(layer) for layer in topology.layers],
        "depth": topology.depth,
        "width": topology.width,
        "output": topology.output,
        "calls_per_answer": len(topology.nodes),
        "critical_path": path,
        "adapters": len(topology.adapters),
        "base": assumed.base,
        "trainable_parameters": parameters,
        "tokens": tokens,
        "memory": memory,
        "time": None if expected is None else expected.to_document(),
        "stages": None if checked is None else [len(graph.nodes) for graph in checked.graphs],
        "notes": [*(checked.notes if checked else ()), *assumed.adapters.notes(topology)],
        "checked_at_start": [] if checked is None else list(checked.checked_at_start),
        "document": topology.to_document(),
        "drawn": summary(topology).to_document(),
        "drawing": draw(topology, "svg"),
    }


def report_growth(grown: Grown, checked: CheckedRun, settings: Settings) -> Document:
    """Return what a grown graph is and needs; see ``report``."""
    return report(grown.topology, checked, settings) | {
        "object": "growth.report",
        "kind": "growth",
        "new": list(grown.new),
    }


def draw(topology: Topology, style: str) -> str:
    """Return a graph as ``svg``, ``mermaid`` or ``text``; one with very many edges without lines."""
    if style == "mermaid":
        return draw_mermaid(topology)
    if len(topology.edges) > _MAX_DRAWN_EDGES:
        message = f"{len(topology.nodes)} nodes, {len(topology.edges)} edges: too many to draw"
        image = (
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" width="480" height="40" viewBox="0 0 480 40">'
            f'<text x="8" y="24" font-family="sans-serif" font-size="14" fill="gray">{message}</text></svg>'
        )
        return image if style == "svg" else message
    return draw_svg(topology) if style == "svg" else draw_text(topology)


def _critical_path(topology: Topology, budgets: Mapping[str, int]) -> list[str]:
    """Return the way to the output on which the most tokens are sampled one after the other."""
    cost: dict[str, int] = {}
    came: dict[str, str | None] = {}
    for node in topology.order:
        before = max(topology.predecessors(node), key=lambda sender: cost[sender], default=None)
        came[node] = before
        cost[node] = budgets[node] + (0 if before is None else cost[before])
    path: list[str] = []
    step: str | None = topology.output
    while step is not None:
        path.append(step)
        step = came[step]
    return path[::-1]


def _weights(topology: Topology, assumed: Assumptions, tokens: int) -> tuple[int | None, dict[str, int | None]]:
    sizes = None if assumed.folder is None else read_sizes(assumed.folder, assumed.adapters.targets)
    if sizes is None:
        return None, dict.fromkeys(("adapter_bytes", "training_bytes", "base_bytes", "kv_cache_bytes"))
    totals = assumed.adapters.totals(topology, sizes.adapted)
    trained = sum(kind.trained for kind in totals)
    return trained, {
        "adapter_bytes": sum(kind.served for kind in totals) * _FLOAT_BYTES,
        "training_bytes": trained * _FLOAT_BYTES * TRAINING_COPIES,
        "base_bytes": sizes.file_bytes,
        "kv_cache_bytes": None if sizes.kv_per_token is None else tokens * sizes.kv_per_token,
    }
