"""Wire models of topologies."""

from __future__ import annotations

from typing import Any, Final, Literal

from neuromas.schema.bounds import MAX_STEPS
from neuromas.services.api.bounds import MAX_EDGES
from neuromas.services.api.schemas.view import View
from neuromas.topology.graph import MAX_NODES, MAX_POSITION, MAX_TEMPERATURE, MAX_TOKENS, MIN_TEMPERATURE, NAME
from neuromas.topology.view import ROLES

_NAME: Final = {"type": "string", "pattern": f"^{NAME.pattern}$"}
_SETTINGS: Final[dict[str, Any]] = {
    "max_tokens": {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_TOKENS},
    "temperature": {"type": ["number", "null"], "minimum": MIN_TEMPERATURE, "maximum": MAX_TEMPERATURE},
    "reads_task": {"type": ["boolean", "null"]},
    "adapter": {**_NAME, "type": ["string", "null"]},
}
_PLACE: Final = {"type": "integer", "minimum": 1, "maximum": MAX_POSITION}
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": MAX_NODES}
_FORMS: Final[dict[str, Any]] = {
    "nodes": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_NODES,
        "items": {
            "type": "object",
            "properties": {
                "id": _NAME,
                **_SETTINGS,
                "position": {"type": ["array", "null"], "items": _PLACE, "minItems": 2, "maxItems": 2},
                "view": {
                    "type": ["object", "null"],
                    "description": "What its prompt says of the graph; growth pins that of trained nodes.",
                    "properties": {
                        "role": {"enum": list(ROLES)},
                        "depth": _PLACE,
                        "width": _PLACE,
                        "level": {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_STEPS},
                    },
                    "required": ["role", "depth", "width"],
                    "additionalProperties": False,
                },
                "group": {**_NAME, "type": ["string", "null"], "description": "Its node group in the run spec."},
            },
            "required": ["id"],
            "additionalProperties": False,
        },
    },
    "layers": {
        "type": "array",
        "items": _COUNT,
        "maxItems": MAX_NODES,
        "description": "Widths of the hidden layers; one output follows.",
    },
    "chain": {**_COUNT, "description": "Nodes in a row."},
    "tree": {
        "type": "object",
        "properties": {"depth": _COUNT, "branching": _COUNT},
        "required": ["depth"],
        "additionalProperties": False,
    },
    "star": {**_COUNT, "description": "Leaves that one output reads."},
    "dense": {**_COUNT, "description": "Nodes, each of which reads all earlier ones."},
    "random": {
        "type": "object",
        "properties": {
            "nodes": _COUNT,
            "edge_probability": {"type": "number", "minimum": 0, "maximum": 1},
            "seed": {"type": "integer", "minimum": -(2**63), "maximum": 2**63},
        },
        "required": ["nodes"],
        "additionalProperties": False,
    },
}

TOPOLOGY_SCHEMA: Final[dict[str, Any]] = {
    "title": "Topology",
    "description": "A graph: nodes and edges, or exactly one shorthand with settings that all its nodes get.",
    "type": "object",
    "properties": {
        "name": {**_NAME, "type": ["string", "null"], "description": "For people; not part of the content hash."},
        **_SETTINGS,
        **_FORMS,
        "edges": {
            "type": ["array", "null"],
            "items": {"type": "array", "items": _NAME, "minItems": 2, "maxItems": 2},
            "maxItems": MAX_EDGES,
            "description": "Pairs [from, to]; only with nodes.",
        },
        "output": {
            **_NAME,
            "type": ["string", "null"],
            "description": "Only with nodes; may be left out where one is last.",
        },
    },
    "oneOf": [{"required": [form]} for form in _FORMS],
    "additionalProperties": False,
}
"""JSON schema of a topology document; ``neuromas.topology.document`` reads it."""

TOPOLOGY_EXAMPLES: Final[dict[str, Any]] = {
    "diamond": {
        "summary": "Nodes and edges",
        "value": {
            "name": "diamond",
            "nodes": [{"id": "a", "max_tokens": 24}, {"id": "b"}, {"id": "out"}],
            "edges": [["a", "out"], ["b", "out"]],
            "output": "out",
        },
    },
    "layers": {"summary": "A shorthand", "value": {"name": "paper-7", "layers": [2, 2, 2]}},
}


class TopologyView(View):
    """A graph as it is kept: it never changes, and the same content has the same id."""

    id: str
    object: Literal["topology"] = "topology"
    name: str = ""
    hash: str
    """SHA-256 of everything that an answer depends on."""
    document: dict[str, Any]
    """Nodes, edges and output, all written out."""
    created: int
    """Unix time, seconds."""


class TokenEstimate(View):
    """What one answer costs at most, in tokens, beside the question itself."""

    completion_max: int
    """All messages at their full budget."""
    messages_read_max: int
    """What nodes read of each other's messages."""
    question_reads: int
    """How many nodes read the question."""
    critical_path: int
    """Budget of the calls that wait for each other: what an answer's latency follows."""
    rollouts_per_step: int | None = None
    """Of a run spec; null for a bare topology."""
    calls_per_step: int | None = None


class MemoryEstimate(View):
    """What the weights need, in bytes; null where the base cannot be read from here."""

    adapter_bytes: int | None = None
    """One publish of all adapters to an engine."""
    training_bytes: int | None = None
    """Trained numbers with gradient and Adam's two moments."""
    base_bytes: int | None = None
    """Weight files of the base."""
    kv_cache_bytes: int | None = None
    """Keys and values of one answer's calls, all held at once, without the question."""


class TimeEstimate(View):
    """How long a run takes on CPUs like those of the API's machine, idle; half to twice of it is usual."""

    seconds: float
    """From its start to its result."""
    is_most: bool
    """Whether a trigger may end stages earlier."""
    sampling_s: float
    """Of that, rollouts."""
    update_s: float
    """Of that, learning from them."""
    evaluation_s: float
    """Of that, evaluations and the checks of triggers."""
    sampling_threads: int
    """In all rollout workers together."""
    learning_threads: int
    """In all learners together."""
    operations_per_s: float
    """Multiplications and additions of float32 numbers that one thread was seen to do."""
    text: str
    """The same for people."""
    counted_for: str
    """What it rests on."""


class GraphReport(View):
    """What a graph is and what it needs."""

    valid: Literal[True] = True
    name: str
    hash: str
    nodes: int
    edges: int
    order: list[str]
    layers: list[list[str]]
    depth: int
    width: int
    output: str
    calls_per_answer: int
    critical_path: list[str]
    """Nodes on the longest way to the answer, by token budget."""
    adapters: int
    base: str
    trainable_parameters: int | None = None
    tokens: TokenEstimate
    memory: MemoryEstimate
    time: TimeEstimate | None = None
    """Null for a bare topology, for GPUs, and where the base cannot be read from here."""
    stages: list[int] | None = None
    """Nodes of the graph at each stage of a run's growth; null for a bare topology."""
    notes: tuple[str, ...] = ()
    """What someone should know who trains it."""
    checked_at_start: tuple[str, ...] = ()
    """What is left to check when the run starts; all else is checked, as ``neuromas validate`` does."""
    document: dict[str, Any]
    """The graph: nodes, edges and output, all written out."""
    drawn: dict[str, Any]
    """The same to look at: of more than 300 nodes, neighbouring layers stand as one node."""
    drawing: str
    """The graph as an SVG image."""


class TopologyReport(GraphReport):
    """What a graph that was sent is and what it needs."""

    object: Literal["topology.report"] = "topology.report"
    kind: Literal["topology", "run"]
    """What the body was: a bare topology, or a whole run spec."""


class GrowthReport(GraphReport):
    """What a graph would be after a growth, and what it needs in the new run."""

    object: Literal["growth.report"] = "growth.report"
    kind: Literal["growth"] = "growth"
    new: list[str]
    """Nodes that the plan adds; all others are trained ones."""
