"""Speed of an endpoint: requests over HTTP against the same engine driven directly, in turns in one process.

The base is the shipped one, adapters are random, so that messages end at unequal lengths. Both sides answer the same
questions greedily with the same graph, as many at a time. "Directly" is the dataflow of training on the engine, without
server, queue, HTTP and JSON. The client is a process of its own, as clients are; it needs a share of a core. "Behind
the API" the service's API, one more process, passes the questions on; on few cores all of them share. Each way takes
turns with direct driving alone: the server learns from its clients when to wait for them, and each way has others.

Rates are tokens of all Nodes per second, each side's own. "First" is the time until the first text of the answer, which
of a whole answer is its end. Then the same questions are asked with a trace, which says
how long the engine worked on the calls of the critical path; the latency at the client over that time is what all
else adds. Traces cost time, so that rates are measured without. "CPU ms" are the processor's of one question, of the
turns without a trace: those of driving directly, and over HTTP those of each process.

    python -m benchmarks.endpoint_load [--concurrency 1 16 64] [--ways endpoint] [--turns 7] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import uvicorn

from benchmarks.api_process import ApiProcess, add_endpoint, served_api
from benchmarks.client_process import ClientProcess
from benchmarks.measure import interleave, ratio, report
from benchmarks.rollouts import BASE, SAMPLING, SPEC, TARGETS, TASK, forget_prefixes, random_lora
from neuromas.engines.vllm import VllmEngine
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Provenance
from neuromas.services.settings import Settings
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import GraphVersion, ServableGraph
from neuromas.serving.unscored import UNSCORED
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.base import Example
from neuromas.topology.builders import layered
from neuromas.topology.graph import Topology

GRAPH = layered([2, 2])
SLOTS = 16
WAYS = ("endpoint", "streamed", "behind the API", "streamed behind the API")


@dataclass(frozen=True, slots=True)
class Way:
    """A way over HTTP: its client's port, and whether answers are streamed."""

    port: int
    is_streamed: bool = False


def ask(client: ClientProcess, way: Way, questions: Sequence[str], concurrency: int, *, trace: bool) -> dict[str, Any]:
    """Have a load client ask all questions and return seconds, latencies and answers."""
    extras = {"stream": way.is_streamed, "neuromas": {"trace": trace}}
    bodies = [
        json.dumps({"model": "graph", "messages": [{"role": "user", "content": question}], **extras})
        for question in questions
    ]
    client.order(port=way.port, concurrency=concurrency, bodies=bodies)
    return client.answer()


def drive(engine: VllmEngine, graph: GraphVersion, questions: Sequence[str], concurrency: int) -> int:
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
    """The turns of one number of requests at a time, and what they found: tokens per second by alternative."""

    def __init__(
        self,
        engine: VllmEngine,
        graph: GraphVersion,
        client: ClientProcess,
        api: ApiProcess,
        ways: dict[str, Way],
        concurrency: int,
    ) -> None:
        self._engine, self._graph, self._client, self._ways = engine, graph, client, ways
        self._clocks = {"endpoint": process_time, "API": api.cpu_s, "client": client.cpu_s}
        self._concurrency = concurrency
        self.questions: list[str] = []
        self.rates: dict[str, list[float]] = {}
        self.latencies: dict[str, list[float]] = {}
        self.over_engine: dict[str, list[float]] = {}
        self.firsts: dict[str, list[float]] = {}
        self.cpu_ms: dict[tuple[str, str], list[float]] = {}

    def forget(self) -> None:
        """Begin anew, after a turn that warmed everything up."""
        self.rates, self.latencies, self.over_engine, self.firsts, self.cpu_ms = {}, {}, {}, {}, {}

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        """Note what each process takes of the processors inside the block, for a question."""
        before = {who: clock() for who, clock in self._clocks.items()}
        yield
        for who, clock in self._clocks.items():
            taken = 1000 * (clock() - before[who]) / len(self.questions)
            self.cpu_ms.setdefault((name, who), []).append(taken)

    def direct(self) -> None:
        """Answer all questions on the engine itself."""
        forget_prefixes(self._engine)
        began = perf_counter()
        with self._counted("direct"):
            tokens = drive(self._engine, self._graph, self.questions, self._concurrency)
        self.rates.setdefault("direct", []).append(tokens / (perf_counter() - began))

    def over_http(self, name: str) -> None:
        """Have the client ask all questions."""
        forget_prefixes(self._engine)
        with self._counted(name):
            found = ask(self._client, self._ways[name], self.questions, self._concurrency, trace=False)
        usages = [usage for answer in found["answers"] for usage in answer["neuromas"]["usage_by_node"].values()]
        tokens = sum(usage["completion_tokens"] for usage in usages)
        # The client times its own requests: what the order costs on its way there is not the endpoint's.
        self.rates.setdefault(name, []).append(tokens / found["seconds"])
        self.firsts.setdefault(name, []).extend(found["firsts"])

    def traced(self, name: str) -> None:
        """Have the client ask all questions and how long each call took."""
        forget_prefixes(self._engine)
        found = ask(self._client, self._ways[name], self.questions, self._concurrency, trace=True)
        self.latencies.setdefault(name, []).extend(found["latencies"])
        self.over_engine.setdefault(name, []).extend(
            latency / critical_path_s(answer["neuromas"]["trace"], self._graph.topology)
            for latency, answer in zip(found["latencies"], found["answers"], strict=True)
        )

    def run(self, questions: Sequence[str], seconds: float, turns: int) -> list[dict[str, Any]]:
        """Take turns of about so many seconds and return the rows of the table, one for each way."""
        self.questions = list(questions[: 4 * self._concurrency])
        began = perf_counter()
        self.direct()
        count = max(4 * self._concurrency, int(4 * self._concurrency * seconds / (perf_counter() - began)))
        self.questions = [questions[index % len(questions)] for index in range(count)]
        return [self._turns_of(name, turns) for name in self._ways]

    def _turns_of(self, name: str, turns: int) -> dict[str, Any]:
        """Have one way and direct driving take turns, then the way alone with traces."""
        alternatives: dict[str, Callable[[], None]] = {name: partial(self.over_http, name), "direct": self.direct}
        interleave(alternatives, 1, warmup=0)
        self.forget()
        interleave(alternatives, turns, warmup=0)
        interleave({name: partial(self.traced, name)}, turns, warmup=0)
        return self._row(name)

    def _row(self, name: str) -> dict[str, Any]:
        middle, low, high = ratio(self.rates[name], self.rates["direct"])
        return {
            "at a time": self._concurrency,
            "way": name,
            "answers": len(self.questions),
            "tokens/s": median(self.rates[name]),
            "direct tokens/s": median(self.rates["direct"]),
            "rate over direct": middle,
            "low": low,
            "high": high,
            "p50 ms": 1000 * median(self.latencies[name]),
            "p95 ms": 1000 * percentile_95(self.latencies[name]),
            "first p50 ms": 1000 * median(self.firsts[name]),
            "first p95 ms": 1000 * percentile_95(self.firsts[name]),
            "p50 over engine": median(self.over_engine[name]),
            "p95 over engine": percentile_95(self.over_engine[name]),
            "direct CPU ms": median(self.cpu_ms["direct", "endpoint"]),
            **{f"{who} CPU ms": median(self.cpu_ms[name, who]) for who in self._clocks},
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
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="ways over HTTP (default: all)")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=5, help="length of a turn, about (default: 5)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    engine = VllmEngine(BASE, SPEC, SLOTS, 1, TARGETS)
    server = GraphServer(lambda: engine)
    loras = {name: random_lora(1, seed) for seed, name in enumerate(GRAPH.adapters)}
    graph = server.put(ServableGraph("graph", GRAPH, loras, SAMPLING, make_renderer(PromptSpec(), BASE))).result()
    questions = [TASK.example("test", index).prompt for index in range(1024)]
    rows: list[dict[str, Any]] = []
    with endpoint(server) as port, TemporaryDirectory() as folder, served_api(Settings(data_dir=Path(folder))) as api:
        asyncio.run(add_endpoint(api.settings, f"http://127.0.0.1:{port}"))
        ports = (port, port, api.port, api.port)
        every = {name: Way(there, "streamed" in name) for name, there in zip(WAYS, ports, strict=True)}
        ways = {name: every[name] for name in arguments.ways}
        with ClientProcess("benchmarks.load_client") as client:
            for concurrency in arguments.concurrency:
                turns = Turns(engine, graph, client, api, ways, concurrency)
                rows += turns.run(questions, arguments.seconds, arguments.turns)
    server.close()
    title = f"an endpoint over the same engine driven directly ({len(GRAPH.nodes)} Nodes in {GRAPH.depth} layers)"
    report(title, rows, arguments.json)


if __name__ == "__main__":
    main()
