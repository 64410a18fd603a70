"""The trained graph and what travels on its edges: learned messages, shares, and rollouts from end to end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from neuromas.errors import SpecError
from neuromas.journal.folder import ROLLOUTS_FILE
from neuromas.report.chart import drawn
from neuromas.report.data import Document, RunData
from neuromas.report.markup import Markup
from neuromas.report.numbers import percent
from neuromas.report.prompts import read_prompts
from neuromas.report.sections import section, table
from neuromas.topology.graph import Topology
from neuromas.topology.summary import summary
from neuromas.topology.svg import draw_svg

MAX_ROLLOUTS = 400
"""Rollouts that a report holds."""
_ENTRY = ("stage", "step", "example", "question", "expected", "answer", "reward", "failure", "replayed")
_MESSAGE = ("node", "text", "finish_reason")


def graph(data: RunData, title: str = "The graph") -> Markup:
    """Return the drawing of the final graph with each node's learned message, and the table behind it."""
    topology = data.topology
    if topology is None:
        return Markup("")
    roles = _roles(data)
    captions, shades = _stated(roles)
    drawing = drawn(
        "graph",
        {
            "topology": summary(topology).to_document(),
            "label": f"graph of {len(topology.nodes)} nodes, output {topology.output}",
            "captions": captions,
            "shades": shades,
            "weights": _costs(data),
        },
    )
    notes = []
    if any(role.get("said") for role in roles.values()):
        notes.append("Under each node what its greedy messages state most often on held-out examples, and how often.")
    if data.analysis.get("edges"):
        notes.append("The thicker an edge, the more accuracy it costs to silence it.")
    note = " ".join(notes) or None
    return section(title, drawing, _role_table(topology, roles), note=note, wide=True)


def draw_trained(data: RunData) -> str:
    """Return the final graph as SVG, each node with its learned message; shades follow how often a node states it.

    Raises:
        SpecError: the run has no graph yet.
    """
    if data.topology is None:
        raise SpecError(f"{data.folder} holds no topology; has the run begun?")
    return draw_svg(data.topology, *_stated(_roles(data)))


def questions(data: RunData) -> Markup:
    """Return the same few held-out questions as they were answered while the run went on."""
    if not data.questions:
        return Markup("")
    note = "Validation questions, answered greedily; choose an answer to see what every node said."
    drawing, more = _drawn_rollouts(data, "questions", data.questions)
    return section("The same questions over time", drawing, note=note + more, wide=True)


def rollouts(data: RunData) -> Markup:
    """Return the rollouts that were kept, to be searched, with the message on every edge."""
    kept, total = data.rollouts, len(data.rollouts)
    if not kept:
        return Markup("")
    note = "Sampled in training. Every node's message goes along its edges; the output's message is the answer."
    if total > MAX_ROLLOUTS:
        kept = [*kept[: MAX_ROLLOUTS // 4], *kept[total - 3 * MAX_ROLLOUTS // 4 :]]
        note += f" The first {MAX_ROLLOUTS // 4} and the last {3 * MAX_ROLLOUTS // 4} of {total:,}; the others are in "
        note += f"{ROLLOUTS_FILE}."
    drawing, more = _drawn_rollouts(data, "rollouts", kept)
    return section("What the nodes say", drawing, note=note + more, wide=True)


def _drawn_rollouts(
    data: RunData, kind: Literal["questions", "rollouts"], kept: Sequence[Document]
) -> tuple[Markup, str]:
    """Return the place of some rollouts, and what is to be said of their prompts."""
    prompts, note = read_prompts(data, kept)
    entries = [_told(entry, read) for entry, read in zip(kept, prompts, strict=True)]
    return drawn(kind, {"entries": entries, "graphs": _graphs(data, {entry["stage"] for entry in kept})}), note


def _told(entry: Document, prompts: Mapping[str, str]) -> Document:
    """Return what is shown of an entry."""
    messages = [
        {name: message.get(name) for name in _MESSAGE}
        | ({"prompt": prompts[message["node"]]} if message["node"] in prompts else {})
        for message in entry["messages"]
    ]
    return {name: entry.get(name) for name in _ENTRY} | {"messages": messages}


def _graphs(data: RunData, stages: Collection[int]) -> dict[str, Document]:
    """Return the nodes and edges of the graphs that stages trained, by the stages' numbers."""
    return {
        str(stage.index): {
            "nodes": [{"id": node} for node in stage.topology.order],
            "edges": list(stage.topology.edges),
        }
        for stage in data.stages
        if stage.topology is not None and stage.index in stages
    }


def _roles(data: RunData) -> dict[str, Document]:
    return {role["node"]: role for role in data.result.get("roles", ())}


def _stated(roles: Mapping[str, Document]) -> tuple[dict[str, str], dict[str, float]]:
    """Return what each node states most often, as a caption, and how often it does, as a share."""
    said = {node: role for node, role in roles.items() if role.get("said")}
    return {node: _caption(role) for node, role in said.items()}, {
        node: _top(role)["share"] for node, role in said.items()
    }


def _costs(data: RunData) -> dict[str, float]:
    """Return what it costs to silence each edge, as a share of all questions: "sender -> reader" -> 0 to 1."""
    return {entry["change"]: max(0.0, -entry["effect"]["gain"]) for entry in data.analysis.get("edges", ())}


def _caption(role: Document) -> str:
    top = _top(role)
    return f"{top['label']} {percent(top['share'])}"


def _top(role: Document) -> Document:
    best: Document = role["said"][0]
    return best


def _role_table(topology: Topology, roles: Mapping[str, Document]) -> Markup:
    rows = []
    for node in topology.order:
        role = roles.get(node)
        if role is None:
            continue
        said = (
            ", ".join(f"{entry['label']} {percent(entry['share'])}" for entry in role["said"][:3]) or "nothing readable"
        )
        layer, index = topology.position(node)
        tokens = f"{role['tokens']:.1f}" if "tokens" in role else "-"
        rows.append((node, f"{layer}, {index}", said, percent(role["correct"]), tokens))
    return table(("node", "layer, index", "states", "true", "tokens"), rows, numeric=3)
