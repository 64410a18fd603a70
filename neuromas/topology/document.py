"""Topology documents: the explicit form and the shorthands, read strictly and with all faults at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from neuromas.errors import Fault, TopologyError
from neuromas.schema.suggest import suggest
from neuromas.topology import builders
from neuromas.topology.graph import Node, Topology, find_faults
from neuromas.topology.shape import Edge
from neuromas.topology.view import PromptFacts, Role

FORMS: Final = ("nodes", "layers", "chain", "tree", "star", "dense", "random")
NODE_KEYS: Final = ("id", "max_tokens", "temperature", "reads_task", "adapter", "position", "view", "group")
# Settings of a shorthand document that all its nodes get.
COMMON_KEYS: Final = ("name", "max_tokens", "temperature", "reads_task", "adapter")

_NO_ENTRIES: Final[Sequence[object]] = ()

Value = TypeVar("Value")


def topology_from_document(document: Mapping[str, object]) -> Topology:
    """Return the Topology that a document describes.

    A document holds exactly one form: ``nodes`` with ``edges`` (and ``output``, which may be left out where one node
    only has no successor), or a shorthand: ``layers = [2, 2]`` (hidden layers; one output node follows), ``chain = 5``,
    ``tree = {depth = 3, branching = 2}``, ``star = 4``, ``dense = 5``, ``random = {nodes = 8, edge_probability = 0.4,
    seed = 0}``, beside the settings that all its nodes get.

    Raises:
        TopologyError: with a fault, and the path to it, for everything that is wrong.
    """
    reader = _Reader()
    if not isinstance(document, Mapping):
        raise TopologyError("the topology is not valid", [Fault("", f"got {_kind(document)}; expected a table")])
    forms = [form for form in FORMS if form in document]
    if len(forms) != 1:
        got = f"got {' and '.join(forms)}" if forms else f"got no graph, only the keys {sorted(map(str, document))}"
        raise TopologyError("the topology is not valid", [Fault("", f"{got}; give exactly one of {', '.join(FORMS)}")])
    read = _read_explicit if forms == ["nodes"] else _read_shorthand
    topology = read(reader, document, forms[0])
    if reader.faults or topology is None:
        raise TopologyError("the topology is not valid", reader.faults)
    return topology


class _Reader:
    """Takes typed values out of tables and collects what does not fit, going on with the default."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    @property
    def paths(self) -> set[str]:
        return {fault.path for fault in self.faults}

    def fault(self, path: str, message: str) -> None:
        self.faults.append(Fault(path, message))

    def known_keys(self, table: Mapping[str, object], allowed: Sequence[str], prefix: str = "") -> None:
        for key in table:
            if key not in allowed:
                self.fault(f"{prefix}{key}", f"unknown key; {suggest(str(key), allowed)}")

    def take(
        self,
        table: Mapping[str, object],
        key: str,
        read: Callable[[object], Value | None],
        expected: str,
        default: Value,
        prefix: str = "",
    ) -> Value:
        """Return the value at ``key``; ``read`` gives None for what it refuses. JSON's null counts as left out."""
        raw = table.get(key)
        if raw is None:
            return default
        value = read(raw)
        if value is None:
            self.fault(f"{prefix}{key}", f"got {_kind(raw)}; expected {expected}")
            return default
        return value

    def settings(self, table: Mapping[str, object], node_id: str, prefix: str = "") -> Node:
        """Return a node with the settings that a table gives it."""
        return Node(
            id=node_id,
            max_tokens=self.take(table, "max_tokens", _integer, "an integer", None, prefix),
            temperature=self.take(table, "temperature", _number, "a number", None, prefix),
            reads_task=self.take(table, "reads_task", _boolean, "true or false", True, prefix),
            adapter=self.take(table, "adapter", _string, "a name", None, prefix),
            position=self.take(table, "position", _pair_of_integers, "[layer, index]", None, prefix),
            view=self._view(table.get("view"), f"{prefix}view."),
            group=self.take(table, "group", _string, "a name", None, prefix),
        )

    def _view(self, entry: object, prefix: str) -> PromptFacts | None:
        if entry is None:
            return None
        if not isinstance(entry, Mapping):
            expected = "expected a table such as {role = 'output', depth = 2, width = 1}"
            self.fault(prefix.removesuffix("."), f"got {_kind(entry)}; {expected}")
            return None
        self.known_keys(entry, ("role", "depth", "width", "level"), prefix)
        role = self.take(entry, "role", _role, "'inner' or 'output'", None, prefix)
        depth = self.take(entry, "depth", _integer, "an integer", None, prefix)
        width = self.take(entry, "width", _integer, "an integer", None, prefix)
        level = self.take(entry, "level", _integer, "an integer", None, prefix)
        for key in ("role", "depth", "width"):
            if entry.get(key) is None:
                self.fault(f"{prefix}{key}", "is missing; a view holds role, depth and width")
        return None if role is None or depth is None or width is None else PromptFacts(role, depth, width, level)


def _read_explicit(reader: _Reader, document: Mapping[str, object], form: str) -> Topology | None:
    reader.known_keys(document, ("name", "nodes", "edges", "output"))
    name = reader.take(document, "name", _string, "a name", "")
    node_entries = reader.take(document, form, _list, "a list of tables", _NO_ENTRIES)
    edge_entries = reader.take(document, "edges", _list, "a list of [from, to] pairs", _NO_ENTRIES)
    nodes = [_read_node(reader, entry, f"nodes[{index}]") for index, entry in enumerate(node_entries)]
    edges = [_read_edge(reader, entry, f"edges[{index}]") for index, entry in enumerate(edge_entries)]
    whole_nodes = [node for node in nodes if node is not None]
    whole_edges = [edge for edge in edges if edge is not None]
    output = reader.take(document, "output", _string, "a node id", None)
    if "nodes" in reader.paths or len(whole_nodes) < len(nodes) or len(whole_edges) < len(edges):
        return None  # Indices and ends would not fit: what the graph lacks is in the faults already.
    if output is None and "output" not in reader.paths:
        output = _only_sink(reader, [node.id for node in whole_nodes], whole_edges)
    reader.faults += find_faults(whole_nodes, whole_edges, output, name)
    if reader.faults or output is None:
        return None
    return Topology(tuple(whole_nodes), tuple(whole_edges), output, name)


def _read_node(reader: _Reader, entry: object, path: str) -> Node | None:
    if not isinstance(entry, Mapping):
        reader.fault(path, f"got {_kind(entry)}; expected a table such as {{id = 'a'}}")
        return None
    reader.known_keys(entry, NODE_KEYS, f"{path}.")
    node_id = reader.take(entry, "id", _string, "a string", None, f"{path}.")
    if node_id is None and entry.get("id") is None:
        reader.fault(f"{path}.id", "is missing; every node needs an id")
    node = reader.settings(entry, node_id or "", f"{path}.")
    return None if node_id is None else node


def _read_edge(reader: _Reader, entry: object, path: str) -> Edge | None:
    pair = _list(entry)
    if pair is None or len(pair) != 2 or not all(isinstance(end, str) for end in pair):
        reader.fault(path, f"got {_kind(entry)}; expected a pair of node ids, [from, to]")
        return None
    return str(pair[0]), str(pair[1])


def _only_sink(reader: _Reader, ids: Collection[str], edges: Collection[Edge]) -> str | None:
    senders = {source for source, _ in edges}
    sinks = [node for node in ids if node not in senders]
    if len(sinks) == 1:
        return sinks[0]
    if sinks:
        reader.fault("output", f"is not named and {', '.join(sinks)} have no successor; lead all but one of them on")
    elif ids:
        reader.fault("output", "is not named and every node has a successor; one node must have none")
    return None


def _read_shorthand(reader: _Reader, document: Mapping[str, object], form: str) -> Topology | None:
    reader.known_keys(document, (form, *COMMON_KEYS))
    name = reader.take(document, "name", _string, "a name", "")
    template = reader.settings(document, builders.TEMPLATE.id)
    reader.faults += [
        Fault(fault.path.removeprefix("nodes[0]."), fault.message)
        for fault in find_faults([replace(template, reads_task=True)], (), None, name)
    ]
    build = _SHORTHANDS[form](reader, document[form])
    if reader.faults or build is None:
        return None
    try:
        return build(template, name)
    except TopologyError as error:
        reader.fault(form, error.message)
        return None


Build = Callable[[Node, str], Topology]


def _read_layers(reader: _Reader, value: object) -> Build | None:
    raw = _list(value)
    widths = [width for item in raw or () if (width := _integer(item)) is not None]
    if raw is None or len(widths) < len(raw):
        reader.fault("layers", f"got {_kind(value)}; expected a list of layer widths such as [2, 2]")
        return None
    return lambda template, name: builders.layered(widths, template, name)


def _read_count(form: str, builder: Callable[[int, Node, str], Topology]) -> Callable[[_Reader, object], Build | None]:
    def read(reader: _Reader, value: object) -> Build | None:
        count = reader.take({form: value}, form, _integer, f"a number of nodes such as {form} = 4", 0)
        return (lambda template, name: builder(count, template, name)) if _integer(value) is not None else None

    return read


def _read_tree(reader: _Reader, value: object) -> Build | None:
    if not isinstance(value, Mapping):
        reader.fault("tree", f"got {_kind(value)}; expected a table such as {{depth = 3, branching = 2}}")
        return None
    reader.known_keys(value, ("depth", "branching"), "tree.")
    if value.get("depth") is None:
        reader.fault("tree.depth", "is missing; give the number of layers")
    depth = reader.take(value, "depth", _integer, "an integer", 1, "tree.")
    branching = reader.take(value, "branching", _integer, "an integer", 2, "tree.")
    return lambda template, name: builders.tree(depth, branching, template, name)


def _read_random(reader: _Reader, value: object) -> Build | None:
    if not isinstance(value, Mapping):
        expected = "expected a table such as {nodes = 8, edge_probability = 0.4, seed = 0}"
        reader.fault("random", f"got {_kind(value)}; {expected}")
        return None
    reader.known_keys(value, ("nodes", "edge_probability", "seed"), "random.")
    if value.get("nodes") is None:
        reader.fault("random.nodes", "is missing; give the number of nodes")
    nodes = reader.take(value, "nodes", _integer, "an integer", 1, "random.")
    probability = reader.take(value, "edge_probability", _number, "a number from 0 to 1", 0.5, "random.")
    seed = reader.take(value, "seed", _integer, "an integer", 0, "random.")
    return lambda template, name: builders.random(nodes, probability, seed, template, name)


_SHORTHANDS: Final[Mapping[str, Callable[[_Reader, object], Build | None]]] = {
    "layers": _read_layers,
    "chain": _read_count("chain", builders.chain),
    "tree": _read_tree,
    "star": _read_count("star", builders.star),
    "dense": _read_count("dense", builders.dense),
    "random": _read_random,
}


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _role(value: object) -> Role | None:
    return value if value == "inner" or value == "output" else None


def _list(value: object) -> Sequence[object] | None:
    return value if isinstance(value, list | tuple) else None


def _pair_of_integers(value: object) -> tuple[int, int] | None:
    pair = [number for item in _list(value) or () if (number := _integer(item)) is not None]
    return (pair[0], pair[1]) if isinstance(value, list | tuple) and len(value) == len(pair) == 2 else None


def _kind(value: object) -> str:
    """Return a value as an error message shows it: its kind, and itself where that is short."""
    kinds = {Mapping: "a table", str: "the string", bool: "the boolean", int: "the integer", float: "the number"}
    kind = next((word for type_, word in kinds.items() if isinstance(value, type_)), "")
    if isinstance(value, Mapping):
        return kind
    if isinstance(value, list | tuple):
        return f"the list {value!r}" if len(repr(value)) < 60 else f"a list of {len(value)}"
    return f"{kind} {value!r}".strip() if value is not None else "null"
