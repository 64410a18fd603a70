"""Speed of an endpoint: requests over HTTP against the same engine driven directly, in turns in one process.

The base is the shipped one, adapters are random, so that messages end at unequal lengths. Both sides answer the same
questions greedily with the same graph, as many at a time. "Directly" is the dataflow of training on the engine, without
server, queue, HTTP and JSON. The client is a process of its own, as clients are; it needs a share of a core.

For every request over HTTP the trace says how long the engine worked on the calls of its critical path; its latency at
the client over that time is what everything else adds.

    python -m benchmarks.endpoint_load [--concurrency 1 16 64] [--turns 7] [--seconds 1.5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import uvicorn

from benchmarks.measure import interleave, ratio, report
from benchmarks.rollouts import BASE, SAMPLING, SPEC, TARGETS, TASK, forget_prefixes, random_lora
from neuromas.engines.vllm import VllmEngine
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Provenance
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import Graph, ServedGraph
from neuromas.serving.unscored import UNSCORED
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import layered
from neuromas.topology.graph import Topology

GRAPH = layered([2, 2])
SLOTS = 16


class Client:
    """The load client in its process."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_client"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, questions: Sequence[str], concurrency: int, *, stream: bool) -> dict[str, Any]:
        """Ask all questions and return seconds, latencies and answers."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        extras = {"stream": stream, "neuromas": {"trace": True}}
        bodies = [
            json.dumps({"model": "graph", "messages": [{"role": "user", "content": question}], **extras})
            for question in questions
        ]
        self._process.stdin.write(json.dumps({"port": self._port, "concurrency": concurrency, "bodies": bodies}) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def drive(engine: VllmEngine, graph: ServedGraph, questions: Sequence[str], concurrency: int) -> int:
    """Answer all questions on the engine, ``concurrency`` at a time; returns the tokens of all Nodes."""
    flow = Dataflow(engine, graph.renderer)
    waiting = deque(questions)
    running = tokens = 0
    while waiting or running:
        while waiting and running < concurrency:
            batch = RolloutBatch(
                topology=graph.topology,
                examples=(Example("request", waiting.popleft(), ""),),
                group_size=1,
                adapters=graph.adapters,
                sampling=graph.sampling,
                greedy=True,
                seed=0,
                provenance=Provenance("graph", 0, 0),
            )
            flow.add(UNSCORED, batch)
            running += 1
        for _, rollout in flow.advance():
            running -= 1
            tokens += sum(len(call.completion_token_ids) for call in rollout.calls)
    return tokens


def critical_path_s(trace: Sequence[dict[str, Any]], topology: Topology) -> float:
    """Return the engine's seconds on the slowest chain of calls that ends at the output."""
    latency = {entry["node"]: entry["latency_s"] for entry in trace}
    ready: dict[str, float] = {}
    for node in topology.order:
        ready[node] = latency[node] + max((ready[sender] for sender in topology.predecessors(node)), default=0.0)
    return ready[topology.output]


class Turns:
    """The turns of one number of requests at a time, and what they found."""

    def __init__(self, engine: VllmEngine, graph: ServedGraph, client: Client, concurrency: int) -> None:
        self._engine, self._graph, self._client = engine, graph, client
        self._concurrency = concurrency
        self.questions: list[str] = []
        self.tokens = 0
        self.seconds: dict[bool, list[float]] = {False: [], True: []}
        self.latencies: list[float] = []
        self.over_engine: list[float] = []

    def direct(self) -> None:
        """Answer all questions on the engine itself."""
        forget_prefixes(self._engine)
        self.tokens = drive(self._engine, self._graph, self.questions, self._concurrency)

    def over_http(self, *, stream: bool) -> None:
        """Have the client ask all questions."""
        forget_prefixes(self._engine)
        found = self._client.ask(self.questions, self._concurrency, stream=stream)
        # The client times its own requests: what the order costs on its way there is not the endpoint's.
        self.seconds[stream].append(found["seconds"])
        if not stream:
            self.latencies += found["latencies"]
            self.over_engine += [
                latency / critical_path_s(answer["neuromas"]["trace"], self._graph.topology)
                for latency, answer in zip(found["latencies"], found["answers"], strict=True)
            ]

    def run(self, questions: Sequence[str], seconds: float, turns: int) -> dict[str, Any]:
        """Take turns of about so many seconds and return the row of the table."""
        self.questions = list(questions[: 4 * self._concurrency])
        began = perf_counter()
        self.direct()
        count = max(4 * self._concurrency, int(4 * self._concurrency * seconds / (perf_counter() - began)))
        self.questions = [questions[index % len(questions)] for index in range(count)]
        timed = interleave(
            {
                "direct": self.direct,
                "endpoint": lambda: self.over_http(stream=False),
                "streamed": lambda: self.over_http(stream=True),
            },
            turns,
        )["direct"]
        plain, streamed = (ratio(timed, self.seconds[stream][-turns:]) for stream in (False, True))
        latencies, over_engine = self.latencies[count:], self.over_engine[count:]  # without the first, unmeasured turn
        return {
            "at a time": self._concurrency,
            "answers": count,
            "direct tokens/s": self.tokens / median(timed),
            "rate over direct": plain[0],
            "low": plain[1],
            "high": plain[2],
            "streamed": streamed[0],
            "p50 ms": 1000 * median(latencies),
            "p95 ms": 1000 * percentile_95(latencies),
            "p50 over engine": median(over_engine),
            "p95 over engine": percentile_95(over_engine),
        }


def percentile_95(values: Sequence[float]) -> float:
    return quantiles(values, n=20)[-1]


@contextmanager
def endpoint(server: GraphServer) -> Iterator[int]:
    """Serve inside the block as ``neuromas serve`` does; gives the port."""
    http = uvicorn.Server(uvicorn.Config(make_app(server), port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=http.run)
    thread.start()
    pause = threading.Event()
    while not http.started:
        pause.wait(0.01)
    yield http.servers[0].sockets[0].getsockname()[1]
    http.should_exit = True
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn, about (default: 1.5)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    engine = VllmEngine(BASE, SPEC, SLOTS, 1, TARGETS)
    server = GraphServer(lambda: engine)
    loras = {name: random_lora(1, seed) for seed, name in enumerate(GRAPH.adapters)}
    graph = server.put(Graph("graph", GRAPH, loras, SAMPLING, make_renderer(PromptSpec(), BASE))).result()
    with endpoint(server) as port:
        client = Client(port)
        questions = [TASK.example("test", index).prompt for index in range(1024)]
        rows = [
            Turns(engine, graph, client, concurrency).run(questions, arguments.seconds, arguments.turns)
            for concurrency in arguments.concurrency
        ]
        client.close()
    server.close()
    title = f"an endpoint over the same engine driven directly ({len(GRAPH.nodes)} Nodes in {GRAPH.depth} layers)"
    report(title, rows, arguments.json)


if __name__ == "__main__":
    main()
