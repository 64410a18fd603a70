"""Bounds: what is refused before it is looked at closely, because looking would take too long.

The reader of topologies says everything that is wrong with a graph, and a plan's edits make the nodes that they are
asked for; a few bytes could ask for gigabytes of either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from neuromas.errors import Fault
from neuromas.services.api.problems import ApiError, invalid
from neuromas.topology.graph import MAX_NODES, Topology

MAX_EDGES: Final = 20_000
"""Edges of a graph; a graph of 200 nodes may have all it can."""
MAX_PLANS: Final = 32
MAX_EDITS: Final = 16
MAX_STEPS: Final = 10_000_000
_MAX_NAMED: Final = 20
_SIZES: Final = ("width", "count", "siblings", "layer", "after_layer")


def check_size(document: Mapping[str, Any], max_bytes: int) -> None:
    """Refuse specs that are larger as JSON than allowed.

    Raises:
        ApiError: it is too large.
    """
    size = len(json.dumps(document))
    if size > max_bytes:
        raise ApiError(413, "too_large", f"the document has {size} bytes; allowed are {max_bytes}")


def check_graph(document: Mapping[str, Any], max_nodes: int, path: str = "") -> None:
    """Refuse topology documents that are too large, or name too many nodes that they do not have.

    Args:
        document: the topology, unchecked.
        max_nodes: largest number of nodes.
        path: of the document, in faults.

    Raises:
        ApiError: with what is too large.
    """
    if faults := [Fault(f"{path}{fault.path}", fault.message) for fault in _graph_faults(document, max_nodes)]:
        raise invalid("the topology is not valid", faults, code="invalid_topology")


def check_built(topology: Topology, max_nodes: int, path: str) -> None:
    """Refuse graphs that are larger than this service takes.

    Raises:
        ApiError: it is too large.
    """
    size = len(topology.nodes), len(topology.edges)
    for got, allowed, what in ((size[0], max_nodes, "nodes"), (size[1], MAX_EDGES, "edges")):
        if got > allowed:
            raise invalid("the graph is too large", [Fault(path, f"has {got} {what}; allowed are {allowed}")])


def check_plans(plans: object, path: str) -> None:
    """Refuse lists of growth plans that are too long, or ask for too many nodes.

    Raises:
        ApiError: with everything that is too large.
    """
    if not isinstance(plans, list | tuple):
        return
    if len(plans) > MAX_PLANS:
        raise invalid("the growth is not valid", [Fault(path, f"has {len(plans)} plans; allowed are {MAX_PLANS}")])
    if faults := [fault for index, plan in enumerate(plans) for fault in _plan_faults(plan, f"{path}[{index}]")]:
        raise invalid("the growth is not valid", faults)


def check_plan(plan: object, path: str = "plan") -> None:
    """Refuse a growth plan that is too long, or asks for too many nodes.

    Raises:
        ApiError: with everything that is too large.
    """
    if faults := list(_plan_faults(plan, path)):
        raise invalid("the plan is not valid", faults)


def _graph_faults(document: Mapping[str, Any], max_nodes: int) -> Iterator[Fault]:
    nodes, edges, layers = document.get("nodes"), document.get("edges"), document.get("layers")
    if isinstance(nodes, list) and len(nodes) > max_nodes:
        yield Fault("nodes", f"has {len(nodes)}; allowed are {max_nodes}")
    if isinstance(layers, list) and len(layers) > max_nodes:
        yield Fault("layers", f"has {len(layers)}; allowed are {max_nodes}")
    if not isinstance(edges, list):
        return
    if len(edges) > MAX_EDGES:
        yield Fault("edges", f"has {len(edges)}; allowed are {MAX_EDGES}")
        return
    entries = nodes if isinstance(nodes, list) else []
    ids = {node["id"] for node in entries if isinstance(node, dict) and isinstance(node.get("id"), str)}
    ends = {end for edge in edges if isinstance(edge, list) for end in edge if isinstance(end, str)}
    unknown = sorted(ends - ids)
    if len(unknown) > _MAX_NAMED:
        named = ", ".join(repr(end[:64]) for end in unknown[:_MAX_NAMED])
        yield Fault("edges", f"name {len(unknown)} nodes that are not in nodes, such as {named}")


def _plan_faults(plan: object, path: str) -> Iterator[Fault]:
    edits = plan.get("edits") if isinstance(plan, Mapping) else None
    if not isinstance(edits, list | tuple):
        return
    if len(edits) > MAX_EDITS:
        yield Fault(f"{path}.edits", f"has {len(edits)} edits; allowed are {MAX_EDITS}")
    for index, edit in enumerate(edits[:MAX_EDITS]):
        if not isinstance(edit, Mapping):
            continue
        sizes = {key: value for key in _SIZES if isinstance(value := edit.get(key), int)}
        layers = edit.get("layers")
        if isinstance(layers, list | tuple):
            sizes["layers"] = max(len(layers), sum(width for width in layers if isinstance(width, int)))
        for key, value in sizes.items():
            if value > MAX_NODES:
                yield Fault(f"{path}.edits[{index}].{key}", f"got {value}; a graph has at most {MAX_NODES} nodes")
