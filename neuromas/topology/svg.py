"""A Topology as one self-contained SVG image for reports and web pages, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from neuromas.topology.graph import Node, Topology
from neuromas.topology.layout import Layout, Vertex, lay_out
from neuromas.topology.summary import summary

# Pixels.
_CHARACTER = 7.4
_ROW = 28
_NODE_HEIGHT = 30
_CAPTION_HEIGHT = 14
_GAP = 60
_MARGIN = 8
_MAX_CAPTION = 28

_STYLE = """
.neuromas-graph{font:12px ui-monospace,monospace}
.neuromas-graph:root{color:#1f2937}
@media (prefers-color-scheme:dark){.neuromas-graph:root{color:#e5e7eb}}
.neuromas-graph rect{fill:var(--graph-accent,#3b82f6);stroke:currentColor}
.neuromas-graph .output rect{stroke-width:2.5}
.neuromas-graph .deaf rect{stroke-dasharray:4 3}
.neuromas-graph path{fill:none;stroke:currentColor;stroke-opacity:.55}
.neuromas-graph marker path{fill:currentColor;stroke:none;fill-opacity:.7}
.neuromas-graph text{fill:currentColor;text-anchor:middle}
.neuromas-graph .caption{font-size:11px;fill-opacity:.75}
""".strip()


@dataclass(frozen=True, slots=True)
class _Frame:
    """Left and right edge of each layer and the height of a row's middle, in pixels."""

    layers: tuple[tuple[float, float], ...]
    layout: Layout
    node_height: float

    def left(self, vertex: Vertex) -> float:
        return self.layers[vertex.layer - 1][0]

    def right(self, vertex: Vertex) -> float:
        return self.layers[vertex.layer - 1][1]

    def middle(self, vertex: Vertex) -> float:
        scale = _ROW * self.node_height / _NODE_HEIGHT
        return _MARGIN + self.node_height / 2 + self.layout.rows[vertex] * scale


def draw_svg(
    graph: Topology, captions: Mapping[str, str] | None = None, weights: Mapping[str, float] | None = None
) -> str:
    """Return the graph as an ``<svg>`` element that needs nothing else and can be put into a page.

    Inside a page it is drawn in the page's text colour, as a file of its own in that of the reader's light or dark
    scheme. Pages may set ``--graph-accent``. Of a graph of more than 300 nodes each layer is drawn as one.

    Args:
        graph: what to draw.
        captions: node id -> short text under its id, such as the message it learned to send.
        weights: node id, or ``"sender->reader"`` for an edge, -> 0 to 1, such as its influence on the answer: how
            strongly a node is filled, how thick an edge is. Without weights all look alike.
    """
    captions, weights = captions or {}, weights or {}
    label = escape(f"{graph.name or 'topology'}: {len(graph.nodes)} nodes in {graph.depth} layers")
    graph = summary(graph)
    layout = lay_out(graph)
    frame = _frame(graph, layout, captions)
    width = frame.layers[-1][1] + _MARGIN
    height = max(map(frame.middle, layout.rows)) + frame.node_height / 2 + _MARGIN
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="neuromas-graph" role="img" aria-label="{label}" '
            f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
        ),
        f"<style>{_STYLE}</style>",
        (
            '<defs><marker id="neuromas-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        ),
        *_edges(graph, frame, weights),
        *(_node(graph, graph.node(node), frame, captions, weights) for node in graph.order),
        "</svg>",
    ]
    return "\n".join(parts)


def _frame(graph: Topology, layout: Layout, captions: Mapping[str, str]) -> _Frame:
    layers = []
    left = float(_MARGIN)
    for nodes in graph.layers:
        longest = max(max(len(node), len(_short(captions.get(node, "")))) for node in nodes)
        right = left + 20 + _CHARACTER * max(longest, 3)
        layers.append((left, right))
        left = right + _GAP
    return _Frame(tuple(layers), layout, _NODE_HEIGHT + (_CAPTION_HEIGHT if captions else 0))


def _edges(graph: Topology, frame: _Frame, weights: Mapping[str, float]) -> Iterator[str]:
    """Yield, for each sender, one line along its lanes and from there one arrow to each reader."""
    for source in graph.order:
        readers = graph.successors(source)
        thickness = {reader: 1 + 3 * _unit(weights.get(f"{source}->{reader}", 0.1)) for reader in readers}
        last = max((graph.layer(reader) for reader in readers), default=0)
        lanes = [Vertex(source, layer) for layer in range(graph.layer(source), last)]
        if len(lanes) > 1:
            along = "".join(f"{_curve(frame, *pair)}H{frame.right(pair[1]):.1f}" for pair in pairwise(lanes))
            thickest = max(thickness[reader] for reader in readers if graph.layer(reader) > lanes[1].layer)
            yield f'<path d="{_start(frame, lanes[0])}{along}" stroke-width="{thickest:.2f}"/>'
        for reader in readers:
            end = Vertex(reader, graph.layer(reader))
            here = lanes[end.layer - 1 - graph.layer(source)]
            yield (
                f'<path d="{_start(frame, here)}{_curve(frame, here, end)}" stroke-width="{thickness[reader]:.2f}" '
                f'marker-end="url(#neuromas-arrow)"><title>{source} to {reader}</title></path>'
            )


def _unit(weight: float) -> float:
    return min(max(weight, 0.0), 1.0)


def _start(frame: _Frame, vertex: Vertex) -> str:
    return f"M{frame.right(vertex):.1f} {frame.middle(vertex):.1f}"


def _curve(frame: _Frame, here: Vertex, there: Vertex) -> str:
    start, end = frame.right(here), frame.left(there)
    bend = (start + end) / 2
    return (
        f"C{bend:.1f} {frame.middle(here):.1f} {bend:.1f} {frame.middle(there):.1f} {end:.1f} {frame.middle(there):.1f}"
    )


def _node(graph: Topology, node: Node, frame: _Frame, captions: Mapping[str, str], weights: Mapping[str, float]) -> str:
    vertex = Vertex(node.id, graph.layer(node.id))
    left, width = frame.left(vertex), frame.right(vertex) - frame.left(vertex)
    middle, centre = frame.middle(vertex), frame.left(vertex) + width / 2
    kinds = [kind for kind, holds in (("output", node.id == graph.output), ("deaf", not node.reads_task)) if holds]
    fill = 0.08 + 0.6 * _unit(weights.get(node.id, 0.1))
    caption = captions.get(node.id, "")
    baseline = middle + 4 - (_CAPTION_HEIGHT / 2 if caption else 0)
    text = f'<text x="{centre:.1f}" y="{baseline:.1f}">{node.id}</text>'
    if caption:
        below = baseline + _CAPTION_HEIGHT
        text += f'<text class="caption" x="{centre:.1f}" y="{below:.1f}">{escape(_short(caption))}</text>'
    return (
        f'<g class="{" ".join(["node", *kinds])}"><title>{escape(_title(graph, node, caption))}</title>'
        f'<rect x="{left:.1f}" y="{middle - frame.node_height / 2:.1f}" width="{width:.1f}" '
        f'height="{frame.node_height}" rx="6" fill-opacity="{fill:.2f}"/>{text}</g>'
    )


def _title(graph: Topology, node: Node, caption: str) -> str:
    layer, index = graph.position(node.id)
    reads = ["the task"] * node.reads_task + list(graph.predecessors(node.id))
    lines = [f"{node.id}: layer {layer}, index {index}", f"reads {', '.join(reads)}"]
    if graph.adapter_of(node.id) != node.id:
        lines.append(f"adapter {graph.adapter_of(node.id)}")
    if node.max_tokens is not None:
        lines.append(f"at most {node.max_tokens} tokens")
    return "\n".join([*lines, caption] if caption else lines)


def _short(caption: str) -> str:
    return caption if len(caption) <= _MAX_CAPTION else f"{caption[: _MAX_CAPTION - 1]}…"
