"""GraphTable: the graphs on one engine, each an immutable version; a new version is published before the old one goes.

Used by the thread that drives the engine. Versions are new names: the engine never sees an adapter name twice, so a
request that began with one version ends with it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import AdapterError
from neuromas.rollout.engine import Engine
from neuromas.rollout.renderer import Renderer
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.base import Example
from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class ServableGraph:
    """A trained graph with its weights.

    Attributes:
        name: of the model, to clients.
        topology: the graph.
        adapters: adapter name -> weights; None is the bare base.
        sampling: budget, temperature and top-p of Nodes that set none of their own.
        renderer: writes prompts and reads messages.
        version: of the weights, for people: a checkpoint's id or folder.
    """

    name: str
    topology: Topology
    adapters: Mapping[str, PlainLora | None]
    sampling: SamplingSpec
    renderer: Renderer
    version: str = ""


@dataclass(slots=True, eq=False)
class GraphVersion:
    """One version of a graph in the engine.

    Attributes:
        name: of the model.
        topology: the graph.
        adapters: adapter name -> published version.
        sampling: see ServableGraph.
        renderer: see ServableGraph.
        version: see ServableGraph.
        generation: counts the versions of this name from 0; a name that was removed goes on counting.
        created_s: when it was published, unix seconds.
        num_requests: requests under way.
        is_current: whether new requests use it.
    """

    name: str
    topology: Topology
    adapters: Mapping[str, AdapterRef | None]
    sampling: SamplingSpec
    renderer: Renderer
    version: str
    generation: int
    created_s: int = field(default_factory=lambda: int(time.time()))
    num_requests: int = 0
    is_current: bool = True

    @property
    def fingerprint(self) -> str:
        """Names the version: equal fingerprints of one server mean equal weights."""
        return f"{self.name}@{self.generation}"


class GraphTable:
    """Publishes, replaces and retires graphs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._current: dict[str, GraphVersion] = {}
        self._retiring: list[GraphVersion] = []
        self._num_versions: Counter[str] = Counter()

    @property
    def current(self) -> Mapping[str, GraphVersion]:
        """Served graphs by name; a snapshot that other threads may read."""
        return self._current

    @property
    def has_retiring(self) -> bool:
        """Whether old versions still hold adapter slots because requests use them."""
        return bool(self._retiring)

    def put(self, graph: ServableGraph) -> GraphVersion:
        """Serve a graph; a graph of the same name answers what it has begun and nothing else.

        Raises:
            AdapterError: the adapters do not fit the engine, or no slots are left for them beside the present ones.
            NeuroMASError: the base cannot write the prompts of this graph.
        """
        _check_prompts(graph)
        generation = self._num_versions[graph.name]
        refs = {
            name: None if lora is None else AdapterRef(name, generation, graph.name)
            for name, lora in graph.adapters.items()
        }
        weights = {ref: lora for name, lora in graph.adapters.items() if lora is not None and (ref := refs[name])}
        try:
            self._engine.publish(weights)
        except AdapterError as error:
            raise AdapterError(
                f"graph {graph.name!r} with {len(weights)} adapters cannot be served: {error}"
            ) from error
        self._num_versions[graph.name] += 1
        served = GraphVersion(
            graph.name, graph.topology, refs, graph.sampling, graph.renderer, graph.version, generation
        )
        old = self._current.get(graph.name)
        self._current = {**self._current, graph.name: served}
        if old is not None:
            self._retire(old)
        return served

    def remove(self, name: str) -> bool:
        """Serve a graph no longer; False where there is none of the name."""
        gone = self._current.get(name)
        if gone is None:
            return False
        self._current = {other: served for other, served in self._current.items() if other != name}
        self._retire(gone)
        return True

    def enter(self, served: GraphVersion) -> None:
        """Note that a request uses the version."""
        served.num_requests += 1

    def leave(self, served: GraphVersion) -> None:
        """Note that a request has ended; the last one of an old version frees its slots."""
        served.num_requests -= 1
        if not served.is_current and not served.num_requests:
            self._retiring.remove(served)
            self._forget(served)

    def _retire(self, served: GraphVersion) -> None:
        served.is_current = False
        if served.num_requests:
            self._retiring.append(served)
        else:
            self._forget(served)

    def _forget(self, served: GraphVersion) -> None:
        self._engine.publish({}, retire=[ref for ref in served.adapters.values() if ref is not None])


def _check_prompts(graph: ServableGraph) -> None:
    """Write every Node's prompt once: what fails here would fail for every request."""
    question = Example(id="check", prompt="", answer="")
    for node in graph.topology.nodes:
        signals = [(sender, "") for sender in graph.topology.predecessors(node.id)]
        graph.renderer.render(graph.topology, node.id, question, signals, graph.sampling.max_tokens)
