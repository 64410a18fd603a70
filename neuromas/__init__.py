"""NeuroMAS: multi-agent language systems as trainable networks that grow.

The names here load on first use, so that ``import neuromas`` stays light. Anything else is imported from its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuromas.errors import NeuroMASError, SpecError, TopologyError
    from neuromas.spec.load import load_spec
    from neuromas.spec.parse import parse_run_spec
    from neuromas.spec.run import RunSpec
    from neuromas.topology.document import topology_from_document
    from neuromas.topology.graph import Node, Topology

__version__ = "0.1.0"

_HOMES = {
    "NeuroMASError": "neuromas.errors",
    "SpecError": "neuromas.errors",
    "TopologyError": "neuromas.errors",
    "Node": "neuromas.topology.graph",
    "Topology": "neuromas.topology.graph",
    "topology_from_document": "neuromas.topology.document",
    "RunSpec": "neuromas.spec.run",
    "load_spec": "neuromas.spec.load",
    "parse_run_spec": "neuromas.spec.parse",
}

__all__ = [
    "NeuroMASError",
    "Node",
    "RunSpec",
    "SpecError",
    "Topology",
    "TopologyError",
    "__version__",
    "load_spec",
    "parse_run_spec",
    "topology_from_document",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'neuromas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
