"""NeuroMAS: multi-agent language systems as trainable networks that grow.

The names here load on first use, so that ``import neuromas`` stays light. Anything else is imported from its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuromas.errors import NeuroMASError, SpecError, TopologyError
    from neuromas.run.outcome import RunResult
    from neuromas.serving.served_graph import ServedGraph
    from neuromas.spec.load import load_spec
    from neuromas.spec.parse import parse_run_spec
    from neuromas.spec.run import RunSpec
    from neuromas.tasks.base import Example, Score, Task
    from neuromas.topology.document import topology_from_document
    from neuromas.topology.graph import Node, Topology
    from neuromas.workflows.analyze import Analysis, analyze
    from neuromas.workflows.answer import Answer
    from neuromas.workflows.compare import Comparison, compare
    from neuromas.workflows.diagnose import Diagnosis, diagnose
    from neuromas.workflows.evaluate import Measurement, evaluate
    from neuromas.workflows.grow import grow
    from neuromas.workflows.loaded import TrainedGraph, load
    from neuromas.workflows.serve import serve
    from neuromas.workflows.train import train

__version__ = "0.1.0"

_HOMES = {
    "Analysis": "neuromas.workflows.analyze",
    "Answer": "neuromas.workflows.answer",
    "Comparison": "neuromas.workflows.compare",
    "Diagnosis": "neuromas.workflows.diagnose",
    "Example": "neuromas.tasks.base",
    "Measurement": "neuromas.workflows.evaluate",
    "NeuroMASError": "neuromas.errors",
    "Node": "neuromas.topology.graph",
    "RunResult": "neuromas.run.outcome",
    "RunSpec": "neuromas.spec.run",
    "Score": "neuromas.tasks.base",
    "ServedGraph": "neuromas.serving.served_graph",
    "SpecError": "neuromas.errors",
    "Task": "neuromas.tasks.base",
    "Topology": "neuromas.topology.graph",
    "TopologyError": "neuromas.errors",
    "TrainedGraph": "neuromas.workflows.loaded",
    "analyze": "neuromas.workflows.analyze",
    "compare": "neuromas.workflows.compare",
    "diagnose": "neuromas.workflows.diagnose",
    "evaluate": "neuromas.workflows.evaluate",
    "grow": "neuromas.workflows.grow",
    "load": "neuromas.workflows.loaded",
    "load_spec": "neuromas.spec.load",
    "parse_run_spec": "neuromas.spec.parse",
    "serve": "neuromas.workflows.serve",
    "topology_from_document": "neuromas.topology.document",
    "train": "neuromas.workflows.train",
}

__all__ = [
    "Analysis",
    "Answer",
    "Comparison",
    "Diagnosis",
    "Example",
    "Measurement",
    "NeuroMASError",
    "Node",
    "RunResult",
    "RunSpec",
    "Score",
    "ServedGraph",
    "SpecError",
    "Task",
    "Topology",
    "TopologyError",
    "TrainedGraph",
    "__version__",
    "analyze",
    "compare",
    "diagnose",
    "evaluate",
    "grow",
    "load",
    "load_spec",
    "parse_run_spec",
    "serve",
    "topology_from_document",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'neuromas' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
