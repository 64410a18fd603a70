"""Drawings of a Topology as text: for terminals and as Mermaid. ``svg.py`` draws for pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuromas.topology.graph import Topology
from neuromas.topology.layout import Layout, Vertex, lay_out
from neuromas.topology.summary import summary

_MAX_ROWS = 60

# Line pieces by the directions they join: left, right, up, down.
_PIECES = {
    "l": "─",
    "r": "─",
    "lr": "─",
    "ud": "│",
    "ld": "┐",
    "lu": "┘",
    "rd": "┌",
    "ru": "└",
    "lud": "┤",
    "rud": "├",
    "lrd": "┬",
    "lru": "┴",
    "lrud": "┼",
    "lrudx": "│",  # A line that only passes by is interrupted, not joined.
}


@dataclass(frozen=True, slots=True)
class _Net:
    """Spots that are read together: every source is joined to every target, over one vertical line in ``column``."""

    sources: tuple[Vertex, ...]
    targets: tuple[Vertex, ...]
    column: int


class _CollisionError(Exception):
    """Lines of the graph would have to share a place."""


def draw_text(graph: Topology, columns: int = 100) -> str:
    """Return the graph drawn with lines from left to right, or as a list of layers.

    The list is used where lines would run into each other, and where the drawing would be wider than ``columns``
    characters or higher than 60 lines. Of a graph of more than 300 nodes each layer is drawn as one.
    """
    graph = summary(graph)
    layout = lay_out(graph)
    if layout.num_rows > _MAX_ROWS:
        return _draw_list(graph)
    try:
        drawn = _draw_lines(graph, layout)
    except _CollisionError:
        return _draw_list(graph)
    if max(map(len, drawn.splitlines())) <= columns:
        return drawn
    is_chain = len(graph.edges) == graph.depth - 1 == len(graph.nodes) - 1
    return _draw_chain(graph, columns) if is_chain else _draw_list(graph)


def draw_mermaid(graph: Topology) -> str:
    """Return the graph as a Mermaid flowchart; the output has round ends. Large graphs as in ``draw_text``."""
    graph = summary(graph)
    # Keys of their own: an id such as "end" or "n-1" means something else to Mermaid.
    key = {node: f"v{index}" for index, node in enumerate(graph.order)}
    lines = ["flowchart LR"]
    for node in graph.order:
        label = f'(["{node}"])' if node == graph.output else f'["{node}"]'
        lines.append(f"  {key[node]}{label}")
    lines += [f"  {key[source]} --> {key[node]}" for node in graph.order for source in graph.predecessors(node)]
    return "\n".join(lines)


def _draw_chain(graph: Topology, columns: int) -> str:
    """Return a long chain over several lines, each but the first beginning with an arrow."""
    lines = [graph.order[0]]
    for node in graph.order[1:]:
        link = f" ──▶ {node}"
        if len(lines[-1]) + len(link) > columns:
            lines.append("")
        lines[-1] += link
    return "\n".join(lines)


def _draw_list(graph: Topology) -> str:
    width = len(f"layer {graph.depth}")
    lines: list[str] = []
    for index, layer in enumerate(graph.layers, start=1):
        groups: dict[tuple[str, ...], list[str]] = {}
        for node in layer:
            groups.setdefault(graph.predecessors(node), []).append(node)
        for read, nodes in groups.items():
            title = f"layer {index}".ljust(width) if not lines or nodes[0] == layer[0] else " " * width
            lines.append(f"{title}  {', '.join(nodes)}" + (f" ◀─ {', '.join(read)}" if read else ""))
    return "\n".join(lines)


def _draw_lines(graph: Topology, layout: Layout) -> str:
    rows = [""] * layout.num_rows
    for gap, layer in enumerate(layout.layers):
        nodes = [vertex for vertex in layer if graph.layer(vertex.node) == vertex.layer]
        width = max(len(vertex.node) for vertex in nodes)
        at = {layout.rows[vertex]: vertex for vertex in layer}
        outgoing = {source for source, _ in layout.links[gap]} if gap < len(layout.links) else set()
        for row in range(layout.num_rows):
            rows[row] += _cell(at.get(row), nodes, outgoing, width)
        if gap < len(layout.links):
            nets = _nets(layout, layout.links[gap])
            for row, text in enumerate(_gutter(graph, layout, nets)):
                rows[row] += text
    return "\n".join(row.rstrip() for row in rows)


def _cell(vertex: Vertex | None, nodes: Sequence[Vertex], outgoing: Iterable[Vertex], width: int) -> str:
    """Return a layer's column in one row: a node's id, a lane's line, or nothing."""
    if vertex is None:
        return " " * (width + 2)
    if vertex not in nodes:
        return "─" * (width + 2)
    rest = width - len(vertex.node)
    return f"{vertex.node} " + ("─" * (rest + 1) if vertex in outgoing else " " * (rest + 1))


def _nets(layout: Layout, links: Sequence[tuple[Vertex, Vertex]]) -> list[_Net]:
    """Group links into nets and give each a column, one shared only by nets at different heights.

    A vertex may feed a net of its own and one that it shares, in this order from left to right; two shared ones cannot
    be told apart in one line.
    """
    sources_of: dict[Vertex, list[Vertex]] = {}
    for source, target in links:
        sources_of.setdefault(target, []).append(source)
    targets_of: dict[tuple[Vertex, ...], list[Vertex]] = {}
    for target, sources in sources_of.items():
        key = tuple(sorted(sources, key=layout.rows.__getitem__))
        targets_of.setdefault(key, []).append(target)
    nets: list[_Net] = []
    for group in sorted(targets_of, key=len):
        rows = _range(layout, (*group, *targets_of[group]))
        taken = [net for net in nets if _overlap(rows, _range(layout, (*net.sources, *net.targets)))]
        after = [net for net in nets if set(net.sources) & set(group)]
        if any(len(net.sources) > 1 for net in after):
            raise _CollisionError
        free = set(range(len(nets) + 1)) - {net.column for net in taken}
        first = max((net.column + 1 for net in after), default=0)
        column = min((place for place in free if place >= first), default=len(nets) + 1)
        nets.append(_Net(group, tuple(targets_of[group]), column))
    return nets


def _gutter(graph: Topology, layout: Layout, nets: Sequence[_Net]) -> list[str]:
    """Return the lines between two layers, one text per row."""
    columns = 1 + max(net.column for net in nets)
    arms: list[list[set[str]]] = [[set() for _ in range(columns)] for _ in range(layout.num_rows)]
    last = {source: max(net.column for net in nets if source in net.sources) for net in nets for source in net.sources}
    start = {layout.rows[target]: net.column for net in nets for target in net.targets}
    for source, column in last.items():
        row = layout.rows[source]
        if start.get(row, column) < column:
            raise _CollisionError
        for place in range(column):
            arms[row][place] |= {"l", "r"}
        arms[row][column].add("l")
    for row, column in start.items():
        arms[row][column].add("r")
        for place in range(column + 1, columns):
            arms[row][place] |= {"l", "r"}
    joined = {(layout.rows[vertex], net.column) for net in nets for vertex in (*net.sources, *net.targets)}
    for net in nets:
        top, bottom = _range(layout, (*net.sources, *net.targets))
        for row in range(top, bottom + 1):
            if (row, net.column) not in joined:
                arms[row][net.column] |= {"x"} if arms[row][net.column] else set()
            arms[row][net.column] |= ({"u"} if row > top else set()) | ({"d"} if row < bottom else set())
    arrows = {
        layout.rows[target]: "▶ " if graph.layer(target.node) == target.layer else "──"
        for net in nets
        for target in net.targets
    }
    return [_wire(places, arrows.get(row)) for row, places in enumerate(arms)]


def _wire(places: Sequence[set[str]], end: str | None) -> str:
    """Return one row of a gutter; ``end`` leads into the next layer, None where no line does."""
    text = ""
    for index, arms in enumerate(places):
        piece = _PIECES.get("".join(side for side in "lrudx" if side in arms), " ")
        onward = "r" in arms or (index + 1 < len(places) and "l" in places[index + 1])
        text += piece + ("─" if onward else " ")
    return text + (end or "  ")


def _range(layout: Layout, vertices: Iterable[Vertex]) -> tuple[int, int]:
    rows = [layout.rows[vertex] for vertex in vertices]
    return min(rows), max(rows)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]
