"""Upstream: a real graph server over HTTP, its engine scripted, for the API to send questions to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from waiting import until

from neuromas.engines.scripted import ScriptedEngine
from neuromas.rollout.engine import EngineCall
from neuromas.rollout.prompt import make_renderer
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.topology.document import topology_from_document

TOPOLOGY = {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "out"}], "edges": [["a", "out"], ["b", "out"]]}


class PacedEngine(ScriptedEngine):
    """A scripted engine whose steps take as long as those of a real one."""

    def step(self) -> Any:
        time.sleep(0.001)
        return super().step()


@dataclass
class Upstream:
    """A graph server at an address of its own."""

    server: GraphServer
    url: str


def respond(call: EngineCall) -> Sequence[int]:
    return [10, 11, 12, 13]


@contextmanager
def upstream(base: Path, *names: str, delay: Callable[[EngineCall], int] = lambda _: 4) -> Iterator[Upstream]:
    """Give a server of graphs with these names.

    Args:
        base: folder whose tokenizer reads and writes.
        *names: of the graphs.
        delay: engine steps of a call, about a millisecond each.
    """
    server = GraphServer(lambda: PacedEngine(respond, delay, max_model_len=128))
    renderer = make_renderer(PromptSpec(), base)
    topology = topology_from_document(TOPOLOGY)
    for name in names:
        adapters = dict.fromkeys(topology.adapters)
        server.put(ServableGraph(name, topology, adapters, SamplingSpec(max_tokens=8), renderer)).result(30)
    http = uvicorn.Server(uvicorn.Config(make_app(server), port=0, log_level="error"))
    thread = threading.Thread(target=http.run)
    thread.start()
    try:
        until(lambda: http.started or not thread.is_alive())
        assert http.started
        yield Upstream(server, f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}")
    finally:
        http.should_exit = True
        thread.join()
        server.close()
