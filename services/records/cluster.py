"""Whether the cluster lives: told by the supervisor, for the API, which does not speak with Ray."""

from __future__ import annotations

from typing import ClassVar, Final, Literal, TypedDict

from neuromas.services.records.record import Record

CLUSTER_ID: Final = "cluster"


class ClusterUpdate(TypedDict, total=False):
    """What changes in what is known of the cluster."""

    fault: str
    seen: float


class ClusterRecord(Record):
    """What the supervisor knows of the service's Ray cluster."""

    noun: ClassVar[str] = "service"
    updatable: ClassVar[frozenset[str]] = frozenset(ClusterUpdate.__annotations__)

    id: Literal["cluster"] = "cluster"
    fault: str
    """Empty = it lives."""
    seen: float
    """When it was looked at last, unix seconds."""
