"""The trained graph and what travels on its edges: learned messages, shares, and rollouts from end to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from neuromas.errors import SpecError
from neuromas.report.chart import drawn
from neuromas.report.data import Document, RunData
from neuromas.report.figures import node_color
from neuromas.report.markup import Markup, element
from neuromas.report.numbers import percent
from neuromas.report.sections import section, table
from neuromas.topology.graph import Topology
from neuromas.topology.summary import summary
from neuromas.topology.svg import draw_svg

MAX_EXAMPLES = 4


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


def examples(data: RunData) -> Markup:
    """Return a few rollouts, the latest first, with the message on every edge."""
    chosen = _choose(data.rollouts)
    note = "Sampled in training. Every node's message goes along its edges; the output's message is the answer."
    cards = [_rollout(data, one) for one in chosen]
    return section("What the nodes say", element("div", cards, class_="grid") if cards else None, note=note)


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


def _choose(rollouts: Sequence[Document]) -> list[Document]:
    """Return late rollouts that were right, the last that was not, and the first of all."""
    right = [one for one in rollouts if one.get("reward", 0) >= 1]
    wrong = [one for one in rollouts if one.get("reward", 0) < 1]
    picked = [*reversed(right[-2:]), *wrong[-1:], *rollouts[:1]]
    chosen: list[Document] = []
    for one in picked:
        if one not in chosen:
            chosen.append(one)
    return chosen[:MAX_EXAMPLES]


def _rollout(data: RunData, rollout: Document) -> Markup:
    topology = _topology_of(data, rollout)
    is_right = rollout.get("reward", 0) >= 1
    head = element(
        "div",
        element("span", f"step {data.step_of(rollout)}"),
        element("span", "right" if is_right else "wrong", class_="verdict right" if is_right else "verdict wrong"),
        class_="head",
    )
    messages = rollout.get("messages", ())
    lines = [_message(topology, message, rank, len(messages)) for rank, message in enumerate(messages)]
    ends = [element("p", "expected ", element("code", str(rollout.get("expected", ""))), class_="expected")]
    if rollout.get("failure"):
        ends.append(element("p", f"failed: {rollout['failure']}", class_="expected"))
    return element(
        "article",
        head,
        element("p", str(rollout.get("question", "")), class_="question"),
        element("ol", lines, class_="messages"),
        ends,
        class_="rollout",
    )


def _message(topology: Topology | None, message: Document, rank: int, total: int) -> Markup:
    node = str(message["node"])
    known = topology is not None and node in topology.order
    readers: Iterable[str] = topology.successors(node) if topology is not None and known else ()
    target = ", ".join(readers) or "answer"
    cut = element("em", "cut off", class_="cut") if message.get("finish_reason") == "length" else None
    return element(
        "li",
        element("span", node, class_="chip", style=f"--ink-of:{node_color(rank, total)}"),
        element("span", f"to {target}", class_="to"),
        element("code", str(message.get("text", ""))),
        cut,
    )


def _topology_of(data: RunData, rollout: Document) -> Topology | None:
    found = (stage.topology for stage in data.stages if stage.index == rollout.get("stage"))
    return next(found, None) or data.topology
