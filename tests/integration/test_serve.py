"""A trained graph behind HTTP: a real server, a real client, the answers of the dataflow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from neuromas.rollout.dataflow import Dataflow
from neuromas.run import RunResult, run
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task
from neuromas.trained import find_trained

uvicorn = pytest.importorskip("uvicorn")


@pytest.fixture(scope="module")
def trained_run(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    spec = parse_run_spec(
        {
            "name": "served",
            "base": str(small_base),
            "topology": {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "out"}], "edges": [["a", "out"], ["b", "out"]]},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 1, "prompts_per_step": 2, "group_size": 2},
            "evaluation": {"examples": 8},
            "engine": {"type": "transformers"},
            "runtime": {"type": "local"},
        }
    )
    return run(spec, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def url(trained_run: RunResult) -> Iterator[str]:
    from neuromas.endpoint import open_server
    from neuromas.serving.app import make_app

    graph_server = open_server(find_trained(trained_run.folder), "graph")
    server = uvicorn.Server(uvicorn.Config(make_app(graph_server), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()
    graph_server.close()


def question(index: int) -> str:
    return make_task(parse_run_spec(SPEC).task, 0).example("test", index).prompt


SPEC = {"topology": {"chain": 1}, "task": {"type": "chain", "hops": 2}}


def ask(url: str, text: str, **settings: object) -> httpx.Response:
    body = {"model": "graph", "messages": [{"role": "user", "content": text}], **settings}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


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


def test_a_served_answer_is_what_training_would_have_seen(url: str, trained_run: RunResult) -> None:
    from neuromas.endpoint import open_server
    from neuromas.serving.graph_server import Question

    direct = open_server(find_trained(trained_run.folder), "graph")
    texts = [question(index) for index in range(6)]
    expected = [direct.submit(Question(text)).result(timeout=60).answer for text in texts]
    direct.close()
    with ThreadPoolExecutor(6) as pool:
        bodies = list(pool.map(lambda text: ask(url, text).json(), texts))
    assert [body["choices"][0]["message"]["content"] for body in bodies] == expected


def test_requests_that_wait_together_run_in_one_batch(trained_run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuromas.endpoint import open_server
    from neuromas.serving.graph_server import Question

    steps = []
    advance = Dataflow.advance

    def counted(self: Dataflow) -> list:
        steps.append(1)
        return advance(self)

    monkeypatch.setattr(Dataflow, "advance", counted)
    server = open_server(find_trained(trained_run.folder), "graph")
    alone = server.submit(Question(question(0)))
    alone.result(timeout=60)
    one = len(steps)
    steps.clear()
    futures = [server.submit(Question(question(index))) for index in range(16)]
    for future in futures:
        future.result(timeout=60)
    server.close()
    assert len(steps) < 8 * one


def test_the_same_seed_samples_the_same_answer(url: str) -> None:
    answers = [
        ask(url, question(2), temperature=1.0, seed=seed, neuromas={"trace": True}).json()["neuromas"]["trace"]
        for seed in (1, 1, 2)
    ]
    texts = [[entry["content"] for entry in trace] for trace in answers]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_stream_ends_with_done_and_spells_the_answer(url: str) -> None:
    expected = ask(url, question(3)).json()["choices"][0]["message"]["content"]
    response = ask(url, question(3), stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": expected}
    assert chunks[1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert chunks[2]["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"model": "other", "messages": [{"role": "user", "content": "x"}]}, 404, "model"),
        ({"model": "graph", "messages": []}, 400, "messages"),
        ({"model": "graph"}, 400, "messages"),
        ({"model": "graph", "messages": [{"role": "user", "content": "x"}], "tools": []}, 400, "tools"),
        ({"model": "graph", "messages": [{"role": "user", "content": "x"}], "temperature": -1}, 400, "temperature"),
        ({"model": "graph", "messages": [{"role": "user", "content": "7 " * 500}]}, 400, "messages"),
    ],
)
def test_errors_have_openais_shape(url: str, body: dict, status: int, param: str) -> None:
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]


def test_models_and_health(url: str) -> None:
    assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "graph"
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
