"""Graphs that share an engine: the data that deployments are made of. Loads no Ray, no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from neuromas.engines.setup import EngineSetup
from neuromas.rollout.engine import Engine
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.load import ServerLimits

_MIN_SLOTS = 8


@dataclass(frozen=True, slots=True)
class GraphSource:
    """Where a served graph comes from.

    Attributes:
        name: of the model, to clients.
        checkpoint: folder of the checkpoint.
        version: of the checkpoint, for people and programs: its id.
        generation: raised with every swap that its owner asks for.
    """

    name: str
    checkpoint: str
    version: str = ""
    generation: int = 0


@dataclass(frozen=True, slots=True)
class EngineGroup:
    """One deployment: an engine, the graphs on it, and how many copies of all this there are.

    Attributes:
        setup: of the engine.
        graphs: what is served.
        slots: adapter versions that the engine holds; a swap needs room for the old and the new version.
        replicas: copies at least.
        max_replicas: copies at most, by load.
        cpus: processors that each copy claims of the cluster.
        limits: of each copy.
    """

    setup: EngineSetup
    graphs: tuple[GraphSource, ...]
    slots: int
    replicas: int = 1
    max_replicas: int = 1
    cpus: float = 1
    limits: ServerLimits = field(default_factory=ServerLimits)

    @property
    def name(self) -> str:
        """Name of the application."""
        return self.setup.name

    @property
    def route(self) -> str:
        """Path under which the application answers: ``/engine-3f9c0d1e2b7a``."""
        return f"/{self.name}"

    @property
    def user_config(self) -> dict[str, Any]:
        """What may change while replicas run, as JSON."""
        return {"graphs": [asdict(source) for source in self.graphs]}


def graph_sources(user_config: dict[str, Any]) -> tuple[GraphSource, ...]:
    """Return the graphs of ``EngineGroup.user_config``."""
    return tuple(GraphSource(**document) for document in user_config["graphs"])


def slots_for(num_adapters: int) -> int:
    """Return how many adapter versions an engine should hold for graphs with so many adapters together.

    Twice as many, so that every graph can be swapped at once, rounded up to a power of two: an engine must be started
    anew to hold more, which should be rare.
    """
    slots = _MIN_SLOTS
    while slots < 2 * num_adapters:
        slots *= 2
    return slots


class Opener(Protocol):
    """Makes engines and loads graphs; picklable."""

    def start(self, setup: EngineSetup, slots: int) -> Engine:
        """Return a running engine.

        Raises:
            NeuroMASError: it did not start.
        """

    def load(self, setup: EngineSetup, source: GraphSource) -> ServableGraph:
        """Return a graph with its weights, fit for the engine of ``setup``.

        Raises:
            NeuroMASError: the checkpoint cannot be read, or does not fit.
        """
