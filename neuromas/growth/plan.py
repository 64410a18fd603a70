"""Applying a growth plan: the grown Topology, and what every one of its adapters starts from. Pure; touches no weights.

A plan is validated by applying it: everything that can be wrong with it is known before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from neuromas.adapters.source import AdapterSource, TrainedAdapter
from neuromas.errors import GrowthError
from neuromas.schema.suggest import suggest
from neuromas.spec.growth import (
    AppendSpec,
    BeforeOutputSpec,
    ConnectSpec,
    DeepenSpec,
    EditSpec,
    GraftSpec,
    InheritanceSpec,
    PlanSpec,
    PruneSpec,
    WidenSpec,
)
from neuromas.topology import edits
from neuromas.topology.graph import Topology

TrainedNode = tuple[int, str]
"""A trained node: (module, node id); module 0 is the graph grown from, k >= 1 the plan's k-th further checkpoint."""


@dataclass(frozen=True, slots=True)
class Grown:
    """What a plan makes of a graph.

    Attributes:
        topology: the grown graph.
        origin: node of the grown graph -> the trained node it is, None for new nodes. Complete.
        new: ids of the new nodes, in topological order.
        sources: adapter name of the grown graph -> what it starts from. Complete.
        plan: that was applied.
    """

    topology: Topology
    origin: Mapping[str, TrainedNode | None]
    new: tuple[str, ...]
    sources: Mapping[str, AdapterSource]
    plan: PlanSpec

    @property
    def mapping(self) -> dict[str, str]:
        """Node of the graph grown from -> the same node in the grown graph; pruned ones are left out."""
        return {trained[1]: node for node, trained in self.origin.items() if trained is not None and trained[0] == 0}

    @property
    def modules(self) -> tuple[str, ...]:
        """Further checkpoints, in the order in which ``sources`` counts them from 1."""
        return module_names((self.plan,))

    @property
    def old_adapters(self) -> tuple[str, ...]:
        """Adapters that are taken over as they were trained."""
        return tuple(name for name, source in self.sources.items() if source.kind == "keep")


@dataclass(frozen=True, slots=True)
class _Draft:
    """A graph between two edits of a plan.

    Attributes:
        graph: as edited so far.
        origin: as in ``Grown``.
        twins: new node -> node of ``graph`` whose place it repeats.
        copied: new nodes that copy their twin whatever the plan's inheritance says.
        fresh: new nodes that start fresh whatever the plan's inheritance says.
    """

    graph: Topology
    origin: Mapping[str, TrainedNode | None]
    twins: Mapping[str, str]
    copied: frozenset[str] = frozenset()
    fresh: frozenset[str] = frozenset()


def apply_plan(
    topology: Topology, plan: PlanSpec, modules: Mapping[str, Topology] | None = None, examples_of: int | None = None
) -> Grown:
    """Return the grown graph with its inheritance.

    Args:
        topology: the graph to grow.
        plan: edits in order, and what new nodes start from.
        modules: graphs of the checkpoints that the plan's grafts name.
        examples_of: level whose worked examples its nodes have read, and go on reading; None = no level's own.

    Raises:
        GrowthError: an edit does not fit the graph as edited so far; the message starts with its path in the plan.
    """
    known = {} if modules is None else modules
    names = module_names([plan])
    draft = _Draft(_reading(topology, examples_of), {node: (0, node) for node in topology.order}, {})
    for index, edit in enumerate(plan.edits):
        try:
            draft = _apply_edit(draft, edit, names, known)
        except GrowthError as error:
            raise GrowthError(f"edits[{index}]: {error}") from error
    graphs = [topology, *(known[name] for name in names)]
    new = tuple(node for node in draft.graph.order if draft.origin[node] is None)
    return Grown(draft.graph, draft.origin, new, dict(_sources(draft, plan.inherit, graphs)), plan)


def _reading(graph: Topology, level: int | None) -> Topology:
    """Return the graph with its nodes held to a level's worked examples; those that are held to one already stay."""
    if level is None:
        return graph
    views = {node: graph.view(node) for node in graph.order}
    held = (
        replace(node, view=views[node.id] if views[node.id].level is not None else replace(views[node.id], level=level))
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(held))


def module_names(plans: Sequence[PlanSpec]) -> tuple[str, ...]:
    """Return the checkpoints that grafts in these plans name, each once, in order."""
    grafts = (edit for plan in plans for edit in plan.edits if isinstance(edit, GraftSpec))
    return tuple(dict.fromkeys(name for graft in grafts for name in graft.modules))


def _apply_edit(draft: _Draft, edit: EditSpec, names: Sequence[str], modules: Mapping[str, Topology]) -> _Draft:
    graph = draft.graph
    match edit:
        case AppendSpec(layers=layers):
            return _edited(draft, edits.append(graph, layers))
        case BeforeOutputSpec(width=width):
            return _edited(draft, edits.before_output(graph, width))
        case WidenSpec(layer=layer, count=count):
            return _edited(draft, edits.widen(graph, layer, count))
        case DeepenSpec(after_layer=after_layer, width=width):
            return _edited(draft, edits.deepen(graph, after_layer, width))
        case ConnectSpec(edges=edges):
            return _edited(draft, edits.connect(graph, edges))
        case PruneSpec(nodes=nodes):
            return _edited(draft, edits.prune(graph, nodes))
        case GraftSpec(modules=()):
            grafted = _edited(draft, edits.graft(graph, edit.num_siblings))
            siblings = frozenset(grafted.twins.keys() - draft.twins.keys())
            if edit.siblings_from == "copy":
                return replace(grafted, copied=grafted.copied | siblings)
            return replace(grafted, fresh=grafted.fresh | siblings)
        case GraftSpec():
            return _joined(draft, edit, names, modules)


def _edited(draft: _Draft, result: edits.Edited) -> _Draft:
    kept = {new: old for new, old in result.mapping.items() if old is not None}
    now = {old: new for new, old in kept.items()}
    origin = {new: draft.origin[kept[new]] if new in kept else None for new in result.topology.order}
    twins = {now[node]: now[twin] for node, twin in draft.twins.items() if node in now and twin in now}
    twins |= {node: now[twin] for node, twin in result.twins.items()}
    return _Draft(
        result.topology,
        origin,
        twins,
        frozenset(now[node] for node in draft.copied if node in now),
        frozenset(now[node] for node in draft.fresh if node in now),
    )


def _joined(draft: _Draft, edit: GraftSpec, names: Sequence[str], modules: Mapping[str, Topology]) -> _Draft:
    for position, name in enumerate(edit.modules):
        if name not in modules:
            raise GrowthError(f"graft.modules[{position}]: got checkpoint {name!r}, {suggest(name, modules)}")
    others = [(modules[name], names.index(name) + 1) for name in edit.modules]
    own = (draft.graph, 0)
    # In series the further modules are front parts: the graph being grown keeps the output.
    parts = [own, *others] if edit.arrange == "subtrees" else [*others, own]
    result = edits.graft_modules([graph for graph, _ in parts], edit.arrange)
    own_index = parts.index(own)

    def origin_of(trained: TrainedNode | None) -> TrainedNode | None:
        if trained is None:
            return None
        return draft.origin[trained[1]] if trained[0] == own_index else (parts[trained[0]][1], trained[1])

    now = {
        trained[1]: node for node, trained in result.origin.items() if trained is not None and trained[0] == own_index
    }
    return _Draft(
        result.topology,
        {node: origin_of(trained) for node, trained in result.origin.items()},
        {now[node]: now[twin] for node, twin in draft.twins.items()},
        frozenset(now[node] for node in draft.copied),
        frozenset(now[node] for node in draft.fresh),
    )


def _sources(
    draft: _Draft, inherit: InheritanceSpec, graphs: Sequence[Topology]
) -> Iterator[tuple[str, AdapterSource]]:
    """Yield what every adapter starts from. An adapter that any trained node uses is kept."""
    for adapter in draft.graph.adapters:
        users = [node for node in draft.graph.order if draft.graph.adapter_of(node) == adapter]
        kept = next((trained for node in users if (trained := draft.origin[node]) is not None), None)
        if kept is not None:
            yield adapter, AdapterSource("keep", (_adapter_of(kept, graphs),))
        else:
            yield adapter, _new_source(draft, users[0], inherit, graphs)


def _new_source(draft: _Draft, node: str, inherit: InheritanceSpec, graphs: Sequence[Topology]) -> AdapterSource:
    kind = "copy" if node in draft.copied else "fresh" if node in draft.fresh else inherit.new
    if kind in ("fresh", "eva"):
        return AdapterSource(kind)
    twin = draft.twins.get(node)
    if twin is not None and draft.origin[twin] is None and kind != "interpolate":
        return _new_source(draft, twin, inherit, graphs)  # it repeats a new node: what is good for that one
    near, group = _ends(draft, node) if kind == "interpolate" else _models(draft, node), draft.graph.node(node).group
    alike = [trained for trained in near if graphs[trained[0]].node(trained[1]).group == group]
    chosen = alike if kind == "interpolate" else alike[:1]
    if not chosen or (kind == "interpolate" and len(alike) < len(near)):
        of_kind = "" if not near else f" of its node group ({group or 'none'}), whose adapters are of its kind,"
        raise GrowthError(
            f"inherit.new = {inherit.new!r}: new node {node!r} has no trained node{of_kind} near it; use 'fresh'"
        )
    origins = tuple(dict.fromkeys(_adapter_of(trained, graphs) for trained in chosen))
    return AdapterSource(kind, origins, inherit.noise if kind == "copy" else 0.0)


def _adapter_of(trained: TrainedNode, graphs: Sequence[Topology]) -> TrainedAdapter:
    return TrainedAdapter(trained[0], graphs[trained[0]].adapter_of(trained[1]))


def _ends(draft: _Draft, node: str) -> list[TrainedNode]:
    """Return the nearest trained nodes before and after a new one; one or none where a side has none."""
    sides = (draft.graph.predecessors, draft.graph.successors)
    return [trained for neighbours in sides if (trained := _nearest(draft, node, neighbours)) is not None]


def _models(draft: _Draft, node: str) -> list[TrainedNode]:
    """Return trained nodes to copy, best first: the one whose place it repeats, that it feeds, before it, after it."""
    twin = draft.twins.get(node)
    beside = [*([] if twin is None else [twin]), *draft.graph.successors(node)]
    return [trained for other in beside if (trained := draft.origin[other]) is not None] + _ends(draft, node)


def _nearest(draft: _Draft, node: str, neighbours: Callable[[str], Sequence[str]]) -> TrainedNode | None:
    """Return the first trained node met when walking from a new one, breadth first; None where there is none."""
    frontier, seen = list(neighbours(node)), {node}
    for other in frontier:
        trained = draft.origin[other]
        if trained is not None:
            return trained
        if other not in seen:
            seen.add(other)
            frontier.extend(neighbours(other))
    return None
