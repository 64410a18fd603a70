"""GraphServer: one trained graph on one engine. Requests join the batch that is running; nobody waits for anybody.

The engine belongs to one thread, which admits new requests between engine steps. It is the scheduler of training that
runs here, so a served answer is what an evaluation would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from neuromas.adapters.ref import AdapterRef
from neuromas.errors import EngineError, NeuroMASError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import Engine
from neuromas.rollout.prompt import Renderer
from neuromas.rollout.record import Provenance, Rollout
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.base import Description, Example, Split
from neuromas.topology.graph import Topology

_IDLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Graph:
    """What is served: a Topology and the adapter versions it samples with, by adapter name."""

    name: str
    topology: Topology
    adapters: Mapping[str, AdapterRef | None]
    sampling: SamplingSpec


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        text: what Nodes that read the task see.
        greedy: take the most probable token everywhere.
        sampling: of Nodes that set none of their own; None = the graph's.
        seed: makes a sampled answer reproducible.
    """

    text: str
    greedy: bool = True
    sampling: SamplingSpec | None = None
    seed: int = 0


@dataclass(slots=True)
class _Request:
    question: Question
    future: Future[Rollout]


class GraphServer:
    """Answers Questions; thread-safe."""

    def __init__(self, make_engine: Callable[[], tuple[Engine, Renderer]], graph: Graph) -> None:
        """Start the engine's thread and wait until the engine has loaded.

        Args:
            make_engine: called once, in the thread that will own the engine.
            graph: what to serve; its adapters are published already.

        Raises:
            NeuroMASError: what ``make_engine`` raised.
        """
        self.graph = graph
        self._requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()
        self._is_closing = threading.Event()
        self._ready: Future[None] = Future()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, args=(make_engine,), name="engine", daemon=True)
        self._thread.start()
        self._ready.result()

    @property
    def is_alive(self) -> bool:
        """Whether questions are still answered."""
        return self._thread.is_alive() and self._failure is None

    def submit(self, question: Question) -> Future[Rollout]:
        """Queue a question.

        Raises:
            EngineError: the engine has stopped.
        """
        if not self.is_alive or self._is_closing.is_set():
            raise EngineError(f"the engine of {self.graph.name!r} has stopped: {self._failure or 'closed'}")
        request = _Request(question, Future())
        self._requests.put(request)
        return request.future

    def close(self) -> None:
        """Finish what is under way, refuse the rest, stop the engine. Safe to call twice."""
        self._is_closing.set()
        self._thread.join()

    def _work(self, make_engine: Callable[[], tuple[Engine, Renderer]]) -> None:
        try:
            engine, renderer = make_engine()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits in the constructor
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        waiting: dict[int, _Request] = {}
        try:
            self._serve(Dataflow(engine, renderer), waiting)
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits for an answer
            self._failure = error
        finally:
            engine.close()
            self._refuse([*waiting.values(), *self._drain()])

    def _serve(self, flow: Dataflow, waiting: dict[int, _Request]) -> None:
        while not (self._is_closing.is_set() and not flow.has_unfinished):
            for request in self._arrivals(wait=not flow.has_unfinished):
                self._admit(flow, waiting, request)
            if flow.has_unfinished:
                for key, rollout in flow.advance():
                    waiting.pop(key).future.set_result(rollout)

    def _arrivals(self, *, wait: bool) -> list[_Request]:
        """Return what has been queued; with nothing to do, wait a moment for the first."""
        first: list[_Request] = []
        if wait:
            try:
                first = [self._requests.get(timeout=_IDLE_S)]
            except queue.Empty:
                return []
        return first + self._drain()

    def _drain(self) -> list[_Request]:
        requests = []
        while not self._requests.empty():
            requests.append(self._requests.get())
        return requests

    def _admit(self, flow: Dataflow, waiting: dict[int, _Request], request: _Request) -> None:
        if not request.future.set_running_or_notify_cancel():
            return
        question, graph = request.question, self.graph
        batch = RolloutBatch(
            topology=graph.topology,
            # One id for all: the seed of a request must not depend on when it came.
            examples=(Example(id="request", prompt=question.text, answer=""),),
            group_size=1,
            adapters=graph.adapters,
            sampling=question.sampling or graph.sampling,
            greedy=question.greedy,
            seed=question.seed,
            provenance=Provenance(run=graph.name, stage=0, step=0),
        )
        try:
            waiting[flow.add(UNSCORED, batch)] = request
        except NeuroMASError as error:
            request.future.set_exception(error)

    def _refuse(self, requests: list[_Request]) -> None:
        reason = EngineError(f"the engine of {self.graph.name!r} has stopped: {self._failure or 'closed'}")
        for request in requests:
            if not request.future.done():
                request.future.set_exception(reason)


@dataclass(frozen=True, slots=True)
class Unscored:
    """The task of a served graph: questions come from outside and nobody knows the answer."""

    name: str = "served"
    levels: tuple[int, ...] = ()

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return nothing of use: a served graph draws no examples."""
        return Example(f"{split}-{index}", "", "", level)

    def size(self, split: Split) -> int | None:
        """Return 0: there are no examples."""
        return 0

    def score(self, example: Example, text: str) -> float:
        """Return 0."""
        return 0.0

    def describe(self, example: Example, text: str) -> Description | None:
        """Return None."""
        return None


UNSCORED = Unscored()
