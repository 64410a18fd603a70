"""A trained graph behind HTTP: a real run, a real server, the answers of the evaluation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from served_app import served

from neuromas.checkpoints.trained import find_trained
from neuromas.rollout.client import LocalRolloutClient, Ticket
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.record import Group
from neuromas.run.outcome import RunResult
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.serving.app import make_app
from neuromas.serving.endpoint import load_graph, open_server
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.question import Question
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task
from neuromas.training.evaluate import EvaluationRequest
from neuromas.training.learner import Learner

WAIT_S = 60.0


@pytest.fixture(scope="module")
def server(trained_run: RunResult) -> Iterator[GraphServer]:
    server = open_server(find_trained(trained_run.folder), "graph")
    yield server
    server.close()


@pytest.fixture(scope="module")
def url(server: GraphServer) -> Iterator[str]:
    with served(make_app(server)) as url:
        yield url


def question(index: int) -> str:
    return make_task(parse_run_spec(SPEC).task, 0).example("test", index).prompt


SPEC = {"topology": {"chain": 1}, "task": {"type": "chain", "hops": 2}}


def ask(url: str, text: str, **settings: object) -> httpx.Response:
    body = {"model": "graph", "messages": [{"role": "user", "content": text}], **settings}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=WAIT_S)


def test_an_answer_has_openais_shape_and_the_usage_of_every_node(url: str) -> None:
    response = ask(url, question(0))
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "graph"
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    by_node = body["neuromas"]["usage_by_node"]
    assert set(by_node) == {"a", "b", "out"}
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert body["usage"][key] == sum(usage[key] for usage in by_node.values())
    hidden = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert hidden == by_node["a"]["completion_tokens"] + by_node["b"]["completion_tokens"]
    assert "trace" not in body["neuromas"]


def test_the_trace_holds_every_message_and_the_answer_is_the_outputs(url: str) -> None:
    body = ask(url, question(1), neuromas={"trace": True}).json()
    trace = body["neuromas"]["trace"]
    assert [(entry["node"], entry["layer"], entry["reads"]) for entry in trace] == [
        ("a", 1, []),
        ("b", 1, []),
        ("out", 2, ["a", "b"]),
    ]
    assert trace[-1]["content"] == body["choices"][0]["message"]["content"]
    assert trace[0]["adapter"] == "graph/a-v0"
    assert body["system_fingerprint"] == "graph@0"


class KeepingClient(LocalRolloutClient):
    """Keeps the groups that it collected last."""

    groups: list[Group]

    def collect(self, ticket: Ticket) -> list[Group]:
        self.groups = super().collect(ticket)
        return self.groups


def test_served_answers_are_those_of_the_greedy_evaluation(url: str, trained_run: RunResult, tmp_path: Path) -> None:
    trained = find_trained(trained_run.folder)
    spec = trained.as_run()
    client = KeepingClient(worker_setup(spec, check_run(spec, find_trained)).make())
    learner = Learner(spec, tmp_path, client, lambda event: None)
    learner.evaluate(EvaluationRequest(trained.checkpoint, None, 12, "test"))
    client.close()
    evaluated = {group.example.prompt: group.rollouts[0].answer for group in client.groups}
    assert len(set(evaluated.values())) > 1
    with ThreadPoolExecutor(6) as pool:
        bodies = list(pool.map(lambda text: ask(url, text).json(), evaluated))
    assert [body["choices"][0]["message"]["content"] for body in bodies] == list(evaluated.values())


def test_requests_that_wait_together_run_in_one_batch(server: GraphServer, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, may_go = [], threading.Event()
    advance = Dataflow.advance

    def counted(self: Dataflow) -> list:
        assert may_go.wait(WAIT_S)
        steps.append(1)
        return advance(self)

    monkeypatch.setattr(Dataflow, "advance", counted)
    may_go.set()
    server.ask(Question("graph", question(0))).result(WAIT_S)
    one = len(steps)
    steps.clear()
    may_go.clear()
    futures = [server.ask(Question("graph", question(index))) for index in range(16)]
    may_go.set()
    for future in futures:
        future.result(WAIT_S)
    assert len(steps) < 8 * one


def test_the_same_seed_samples_the_same_answer(url: str) -> None:
    bodies = [
        ask(url, question(2), temperature=1.0, seed=seed, neuromas={"trace": True}).json()["neuromas"]
        for seed in (1, 1, 2)
    ]
    texts = [[entry["content"] for entry in body["trace"]] for body in bodies]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]
    assert [body["seed"] for body in bodies] == [1, 1, 2]


def test_a_sampled_answer_can_be_repeated_with_the_seed_it_names(url: str) -> None:
    first = ask(url, question(2), temperature=1.0, neuromas={"trace": True}).json()["neuromas"]
    again = ask(url, question(2), temperature=1.0, seed=first["seed"], neuromas={"trace": True}).json()["neuromas"]
    assert [entry["content"] for entry in first["trace"]] == [entry["content"] for entry in again["trace"]]


def test_a_stream_spells_the_answer_and_ends_with_its_usage(url: str) -> None:
    expected = ask(url, question(3)).json()
    response = ask(url, question(3), stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    first, *pieces, end, usage = (json.loads(line) for line in lines[:-1])
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert (
        "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
        == (expected["choices"][0]["message"]["content"])
    )
    assert end["choices"][0]["finish_reason"] == expected["choices"][0]["finish_reason"]
    assert end["neuromas"]["usage_by_node"] == expected["neuromas"]["usage_by_node"]
    assert (usage["choices"], usage["usage"]) == ([], expected["usage"])
    assert {chunk["id"] for chunk in (first, *pieces, end, usage)} == {first["id"]}
    assert all(chunk["usage"] is None for chunk in (first, *pieces, end))


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "other", "messages": [{"role": "user", "content": "x"}]}, 404, "model"),
        ({"model": "graph", "messages": []}, 400, "messages"),
        ({"model": "graph"}, 400, "messages"),
        ({"model": "graph", "messages": [{"role": "user", "content": "x"}], "tools": [{}]}, 400, "tools"),
        ({"model": "graph", "messages": [{"role": "user", "content": "x"}], "temperature": -1}, 400, "temperature"),
        ({"model": "graph", "messages": [{"role": "user", "content": "7 " * 500}]}, 400, "messages"),
        (
            {"model": "graph", "messages": [{"role": "user", "content": "7 " * 500}], "stream": True},
            400,
            "messages",
        ),
        (
            {"model": "graph", "messages": [{"role": "user", "content": "x"}], "stream_options": {}},
            400,
            "stream_options",
        ),
    ],
)
def test_errors_have_openais_shape(url: str, body: dict, status: int, param: str) -> None:
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=WAIT_S)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


@pytest.mark.parametrize(
    "settings",
    [{"top_p": 1e-46}, {"temperature": 1e-45}, {"temperature": 0.0099}, {"top_p": 0.0009}, {"max_tokens": 10**30}],
)
def test_sampling_that_no_engine_can_do_is_refused_and_harms_nobody(url: str, settings: dict) -> None:
    refused = ask(url, question(0), **settings)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == next(iter(settings))
    assert ask(url, question(0), temperature=0.01, top_p=0.001, max_tokens=2**31 - 1).status_code == 200


def test_a_call_that_no_engine_can_do_fails_alone(server: GraphServer) -> None:
    """What gets past the door is refused by the engine, for that call only."""
    cold = server.ask(Question("graph", question(0), temperature=1e-45))
    well = server.ask(Question("graph", question(0), temperature=1.0, seed=3))
    assert "sampling settings out of range" in str(cold.result(WAIT_S).rollout.failure)
    assert well.result(WAIT_S).rollout.failure is None


def test_a_question_that_no_tokenizer_reads_fails_alone(server: GraphServer) -> None:
    """The HTTP door refuses it; other callers of the server reach the engine's thread with it."""
    broken = server.ask(Question("graph", "find \ud800"))
    well = server.ask(Question("graph", question(0)))
    assert str(broken.result(WAIT_S).rollout.failure).startswith("node 'a': its prompt cannot be written: TypeError")
    assert well.result(WAIT_S).rollout.failure is None
    assert server.is_alive


@pytest.mark.parametrize("text", ["x" * 4_000_000, "0: 5 " * 800_000, " " * 4_000_000, "0: 5 " * 60])
def test_a_question_beyond_the_context_is_told_so_and_not_read_in_the_engines_thread(
    url: str, server: GraphServer, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = server.graphs["graph"].renderer
    rendered = []
    render = renderer.render
    monkeypatch.setattr(renderer, "render", lambda *given, **more: rendered.append(given) or render(*given, **more))
    answer = ask(url, text)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (
        "context_length_exceeded",
        "messages",
        "invalid_request_error",
    )
    assert not rendered or len(text) < 1000


def test_models_and_health(url: str) -> None:
    with httpx.Client(base_url=url, timeout=WAIT_S) as client:
        (model,) = client.get("/v1/models").json()["data"]
        assert (model["id"], model["object"], model["owned_by"]) == ("graph", "model", "neuromas")
        assert client.get("/v1/models/graph").json() == model
        assert client.get("/v1/models/other").json()["error"]["code"] == "model_not_found"
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_newer_checkpoint_takes_over_while_the_server_runs(trained_run: RunResult) -> None:
    trained = find_trained(trained_run.folder)
    (earlier, *_) = sorted(trained.checkpoint.parent.glob("*/manifest.json"))
    server = open_server(find_trained(earlier.parent), "graph")
    with served(make_app(server)) as url:
        before = ask(url, question(0)).json()
        server.put(load_graph(trained, "graph", "newest")).result(WAIT_S)
        after = ask(url, question(0)).json()
    server.close()
    assert (before["system_fingerprint"], after["system_fingerprint"]) == ("graph@0", "graph@1")
    assert after["neuromas"]["version"] == "newest"
