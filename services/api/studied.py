"""Studied: which graphs are analysed and diagnosed here; both take as long, and say as much, as a graph is large."""

from __future__ import annotations

from typing import Final

from neuromas.services.api.problems import unsupported
from neuromas.services.api.service import Service
from neuromas.services.api.submission import checkpoint_graph
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.evaluation import EvaluationKind
from neuromas.studies.influence import num_changes

MAX_CHANGES: Final = 1024
"""How many times an analysis may ask its questions: with each node changed in three ways at most, and each edge."""
MAX_ADAPTERS: Final = 256
"""Adapters of a graph that is diagnosed."""
_EXAMPLES: Final = 2
"""From which on their number changes nothing in how often they are asked."""


async def check_study(service: Service, kind: EvaluationKind, checkpoint: CheckpointRecord) -> None:
    """Refuse analyses and diagnoses of graphs that are too large.

    Raises:
        ApiError: the checkpoint's is (400).
        CheckpointError: the checkpoint's files are gone.
    """
    if kind == "accuracy":
        return
    graph = await checkpoint_graph(service, checkpoint)
    if kind == "analysis" and (changes := num_changes(graph, _EXAMPLES)) > MAX_CHANGES:
        message = f"an analysis of this graph asks its questions {changes} times; allowed are {MAX_CHANGES}"
        raise unsupported("checkpoint", message)
    if kind == "diagnosis" and (adapters := len(graph.adapters)) > MAX_ADAPTERS:
        raise unsupported("checkpoint", f"has {adapters} adapters; a diagnosis takes at most {MAX_ADAPTERS}")
