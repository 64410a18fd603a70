"""Several graphs behind HTTP on one real vLLM engine: every answer is the one that training's dataflow gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from served_app import served

from neuromas.adapters.families.lora.spec import LoraSpec
from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.base.linears import linear_shapes
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import Provenance
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import layered
from neuromas.topology.graph import Topology

pytestmark = pytest.mark.engine
TASK = ChainTask(hops=2)
GRAPHS = {"wide": layered([2, 2]), "small": layered([2])}
VERSIONS = 3
QUESTIONS = [TASK.example("test", index) for index in range(12)]
SAMPLING = SamplingSpec(max_tokens=6)
SLOTS = 24
WAIT_S = 120.0


def weights(base: Path, topology: Topology, version: int) -> dict[str, PlainLora]:
    """Random adapters, strong enough that versions answer differently."""
    loras = {}
    for place, name in enumerate(topology.adapters):
        rng = np.random.default_rng([version, place])
        modules = {
            shape.path: (
                rng.normal(0, 0.2, (2, shape.in_features)).astype(np.float32),
                rng.normal(0, 0.2, (shape.out_features, 2)).astype(np.float32),
            )
            for shape in linear_shapes(base, LoraSpec().targets)
        }
        loras[name] = PlainLora(2, modules)
    return loras


@dataclass
class World:
    """A server, its address and client, and what training's dataflow answers: graph -> version -> question -> text."""

    server: GraphServer
    url: str
    client: httpx.Client
    expected: dict[str, list[dict[str, str]]]
    base: Path

    def put(self, name: str, version: int) -> None:
        topology = GRAPHS[name]
        renderer = make_renderer(PromptSpec(), self.base)
        graph = ServableGraph(name, topology, weights(self.base, topology, version), SAMPLING, renderer, str(version))
        self.server.put(graph).result(WAIT_S)

    def ask(self, name: str, question: str, **settings: object) -> dict:
        body = {"model": name, "messages": [{"role": "user", "content": question}], **settings}
        response = self.client.post(f"{self.url}/v1/chat/completions", json=body)
        assert response.status_code == 200, response.text
        document: dict = response.json()
        return document


@pytest.fixture(scope="module")
def world(small_base: Path) -> Iterator[World]:
    from neuromas.engines.vllm import VllmEngine

    spec = EngineSpec(max_model_len=96, max_num_seqs=128, max_num_batched_tokens=1024, kv_cache_gib=0.1)
    engine = VllmEngine(small_base, spec, SLOTS, 2, LoraSpec().targets)
    renderer = make_renderer(PromptSpec(), small_base)
    expected: dict[str, list[dict[str, str]]] = {name: [] for name in GRAPHS}
    for name, topology in GRAPHS.items():
        for version in range(VERSIONS):
            loras = weights(small_base, topology, version)
            refs = {adapter: AdapterRef(adapter, version, f"training/{name}") for adapter in loras}
            engine.publish({refs[adapter]: lora for adapter, lora in loras.items()})
            where = Provenance("training", 0, 0)
            batch = RolloutBatch(topology, tuple(QUESTIONS), 1, refs, SAMPLING, True, 0, where)
            groups = Dataflow(engine, renderer).run(TASK, batch)
            expected[name].append({group.example.prompt: group.rollouts[0].answer for group in groups})
            engine.publish({}, retire=list(refs.values()))
    server = GraphServer(lambda: engine)
    with served(make_app(server)) as url, httpx.Client(timeout=WAIT_S) as client:
        made = World(server, url, client, expected, small_base)
        for name in GRAPHS:
            made.put(name, 0)
        yield made
    server.close()


def test_versions_answer_differently(world: World) -> None:
    for answers in world.expected.values():
        assert len({tuple(version.values()) for version in answers}) == VERSIONS


def test_answers_of_both_graphs_whole_and_streamed_are_those_of_training(world: World) -> None:
    client = openai.OpenAI(base_url=f"{world.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)

    def whole(name: str, question: str) -> str:
        return str(world.ask(name, question)["choices"][0]["message"]["content"])

    def streamed(name: str, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        stream = client.chat.completions.create(model=name, messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    versions = {name: int(graph.version) for name, graph in world.server.graphs.items()}
    with ThreadPoolExecutor(12) as pool:
        asked = [(ask, name, one.prompt) for one in QUESTIONS for name in GRAPHS for ask in (whole, streamed)]
        answers = list(pool.map(lambda order: order[0](*order[1:]), asked))
    assert answers == [world.expected[name][versions[name]][question] for _, name, question in asked]


def test_swapping_under_load_fails_nothing_and_every_answer_is_that_of_its_version(world: World) -> None:
    stop = threading.Event()

    def ask_on(place: int) -> list[tuple[str, str, str, set[str]]]:
        seen = []
        while not stop.is_set():
            name, question = list(GRAPHS)[place % 2], QUESTIONS[len(seen) % len(QUESTIONS)].prompt
            document = world.ask(name, question, neuromas={"trace": True})
            adapters = {entry["adapter"].rpartition("-v")[2] for entry in document["neuromas"]["trace"]}
            assert (
                document["choices"][0]["message"]["content"]
                == (world.expected[name][int(document["neuromas"]["version"])][question])
            )
            seen.append((name, document["neuromas"]["version"], document["system_fingerprint"], adapters))
        return seen

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask_on, place) for place in range(4)]
        for version in (1, 2, 0, 1, 2):
            for name in GRAPHS:
                answered = world.server.load.answered
                world.put(name, version)
                while world.server.load.answered < answered + 12 and not any(one.done() for one in clients):
                    stop.wait(0.01)
        stop.set()
        seen = [entry for one in clients for entry in one.result(WAIT_S)]
    assert {(name, version) for name, version, _, _ in seen} == {(name, str(v)) for name in GRAPHS for v in range(3)}
    for _, _, fingerprint, adapters in seen:
        assert adapters == {fingerprint.rpartition("@")[2]}


def test_a_cancelled_stream_leaves_vllm(world: World) -> None:
    cancelled = world.server.load.cancelled
    body = {
        "model": "wide",
        "messages": [{"role": "user", "content": QUESTIONS[0].prompt}],
        "stream": True,
        "temperature": 2.0,
        "max_tokens": 60,
    }
    while world.server.load.cancelled == cancelled:  # an answer may end by itself before its client has left
        with httpx.stream("POST", f"{world.url}/v1/chat/completions", json=body, timeout=WAIT_S) as response:
            assert response.status_code == 200
            next(response.iter_lines())
        pause = threading.Event()
        while world.server.load.running:
            pause.wait(0.01)
    assert world.ask("wide", QUESTIONS[0].prompt)["usage"]["total_tokens"] > 0
