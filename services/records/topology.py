"""Topologies: graphs as they are kept. They never change."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from neuromas.services.records.record import Record


class TopologyRecord(Record):
    """A graph; the same content has the same id, whatever its name."""

    noun: ClassVar[str] = "topology"

    object: Literal["topology"] = "topology"
    name: str = ""
    hash: str
    """SHA-256 of everything that an answer depends on."""
    document: dict[str, Any]
    """Nodes, edges and output, all written out."""
