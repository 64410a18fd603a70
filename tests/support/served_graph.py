"""A graph served over real connections by an engine that makes as many steps as its test allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
from served_app import served

from neuromas.adapters.ref import PlainLora
from neuromas.base.symbols import symbols
from neuromas.engines.scripted import ScriptedEngine
from neuromas.rollout.engine import EngineCall, EngineResult
from neuromas.rollout.renderer import Renderer
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.serving.load import ServerLimits
from neuromas.spec.parts import SamplingSpec
from neuromas.topology.builders import chain

PLACE = {symbol: place for place, symbol in enumerate(symbols())}
OTHER = 2
"""The end token, which comes second in every place."""
WAIT_S = 60.0
STEPS = 8
LOGPROBS = (-0.5, -1.0, -0.25, -2.0, -0.125, -3.0)
"""Of the tokens of every message, its end among them."""


class PacedEngine(ScriptedEngine):
    """Makes as many steps as its test allows, and is as certain of its tokens as LOGPROBS says."""

    def __init__(
        self,
        respond: Callable[[EngineCall], Sequence[int]],
        delay: Callable[[EngineCall], int],
        max_model_len: int | None,
    ) -> None:
        super().__init__(respond, delay, max_model_len=max_model_len, max_adapters=8)
        self.allowed = threading.Semaphore(0)
        self.is_free = True
        self.aborted: list[str] = []

    def step(self) -> list[EngineResult]:
        if not self.is_free:
            assert self.allowed.acquire(timeout=WAIT_S)
        return [self._scored(result) for result in super().step()]

    def _scored(self, result: EngineResult) -> EngineResult:
        logprobs = LOGPROBS[: len(result.token_ids)]
        scored = replace(result, logprobs=logprobs)
        if not result.tops:
            return scored
        mine = zip(result.token_ids, logprobs, strict=True)
        return replace(scored, tops=tuple(((token_id, value), (OTHER, value - 1.0)) for token_id, value in mine))

    def abort(self, ids: Sequence[str]) -> None:
        self.aborted += ids
        super().abort(ids)

    def let_go(self) -> None:
        self.is_free = True
        self.allowed.release()


@dataclass
class World:
    """An engine, the server on it, its address, and a client for it."""

    engine: PacedEngine
    server: GraphServer
    url: str
    client: httpx.Client
    renderer: Renderer

    def put(self, name: str = "g", version: str = "") -> None:
        topology = chain(2)
        adapters = dict.fromkeys(topology.adapters, PlainLora(1, {}))
        graph = ServableGraph(name, topology, adapters, SamplingSpec(max_tokens=8), self.renderer, version)
        self.server.put(graph).result(WAIT_S)

    def ask(self, **settings: object) -> httpx.Response:
        return self.client.post(f"{self.url}/v1/chat/completions", json=body(**settings))


def body(**settings: object) -> dict:
    return {"model": "g", "messages": [{"role": "user", "content": "find"}], **settings}


def respond(call: EngineCall) -> Sequence[int]:
    """Both Nodes say the version of their adapter and count on."""
    assert call.adapter is not None
    return [PLACE[word] for word in (str(call.adapter.version % 10), "so", "1", "2", "3")]


@contextmanager
def world(renderer: Renderer, limits: ServerLimits | None = None, max_model_len: int | None = None) -> Iterator[World]:
    engine = PacedEngine(respond, lambda call: STEPS, max_model_len)
    server = GraphServer(lambda: engine, limits)
    with served(make_app(server)) as url, httpx.Client(timeout=WAIT_S) as client:
        made = World(engine, server, url, client, renderer)
        made.put()
        yield made
        engine.let_go()
        server.close(drain_s=0)
