"""Groups of nodes whose adapters are of another kind than the run's usual one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from neuromas.adapters.families.registry import AnyAdapterSpec
from neuromas.errors import Fault
from neuromas.schema.model import SpecModel
from neuromas.schema.suggest import suggest
from neuromas.topology.graph import MAX_NODES, NAME, Topology

GroupName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]
NodeId = Annotated[str, Field(max_length=63)]


class NodeGroupSpec(SpecModel):
    """Nodes, and the adapters that they have instead of the run's usual ones."""

    nodes: tuple[NodeId, ...] = Field(default=(), max_length=MAX_NODES)
    """Ids of the nodes. Those that growth adds are in the group of the node that they are made like."""
    adapter: AnyAdapterSpec
    """Their adapters, as in the section ``adapter``; ``targets`` left out are those of that section."""


def marked(topology: Topology, listed: Mapping[str, object]) -> Topology:
    """Return the graph whose nodes carry their group.

    Args:
        topology: the graph; nodes that have a group keep it.
        listed: node id -> name of its group; what is no node of the graph is left out.
    """
    nodes = tuple(
        replace(node, group=str(listed[node.id])) if node.group is None and node.id in listed else node
        for node in topology.nodes
    )
    return topology if nodes == topology.nodes else replace(topology, nodes=nodes)


def group_faults(groups: Mapping[str, NodeGroupSpec], topology: Topology) -> Iterator[Fault]:
    """Yield where groups and a graph whose nodes are marked do not agree."""
    for name, group in groups.items():
        for index, node in enumerate(group.nodes):
            path = f"node_groups.{name}.nodes[{index}]"
            if node not in topology.order:
                yield Fault(path, f"got {node!r}, which is no node; {suggest(node, topology.order)}")
            elif (other := topology.node(node).group) is None:
                yield Fault(path, f"{node!r} shares its adapter with nodes outside the group; name all of them")
            elif other != name:
                yield Fault(path, f"{node!r} is in group {other!r} already; name it in one of them")
        if not group.nodes and all(node.group != name for node in topology.nodes):
            yield Fault(f"node_groups.{name}.nodes", "the group has no node; name its nodes, or leave the group out")
    for index, group_name in enumerate(node.group for node in topology.nodes):
        if group_name is not None and group_name not in groups:
            allowed = suggest(group_name, groups) if groups else "the run has no node_groups"
            yield Fault(f"topology.nodes[{index}].group", f"got {group_name!r}; {allowed}")


def members(topology: Topology) -> dict[str, tuple[str, ...]]:
    """Return the ids of the nodes of each group that has some."""
    names = dict.fromkeys(node.group for node in topology.nodes if node.group is not None)
    return {name: tuple(node.id for node in topology.nodes if node.group == name) for name in names}


def regrouped(groups: Mapping[str, Any], topology: Topology) -> dict[str, Any]:
    """Return the documents of the groups that have nodes in a graph, with these listed."""
    found = members(topology)
    return {name: {**group, "nodes": list(found[name])} for name, group in groups.items() if name in found}
