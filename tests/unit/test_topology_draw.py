from itertools import pairwise
from textwrap import dedent
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from neuromas.topology import builders
from neuromas.topology.draw import draw_mermaid, draw_text
from neuromas.topology.graph import Node, Topology
from neuromas.topology.layout import lay_out
from neuromas.topology.svg import draw_svg

SVG = "{http://www.w3.org/2000/svg}"
GRAPHS = st.builds(builders.random, st.integers(1, 12), st.floats(0, 1), st.integers(0, 999))
DOWN, UP, RIGHT = (1, 0), (-1, 0), (0, 1)
# Ways on from each line piece; a reader's eye never goes back to the left.
WAYS = {
    "─": (RIGHT,),
    "┐": (DOWN,),
    "┘": (UP,),
    "┌": (DOWN, RIGHT),
    "└": (UP, RIGHT),
    "┤": (UP, DOWN),
    "├": (UP, DOWN, RIGHT),
    "┬": (DOWN, RIGHT),
    "┴": (UP, RIGHT),
    "┼": (UP, DOWN, RIGHT),
}


def text(drawing: str) -> str:
    return dedent(drawing).strip("\n")


def readers_by_eye(lines: list[str], row: int, column: int) -> set[str]:
    """Follow the lines from the place behind a node's id to the ids that arrows point to."""
    found = set()
    todo, seen = [(row, column, RIGHT)], set()
    while todo:
        row, column, way = step = todo.pop()
        if step in seen or not 0 <= row < len(lines) or column >= len(lines[row]):
            continue
        seen.add(step)
        piece = lines[row][column]
        if piece == "▶":
            found.add(lines[row][column + 2 :].split(" ", 1)[0])
        elif piece == "│":
            todo.append((row + way[0], column + way[1], way))
        else:
            ahead = [onward for onward in WAYS.get(piece, ()) if onward != (-way[0], -way[1])]
            todo += [(row + onward[0], column + onward[1], onward) for onward in ahead]
    return found


@settings(max_examples=150)
@given(GRAPHS)
def test_a_drawing_shows_exactly_the_edges(graph: Topology) -> None:
    lines = draw_text(graph, columns=10_000).splitlines()
    if lines[0].startswith("layer 1 "):
        return
    for node in graph.order:
        row, column = next((r, f" {line} ".index(f" {node} ")) for r, line in enumerate(lines) if node in line.split())
        assert readers_by_eye(lines, row, column + len(node) + 1) == set(graph.successors(node))


def test_a_chain_is_one_line() -> None:
    assert draw_text(builders.chain(4)) == "n1 ───▶ n2 ───▶ n3 ───▶ n4"


def test_layers() -> None:
    assert draw_text(builders.layered([2, 2])) == text(
        """
        n1 ─┬─▶ n3 ─┐
            │       ├─▶ n5
        n2 ─┴─▶ n4 ─┘
        """
    )


def test_a_tree() -> None:
    assert draw_text(builders.tree(3)) == text(
        """
        n1 ─┐
            ├─▶ n5 ─┐
        n2 ─┘       │
                    ├─▶ n7
        n3 ─┐       │
            ├─▶ n6 ─┘
        n4 ─┘
        """
    )


def test_an_edge_over_several_layers_has_a_lane() -> None:
    graph = Topology(
        (Node("a"), Node("critic"), Node("out")), (("a", "critic"), ("critic", "out"), ("a", "out")), "out"
    )
    assert draw_text(graph) == "   ┌─▶ critic ─┐\na ─┤           ├─▶ out\n   └───────────┘"


def test_what_lines_cannot_show_is_a_list() -> None:
    graph = Topology(
        tuple(map(Node, "abcde")),
        (("a", "c"), ("b", "c"), ("a", "d"), ("b", "e"), ("a", "e"), ("c", "d"), ("d", "e")),
        "e",
    )
    assert draw_text(graph, columns=12) == text(
        """
        layer 1  a, b
        layer 2  c ◀─ a, b
        layer 3  d ◀─ a, c
        layer 4  e ◀─ a, b, d
        """
    )


def test_a_chain_too_long_for_the_line_is_wrapped() -> None:
    assert draw_text(builders.chain(5), columns=20) == text(
        """
        n1 ──▶ n2 ──▶ n3
         ──▶ n4 ──▶ n5
        """
    )


def test_a_graph_too_high_for_a_screen_is_a_list() -> None:
    assert draw_text(builders.layered([85, 85, 85])).count("\n") == 3
    assert draw_text(builders.dense(40)).count("\n") == 39


def test_mermaid() -> None:
    graph = Topology((Node("end"), Node("b")), (("end", "b"),), "b")
    assert draw_mermaid(graph) == text(
        """
        flowchart LR
          v0["end"]
          v1(["b"])
          v0 --> v1
        """
    )


@settings(max_examples=40)
@given(GRAPHS)
def test_rows_of_a_layer_are_two_apart(graph: Topology) -> None:
    layout = lay_out(graph)
    for layer in layout.layers:
        rows = [layout.rows[vertex] for vertex in layer]
        assert all(later - earlier >= 2 for earlier, later in pairwise(rows))


def test_svg_holds_every_node_and_edge_and_no_reference_to_elsewhere() -> None:
    graph = builders.dense(4)
    image = ElementTree.fromstring(draw_svg(graph))
    titles = [title.text or "" for title in image.iter(f"{SVG}title")]
    assert sum(" to " in title for title in titles) == len(graph.edges)
    assert [text.text for text in image.iter(f"{SVG}text")] == ["n1", "n2", "n3", "n4"]
    assert "n4: layer 4, index 1\nreads the task, n1, n2, n3" in titles
    assert "href" not in draw_svg(graph)


def test_svg_captions_are_escaped_and_cut() -> None:
    image = ElementTree.fromstring(draw_svg(builders.chain(2), captions={"n1": "A= 7 <b>&", "n2": "x" * 80}))
    assert [text.text for text in image.iter(f"{SVG}text")] == ["n1", "A= 7 <b>&", "n2", "x" * 27 + "…"]


def test_svg_weights_show_in_fill_and_thickness() -> None:
    image = ElementTree.fromstring(draw_svg(builders.chain(3), weights={"n1": 1.0, "n2": 0.0, "n1->n2": 1.0}))
    assert [box.get("fill-opacity") for box in image.iter(f"{SVG}rect")] == ["0.68", "0.08", "0.14"]
    assert [line.get("stroke-width") for line in image.findall(f"{SVG}path")] == ["4.00", "1.30"]
