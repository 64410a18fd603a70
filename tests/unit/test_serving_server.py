"""GraphServer on the scripted engine: versions, slots, cancellation, deadlines, limits, shutdown."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest
from waiting import until

from neuromas.adapters.ref import PlainLora
from neuromas.base.symbols import symbols
from neuromas.engines.scripted import ScriptedEngine
from neuromas.errors import AdapterError, EngineError, NeuroMASError, TopologyError
from neuromas.rollout.answer import AnswerSettings
from neuromas.rollout.engine import EngineCall, EngineResult
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.serving import graph_server
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.load import ServerLimits
from neuromas.serving.question import (
    Answered,
    DeadlineError,
    Question,
    QueueFullError,
    ServerStoppedError,
    UnknownGraphError,
)
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.topology.builders import chain

PLACE = {symbol: place for place, symbol in enumerate(symbols())}
WAIT_S = 60.0
"""Steps that a server may wait: longer than any test takes."""


@pytest.fixture(scope="session")
def renderer(word_base: Path) -> Renderer:
    return make_renderer(PromptSpec(), word_base)


class GatedEngine(ScriptedEngine):
    """Steps only while its gate is open, so that a test decides what is under way."""

    gate: threading.Event
    aborted: list[str]

    def step(self) -> list[EngineResult]:
        assert self.gate.wait(WAIT_S)
        return super().step()

    def abort(self, ids: Sequence[str]) -> None:
        self.aborted += ids
        super().abort(ids)


def version_of(call: EngineCall) -> list[int]:
    """Answer with the version of the adapter that the call is given to."""
    return [PLACE[str(call.adapter.version % 10)]] if call.adapter is not None else [PLACE["so"]]


def gated(respond: Callable[[EngineCall], Sequence[int]] = version_of, slots: int = 4, delay: int = 1) -> GatedEngine:
    engine = GatedEngine(respond, lambda call: delay, max_adapters=slots, max_rank=4)
    engine.gate, engine.aborted = threading.Event(), []
    engine.gate.set()
    return engine


@contextmanager
def serving(engine: GatedEngine, limits: ServerLimits | None = None) -> Iterator[GraphServer]:
    server = GraphServer(lambda: engine, limits)
    try:
        yield server
    finally:
        engine.gate.set()
        server.close(drain_s=WAIT_S)


def graph(renderer: Renderer, name: str = "g", nodes: int = 2, rank: int = 1, version: str = "") -> ServableGraph:
    topology = chain(nodes)
    lora = PlainLora(rank, {})
    return ServableGraph(name, topology, dict.fromkeys(topology.adapters, lora), SamplingSpec(), renderer, version)


def ask(server: GraphServer, name: str = "g", **settings: object) -> Answered:
    return server.ask(Question(name, "find", **settings)).result(WAIT_S)  # type: ignore[arg-type]


def versions(answered: Answered) -> set[str]:
    return {str(call.adapter) for call in answered.rollout.calls}


def test_several_graphs_share_one_engine(renderer: Renderer) -> None:
    with serving(gated()) as server:
        for name in ("g", "h"):
            server.put(graph(renderer, name)).result(WAIT_S)
        assert set(server.graphs) == {"g", "h"}
        assert versions(ask(server, "g")) == {"g/n1-v0", "g/n2-v0"}
        assert versions(ask(server, "h")) == {"h/n1-v0", "h/n2-v0"}


def test_a_swap_serves_new_requests_with_the_new_version_and_ends_old_ones_with_the_old(renderer: Renderer) -> None:
    engine = gated(delay=2)
    with serving(engine) as server:
        server.put(graph(renderer, version="one")).result(WAIT_S)
        engine.gate.clear()
        old = server.ask(Question("g", "find"))
        until(lambda: server.load.running == 1)
        swapped = server.put(graph(renderer, version="two"))
        engine.gate.set()
        assert swapped.result(WAIT_S).generation == 1
        assert versions(old.result(WAIT_S)) == {"g/n1-v0", "g/n2-v0"}
        assert old.result().graph.version == "one"
        new = ask(server)
        assert versions(new) == {"g/n1-v1", "g/n2-v1"}
        assert (new.graph.version, new.graph.fingerprint, new.rollout.answer) == ("two", "g@1", "1")


def test_old_versions_give_their_slots_back(renderer: Renderer) -> None:
    with serving(gated(slots=4)) as server:
        for generation in range(6):
            assert server.put(graph(renderer)).result(WAIT_S).generation == generation
            assert ask(server).rollout.answer == str(generation)


def test_a_swap_waits_for_slots_that_come_free_and_refuses_what_can_never_fit(renderer: Renderer) -> None:
    engine = gated(slots=4, delay=2)
    with serving(engine) as server:
        server.put(graph(renderer)).result(WAIT_S)
        engine.gate.clear()
        old = server.ask(Question("g", "find"))
        until(lambda: server.load.running == 1)
        swaps = [server.put(graph(renderer)) for _ in range(2)]
        engine.gate.set()
        assert [swap.result(WAIT_S).generation for swap in swaps] == [1, 2]
        assert versions(old.result(WAIT_S)) == {"g/n1-v0", "g/n2-v0"}
        with pytest.raises(AdapterError, match=r"graph 'h' with 3 adapters .*: 5 adapter versions .* has 4 slots"):
            server.put(graph(renderer, "h", nodes=3)).result(WAIT_S)
        assert set(server.graphs) == {"g"}
        assert ask(server).rollout.answer == "2"


def test_a_removed_graph_finishes_what_it_began_and_its_name_never_repeats_a_version(renderer: Renderer) -> None:
    engine = gated(delay=2)
    with serving(engine) as server:
        server.put(graph(renderer)).result(WAIT_S)
        engine.gate.clear()
        old = server.ask(Question("g", "find"))
        until(lambda: server.load.running == 1)
        removed = server.remove("g")
        engine.gate.set()
        assert removed.result(WAIT_S)
        assert old.result(WAIT_S).rollout.answer == "0"
        with pytest.raises(UnknownGraphError, match="'g' does not exist"):
            ask(server)
        assert not server.remove("g").result(WAIT_S)
        assert server.put(graph(renderer)).result(WAIT_S).generation == 1


def test_a_graph_that_does_not_fit_is_refused_and_changes_nothing(renderer: Renderer) -> None:
    with serving(gated()) as server:
        server.put(graph(renderer)).result(WAIT_S)
        with pytest.raises(AdapterError, match="rank 8"):
            server.put(graph(renderer, rank=8)).result(WAIT_S)
        with pytest.raises(TopologyError, match="no word"):
            server.put(graph(renderer, "deep", nodes=20)).result(WAIT_S)
        assert ask(server).graph.generation == 0


def test_a_cancelled_request_leaves_the_engine(renderer: Renderer) -> None:
    engine = gated(delay=10**9)

    class Ears:
        heard: list[object] = []  # noqa: RUF012

        def piece(self, text: str) -> None:
            self.heard.append(text)

        done = failed = piece  # type: ignore[assignment]

    with serving(engine, ServerLimits(max_running=1)) as server:
        server.put(graph(renderer)).result(WAIT_S)
        requests = [server.begin(Question("g", "find"), Ears()) for _ in range(2)]
        until(lambda: server.load.running == 1 and server.load.waiting == 1)
        for request in [*requests, *requests]:
            server.cancel(request)
        until(lambda: server.load.cancelled == 2)
        assert server.load.running == server.load.waiting == 0
        assert engine.aborted == ["0.n1"]
        assert Ears.heard == []


def test_a_deadline_ends_running_and_waiting_requests(renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, later_s = gated(delay=10**9), [0.0]
    monkeypatch.setattr(graph_server, "monotonic", lambda: monotonic() + later_s[0])
    with serving(engine, ServerLimits(max_running=1, deadline_s=600)) as server:
        server.put(graph(renderer)).result(WAIT_S)
        # The one that waits ends first: it must not begin in place of the other.
        running, waiting = [server.ask(Question("g", "find", deadline_s=seconds)) for seconds in (600, 300)]
        until(lambda: server.load.running == server.load.waiting == 1)
        later_s[0] = 300
        with pytest.raises(DeadlineError, match="within 300 s"):
            waiting.result(WAIT_S)
        assert not running.done()
        later_s[0] = 600
        with pytest.raises(DeadlineError, match="within 600 s"):
            running.result(WAIT_S)
        assert engine.aborted == ["0.n1"]
        assert not engine.has_unfinished()


def test_a_question_cannot_ask_for_more_time_than_the_server_gives(renderer: Renderer) -> None:
    with serving(gated(delay=10**9), ServerLimits(deadline_s=0.05)) as server:
        server.put(graph(renderer)).result(WAIT_S)
        with pytest.raises(DeadlineError, match=r"0\.05 s"):
            ask(server, deadline_s=1000.0)


def test_a_full_server_says_when_to_come_back(renderer: Renderer) -> None:
    engine = gated()
    with serving(engine, ServerLimits(max_running=2, max_waiting=1)) as server:
        server.put(graph(renderer)).result(WAIT_S)
        engine.gate.clear()
        futures = [server.ask(Question("g", "find")) for _ in range(3)]
        with pytest.raises(QueueFullError, match="3 requests are under way") as caught:
            ask(server)
        assert 1 <= caught.value.retry_after_s <= 60
        engine.gate.set()
        assert [future.result(WAIT_S).rollout.answer for future in futures] == ["0"] * 3
        assert ask(server).rollout.answer == "0"


def test_closing_finishes_what_is_under_way_and_refuses_the_rest(renderer: Renderer) -> None:
    engine = gated(delay=3)
    with serving(engine) as server:
        server.put(graph(renderer)).result(WAIT_S)
        engine.gate.clear()
        future = server.ask(Question("g", "find"))
        until(lambda: server.load.running == 1)
        closing = threading.Thread(target=server.close)
        closing.start()
        until(lambda: not server.is_alive)
        for refused in (lambda: ask(server), lambda: server.put(graph(renderer)), lambda: server.remove("g")):
            with pytest.raises(ServerStoppedError, match="shutting down"):
                refused()
        engine.gate.set()
        assert future.result(WAIT_S).rollout.answer == "0"
        closing.join(WAIT_S)
        assert not closing.is_alive()


def test_closing_gives_up_on_what_takes_too_long(renderer: Renderer) -> None:
    engine = gated(delay=10**9)
    server = GraphServer(lambda: engine)
    server.put(graph(renderer)).result(WAIT_S)
    future = server.ask(Question("g", "find"))
    server.close(drain_s=0.05)
    with pytest.raises(ServerStoppedError, match="shutting down"):
        future.result(WAIT_S)


def test_an_engine_that_breaks_fails_everyone_who_waits(renderer: Renderer) -> None:
    class Breaking(GatedEngine):
        def step(self) -> list[EngineResult]:
            super().step()
            raise EngineError("out of memory")

    engine = Breaking(version_of, max_adapters=4)
    engine.gate, engine.aborted = threading.Event(), []
    server = GraphServer(lambda: engine, ServerLimits(max_running=1))
    server.put(graph(renderer)).result(WAIT_S)
    futures = [server.ask(Question("g", "find")) for _ in range(2)]
    until(lambda: server.load.running == 1)
    engine.gate.set()
    for future in futures:
        with pytest.raises(ServerStoppedError, match="out of memory"):
            future.result(WAIT_S)
    until(lambda: not server.is_alive)
    with pytest.raises(ServerStoppedError, match="out of memory"):
        ask(server)
    server.close()


def test_an_engine_that_does_not_start_is_told_to_the_caller() -> None:
    def broken() -> ScriptedEngine:
        raise EngineError("no memory")

    with pytest.raises(EngineError, match="no memory"):
        GraphServer(broken)


def test_no_answer_mixes_versions_while_a_graph_is_swapped_all_the_time(renderer: Renderer) -> None:
    answers: list[Answered] = []
    is_over = threading.Event()
    failures: list[NeuroMASError] = []

    def client() -> None:
        while not is_over.is_set():
            try:
                answers.append(ask(server, answer=AnswerSettings(is_streamed=True)))
            except NeuroMASError as error:
                failures.append(error)

    with serving(gated(slots=9, delay=2)) as server:
        server.put(graph(renderer, nodes=3)).result(WAIT_S)
        clients = [threading.Thread(target=client) for _ in range(4)]
        for one in clients:
            one.start()
        try:
            for swap in range(1, 11):
                assert server.put(graph(renderer, nodes=3)).result(WAIT_S).generation == swap
                until(lambda newest=swap: failures or any(one.graph.generation == newest for one in [*answers]))
        finally:
            is_over.set()
            for one in clients:
                one.join()
    assert failures == []
    for answered in answers:
        assert {call.adapter.version for call in answered.rollout.calls if call.adapter} == {answered.graph.generation}
