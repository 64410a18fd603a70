"""GraphServer: trained graphs on one engine. Requests join the batch that is running; nobody waits for anybody.

The engine belongs to one thread, which does everything between engine steps: it admits and cancels requests, publishes
graphs and tells what has happened. It is the scheduler of training that runs here, so a served answer is what an
evaluation would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from neuromas.errors import AdapterError, NeuroMASError, RolloutError
from neuromas.rollout.batch import RolloutBatch, check_given
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.engine import Engine
from neuromas.rollout.record import Provenance, Rollout
from neuromas.serving.graph_table import GraphTable, GraphVersion, ServableGraph
from neuromas.serving.load import Load, ServerLimits
from neuromas.serving.question import (
    Answered,
    DeadlineError,
    FutureReply,
    Question,
    QueueFullError,
    Reply,
    Request,
    ServerStoppedError,
    TooLongError,
    UnknownGraphError,
)
from neuromas.serving.unscored import UNSCORED
from neuromas.spec.parts import SamplingSpec
from neuromas.tasks.base import Example

_LOOK_EVERY_S = 0.05
"""How exact deadlines are, seconds."""


@dataclass(frozen=True, slots=True)
class _Order:
    """Something for the engine's thread to do; ``refuse`` is called instead when it does nothing any more."""

    carry_out: Callable[[], None]
    refuse: Callable[[NeuroMASError], None]


@dataclass(slots=True)
class _Put:
    """A graph that waits to be published."""

    graph: ServableGraph
    future: Future[GraphVersion] = field(default_factory=Future)


class GraphServer:
    """Answers Questions; thread-safe."""

    def __init__(self, start_engine: Callable[[], Engine], limits: ServerLimits | None = None) -> None:
        """Start the engine's thread and wait until the engine has loaded.

        Args:
            start_engine: called once, in the thread that will own the engine.
            limits: how much is taken on; None = the usual.

        Raises:
            NeuroMASError: what ``start_engine`` raised.
        """
        self.limits = limits or ServerLimits()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._after_step: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._num_open = 0
        self._closes_at: float | None = None
        self._failure: Exception | None = None
        self._running: dict[int, Request] = {}
        self._line: deque[Request] = deque()
        self._puts: deque[_Put] = deque()
        self._next_look = 0.0
        self._load = Load()
        self._max_model_len: int | None = None
        ready: Future[tuple[Dataflow, GraphTable]] = Future()
        self._thread = threading.Thread(target=self._work, args=(start_engine, ready), name="engine", daemon=True)
        self._thread.start()
        self._flow, self._table = ready.result()

    # -- for any thread

    @property
    def is_alive(self) -> bool:
        """Whether questions are answered."""
        return self._thread.is_alive() and self._failure is None and self._closes_at is None

    def check_length(self, question: Question) -> None:
        """Refuse a question that is far too long, in bounded time. For any thread but the engine's.

        Raises:
            TooLongError: no prompt with it can fit the engine's context.
        """
        limit, graph = self._max_model_len, self.graphs.get(question.graph)
        if limit is None or graph is None:
            return
        for text in question.texts:
            if not graph.renderer.fits(text, limit):
                what = "question" if text is question.text else "message"
                raise TooLongError(f"the {what} has more tokens than the model's context of {limit}; shorten it")

    def may_be_too_long(self, question: Question) -> bool:
        """Whether ``check_length`` is worth its time: texts with fewer characters than the context has tokens pass."""
        limit = self._max_model_len
        return limit is not None and any(len(text) > limit for text in question.texts)

    def is_too_long(self, rollout: Rollout) -> bool:
        """Whether a rollout failed because a prompt did not fit the engine's context."""
        limit = self._max_model_len
        return limit is not None and any(len(call.prompt_token_ids) >= limit for call in rollout.calls)

    @property
    def graphs(self) -> Mapping[str, GraphVersion]:
        """The served graphs by name."""
        return self._table.current

    @property
    def load(self) -> Load:
        """What there is to do now, and what was done."""
        return replace(self._load, running=len(self._running), waiting=max(0, self._num_open - len(self._running)))

    def put(self, graph: ServableGraph) -> Future[GraphVersion]:
        """Serve a graph from now on, in place of one of the same name; requests under way end as they began.

        Where adapter slots are held by versions that only wait for their last request, this waits too.

        Raises (through the future):
            AdapterError: the adapters do not fit, or there are no slots for them.
        Raises (at once):
            ServerStoppedError: the server has stopped.
        """
        put = _Put(graph)
        self._order(put.future, lambda: self._puts.append(put))
        return put.future

    def remove(self, name: str) -> Future[bool]:
        """Serve a graph no longer; requests under way are finished. The result is False where there is none.

        Raises:
            ServerStoppedError: the server has stopped.
        """
        removed: Future[bool] = Future()
        self._order(removed, lambda: removed.set_result(self._table.remove(name)))
        return removed

    def ask(self, question: Question) -> Future[Answered]:
        """Queue a question; see ``begin``. Errors that come later are raised by the future."""
        reply = FutureReply()
        self.begin(question, reply)
        return reply.future

    def begin(self, question: Question, reply: Reply) -> Request:
        """Queue a question and have ``reply`` told what becomes of it.

        Raises:
            UnknownGraphError: no graph of that name is served.
            RolloutError: messages are given for what are no Nodes of it, or for its output.
            QueueFullError: too many requests are under way.
            ServerStoppedError: the server is closing or its engine has failed.
        """
        graphs = self._table.current
        if question.graph not in graphs:
            names = ", ".join(map(repr, graphs)) or "none"
            raise UnknownGraphError(f"the model {question.graph!r} does not exist; this server has {names}")
        check_given(graphs[question.graph].topology, question.messages)
        now = monotonic()
        wait_s = min(question.deadline_s or self.limits.deadline_s, self.limits.deadline_s)
        request = Request(question, reply, now, now + wait_s)
        with self._lock:
            self._check_open()
            if self._num_open >= self.limits.max_open:
                message = f"{self._num_open} requests are under way, which is all this server takes on; try again later"
                raise QueueFullError(message, self.load.retry_after_s(self.limits))
            self._num_open += 1
            self._orders.put(_Order(lambda: self._line.append(request), reply.failed))
        return request

    def cancel(self, request: Request) -> None:
        """Forget a request: its calls leave the engine, its reply is told nothing more. Ended ones are ignored."""
        self._orders.put(_Order(lambda: self._drop(request), _ignore))

    def after_step(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called in the engine's thread after each round of replies; it must not block, nor raise."""
        self._after_step.append(tell)

    def close(self, drain_s: float | None = None) -> None:
        """Refuse new questions, finish those under way, stop the engine. Safe to call twice.

        Args:
            drain_s: how long requests under way may take, seconds; None = as the limits say. What is left is failed.
        """
        with self._lock:
            if self._closes_at is None:
                self._closes_at = monotonic() + (self.limits.drain_s if drain_s is None else drain_s)
        self._orders.put(_Order(_nothing, _ignore))  # wakes the thread
        self._thread.join()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise ServerStoppedError(f"the engine has stopped: {self._failure}")
        if self._closes_at is not None or not self._thread.is_alive():
            raise ServerStoppedError("the server is shutting down")

    def _order(self, future: Future[Any], carry_out: Callable[[], None]) -> None:
        future.set_running_or_notify_cancel()  # what the engine's thread works on cannot be cancelled
        with self._lock:
            self._check_open()
            self._orders.put(_Order(carry_out, future.set_exception))

    # -- the engine's thread

    def _work(self, start_engine: Callable[[], Engine], ready: Future[tuple[Dataflow, GraphTable]]) -> None:
        try:
            engine = start_engine()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits in the constructor
            ready.set_exception(error)
            return
        flow, table = Dataflow(engine), GraphTable(engine)
        self._max_model_len = engine.max_model_len
        self._flow, self._table = flow, table
        ready.set_result((flow, table))
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits for an answer
            with self._lock:
                self._failure = error
        finally:
            engine.close()
            self._refuse_all()

    def _serve(self) -> None:
        """Rounds of: take orders, admit, step, tell. Nothing to do and closing: the end."""
        while True:
            if not (self._flow.has_unfinished or self._line or self._puts):
                if self._closes_at is not None and self._orders.empty():
                    return
                self._orders.get().carry_out()
            self._take_orders()
            self._publish_waiting()
            self._look_at_the_clock()
            while self._line and len(self._running) < self.limits.max_running:
                self._admit(self._line.popleft())
            if self._flow.has_unfinished:
                self._step()
            for tell in self._after_step:
                tell()

    def _take_orders(self) -> None:
        while not self._orders.empty():
            self._orders.get().carry_out()

    def _publish_waiting(self) -> None:
        while self._puts:
            try:
                served = self._table.put(self._puts[0].graph)
            except AdapterError as error:
                if self._table.has_retiring:  # their slots come free
                    return
                self._puts.popleft().future.set_exception(error)
            except NeuroMASError as error:
                self._puts.popleft().future.set_exception(error)
            else:
                self._puts.popleft().future.set_result(served)

    def _look_at_the_clock(self) -> None:
        now = monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY_S
        is_over = self._closes_at is not None and now >= self._closes_at
        for request in [*self._running.values(), *self._line]:
            if is_over:
                self._drop(request, ServerStoppedError("the server is shutting down"))
            elif now >= request.deadline:
                seconds = request.deadline - request.arrived
                self._drop(request, DeadlineError(f"no answer within {seconds:g} s; the request was given up"))

    def _admit(self, request: Request) -> None:
        question = request.question
        graph = self._table.current.get(question.graph)
        if graph is None:
            self._close_request()
            request.reply.failed(UnknownGraphError(f"the model {question.graph!r} was removed"))
            return
        try:
            check_given(graph.topology, question.messages)
        except RolloutError as error:  # the graph has changed since the question came
            self._close_request()
            request.reply.failed(error)
            return
        batch = RolloutBatch(
            topology=graph.topology,
            # One id for all: the seed of a request must not depend on when it came.
            examples=(Example(id="request", prompt=question.text, answer=""),),
            group_size=1,
            adapters=graph.adapters,
            sampling=_sampling(question, graph.sampling),
            greedy=question.is_greedy,
            seed=question.seed,
            provenance=Provenance(run=graph.name, stage=0, step=0),
            given=question.messages,
        )
        request.key = self._flow.add(UNSCORED, batch, renderer=graph.renderer, settings=question.answer)
        request.graph, request.started = graph, monotonic()
        self._table.enter(graph)
        self._running[request.key] = request

    def _step(self) -> None:
        finished = self._flow.advance()
        for key, piece in self._flow.pieces():
            if key in self._running:
                self._running[key].reply.piece(piece)
        now = monotonic()
        for key, rollout in finished:
            request = self._running.pop(key)
            assert request.graph is not None
            self._table.leave(request.graph)
            self._close_request()
            self._load = self._load.with_answer(rollout, now - request.arrived)
            request.reply.done(Answered(rollout, request.graph, request.started - request.arrived))

    def _drop(self, request: Request, reason: NeuroMASError | None = None) -> None:
        """Take a request out, wherever it is; its reply is told the reason where there is one."""
        if request.key in self._running:
            self._flow.cancel([request.key])
            graph = self._running.pop(request.key).graph
            assert graph is not None
            self._table.leave(graph)
        elif request in self._line:
            self._line.remove(request)
        else:
            return
        self._close_request()
        self._load = replace(self._load, cancelled=self._load.cancelled + 1)
        if reason is not None:
            request.reply.failed(reason)

    def _close_request(self) -> None:
        with self._lock:
            self._num_open -= 1

    def _refuse_all(self) -> None:
        with self._lock:  # from here on nothing is queued any more
            self._failure = self._failure or ServerStoppedError("closed")
        error = ServerStoppedError(f"the engine has stopped: {self._failure}")
        while not self._orders.empty():
            self._orders.get().refuse(error)
        for put in self._puts:
            put.future.set_exception(error)
        for request in [*self._running.values(), *self._line]:
            request.reply.failed(error)
        for tell in self._after_step:
            tell()


def _sampling(question: Question, own: SamplingSpec) -> SamplingSpec:
    asked = {"temperature": question.temperature or None, "top_p": question.top_p}
    changes = {name: value for name, value in asked.items() if value is not None}
    return own.model_copy(update=changes) if changes else own


def _nothing() -> None:
    """Do nothing."""


def _ignore(error: NeuroMASError) -> None:
    """Tell nobody."""
