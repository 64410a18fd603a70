"""Pure graph theory on ids and edges: cycles, layers, reachability. Knows nothing of nodes' settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

Edge = tuple[str, str]


def neighbours(ids: Iterable[str], edges: Iterable[Edge], *, backwards: bool = False) -> dict[str, list[str]]:
    """Return for every id what its edges lead to (or, ``backwards``, come from), in the order of the edges."""
    table: dict[str, list[str]] = {node: [] for node in ids}
    for source, target in edges:
        if backwards:
            table[target].append(source)
        else:
            table[source].append(target)
    return table


def find_cycles(ids: Sequence[str], edges: Collection[Edge]) -> list[tuple[str, ...]]:
    """Return cycles that share no node, each as the ids along it without repeating the first; empty for a DAG."""
    remaining = list(ids)
    cycles: list[tuple[str, ...]] = []
    while core := _cyclic_core(remaining, edges):
        following = neighbours(core, [edge for edge in edges if edge[0] in core and edge[1] in core])
        path = [next(node for node in ids if node in core)]
        while (step := following[path[-1]][0]) not in path:
            path.append(step)
        cycle = tuple(path[path.index(step) :])
        cycles.append(cycle)
        remaining = [node for node in remaining if node not in cycle]
    return cycles


def layers_of(ids: Sequence[str], edges: Collection[Edge]) -> dict[str, int]:
    """Return the 1-based layer of every node of a DAG: one more than the longest path that leads to it.

    The order of the returned dict is a topological one: by layer, ties in the order of ``ids``.
    """
    before = neighbours(ids, edges, backwards=True)
    after = neighbours(ids, edges)
    waiting = {node: len(before[node]) for node in ids}
    layer = dict.fromkeys(ids, 1)
    ready = [node for node in ids if not waiting[node]]
    for node in ready:
        for target in after[node]:
            layer[target] = max(layer[target], layer[node] + 1)
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return {node: layer[node] for node in sorted(ids, key=layer.__getitem__)}


def reaching(target: str, before: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the target and every node from which a path leads to it; ``before`` lists direct predecessors."""
    found = {target}
    frontier = [target]
    while frontier:
        fresh = [node for node in before[frontier.pop()] if node not in found]
        found.update(fresh)
        frontier.extend(fresh)
    return found


def _cyclic_core(ids: Sequence[str], edges: Collection[Edge]) -> set[str]:
    """Return what is left after taking away, again and again, nodes that nothing leads to or that lead nowhere."""
    core = set(ids)
    inside = list(edges)
    while True:
        inside = [edge for edge in inside if edge[0] in core and edge[1] in core]
        kept = {source for source, _ in inside} & {target for _, target in inside}
        if kept == core:
            return core
        core = kept
