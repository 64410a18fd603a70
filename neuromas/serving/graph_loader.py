"""GraphLoader: keeps the graphs of a server as a list says, while it serves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neuromas.errors import NeuroMASError
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.group import GraphSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """How far a server is with one graph.

    Attributes:
        wanted: generation that shall be served.
        served: generation that is served, None when there is none.
        version: of the checkpoint that is served.
        error: why the wanted generation is not served, when that was tried.
    """

    wanted: int
    served: int | None = None
    version: str = ""
    error: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether what is wanted is served."""
        return self.served == self.wanted


class GraphLoader:
    """Loads, swaps and removes graphs, one change after the other; a graph that fails leaves the others alone."""

    def __init__(self, server: GraphServer, load: Callable[[GraphSource], ServableGraph]) -> None:
        self._server = server
        self._load = load
        self._changing = threading.Lock()
        self._wanted: tuple[GraphSource, ...] = ()
        self._served: dict[str, GraphSource] = {}
        self._errors: dict[GraphSource, str] = {}

    def want(self, wanted: Sequence[GraphSource]) -> None:
        """Say what shall be served from now on; ``follow`` brings it about."""
        self._wanted = tuple(wanted)

    def follow(self) -> None:
        """Load and remove until the server serves what is wanted; what fails is in the report.

        Blocks for seconds. While another thread does the same it does the work for both.
        """
        with self._changing:
            while (source := self._next()) is not None:
                self._bring(source)
            names = {source.name for source in self._wanted}
            for name in [name for name in self._served if name not in names]:
                self._server.remove(name).result()
                del self._served[name]

    def report(self) -> dict[str, LoadReport]:
        """Return how far each wanted graph is, by name."""
        reports = {}
        for source in self._wanted:
            served = self._served.get(source.name)
            reports[source.name] = LoadReport(
                wanted=source.generation,
                served=None if served is None else served.generation,
                version="" if served is None else served.version,
                error=self._errors.get(source),
            )
        return reports

    def _next(self) -> GraphSource | None:
        """Return a wanted graph that is not served and has not failed."""
        for source in self._wanted:
            if self._served.get(source.name) != source and source not in self._errors:
                return source
        return None

    def _bring(self, source: GraphSource) -> None:
        try:
            self._server.put(self._load(source)).result()
        except NeuroMASError as error:
            self._errors[source] = str(error)
            logger.warning("graph cannot be served", extra={"graph": source.name, "reason": str(error)})
        else:
            self._served[source.name] = source
