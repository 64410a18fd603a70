"""What a deployment is like, put together from what Ray Serve and the replicas say. Loads no Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neuromas.serving.graph_loader import LoadReport

State = Literal["deploying", "running", "unhealthy", "failed", "deleting"]
_STATES: dict[str, State] = {
    "NOT_STARTED": "deploying",
    "DEPLOYING": "deploying",
    "RUNNING": "running",
    "UNHEALTHY": "unhealthy",
    "DEPLOY_FAILED": "failed",
    "DELETING": "deleting",
}


@dataclass(frozen=True, slots=True)
class GraphStatus:
    """One graph over all replicas that answer.

    Attributes:
        wanted: generation that shall be served.
        served: lowest generation that a replica serves; None while one serves none.
        is_ready: whether every replica serves what is wanted.
        error: why a replica could not serve what is wanted; what it says of an earlier generation does not count.
    """

    wanted: int
    served: int | None
    is_ready: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One application.

    Attributes:
        name: of the group.
        state: what Ray Serve says.
        message: why, where it says so.
        replicas: that answered just now.
        graphs: by name; empty while no replica answers.
        load: sums over the replicas: running, waiting, answered, failed, cancelled, prompt_tokens, completion_tokens.
    """

    name: str
    state: State
    message: str
    replicas: int
    graphs: Mapping[str, GraphStatus]
    load: Mapping[str, int]


def group_status(name: str, state: str, message: str, reports: Sequence[Mapping[str, Any]]) -> GroupStatus:
    """Return the status of an application from what its replicas report."""
    by_graph: dict[str, list[LoadReport]] = {}
    load: dict[str, int] = {}
    for report in reports:
        for graph, document in report["graphs"].items():
            by_graph.setdefault(graph, []).append(LoadReport(**document))
        for key, value in report["load"].items():
            if isinstance(value, int):
                load[key] = load.get(key, 0) + value
    graphs = {graph: _graph_status(found, len(reports)) for graph, found in by_graph.items()}
    return GroupStatus(name, _STATES[state], message, len(reports), graphs, load)


def _graph_status(reports: Sequence[LoadReport], num_replicas: int) -> GraphStatus:
    wanted = max(report.wanted for report in reports)
    served = [report.served for report in reports if report.served is not None]
    is_everywhere = len(served) == num_replicas
    return GraphStatus(
        wanted=wanted,
        served=min(served) if is_everywhere else None,
        is_ready=is_everywhere and all(report.is_ready and report.wanted == wanted for report in reports),
        error=next((report.error for report in reports if report.wanted == wanted and report.error), None),
    )
