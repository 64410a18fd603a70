"""The endpoint over real connections: streams, clients that leave, deadlines, full queues, swaps, stock clients.

The engine is the scripted one, so that a test decides what is under way; real models answer in test_serve*.py.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from served_graph import STEPS, WAIT_S, World, body, world
from waiting import until

from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.renderer import Renderer
from neuromas.serving import graph_server
from neuromas.serving.ask_route import MAX_BODY_BYTES
from neuromas.serving.load import ServerLimits
from neuromas.spec.parts import PromptSpec


@pytest.fixture(scope="module")
def renderer(word_base: Path) -> Renderer:
    return make_renderer(PromptSpec(), word_base)


@pytest.fixture(scope="module")
def shared(renderer: Renderer) -> Iterator[World]:
    """A world whose engine runs freely, for tests that leave it as it was."""
    with world(renderer) as made:
        yield made


@pytest.fixture(scope="module")
def client(shared: World) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{shared.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)


def test_pieces_come_while_the_answer_is_being_sampled(renderer: Renderer) -> None:
    with world(renderer) as made, httpx.Client(timeout=WAIT_S) as http:
        made.engine.is_free = False
        made.engine.allowed.release(STEPS + 4)
        with http.stream("POST", f"{made.url}/v1/chat/completions", json=body(stream=True)) as response:
            events = (line.removeprefix("data: ") for line in response.iter_lines() if line)
            first, piece = json.loads(next(events)), json.loads(next(events))
            assert first["choices"][0]["delta"]["role"] == "assistant"
            assert piece["choices"][0]["delta"]["content"].startswith("0")
            assert made.server.load.answered == 0
            made.engine.let_go()
            rest = list(events)
    assert rest[-1] == "[DONE]"
    assert made.server.load.answered == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_takes_its_calls_out_of_the_engine(renderer: Renderer, stream: bool) -> None:
    with world(renderer) as made:
        made.engine.is_free = False
        made.engine._delay = lambda call: STEPS if call.id == "0.n1" and stream else 1000 * STEPS
        made.engine.allowed.release(STEPS + 200 * STEPS)
        payload = json.dumps(body(stream=stream)).encode()
        address = urlsplit(made.url)
        with socket.create_connection((address.hostname, address.port), WAIT_S) as connection:
            head = (
                "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                f"content-length: {len(payload)}\r\n\r\n"
            )
            connection.sendall(head.encode() + payload)
            if stream:
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            until(lambda: made.server.load.running == 1)
        until(lambda: made.engine.allowed.release() or made.server.load.running == 0)
        assert made.engine.aborted == ["0.n2" if stream else "0.n1"]
        assert not made.engine.has_unfinished()
        made.engine.let_go()
        made.engine._delay = lambda call: STEPS
        assert made.ask().status_code == 200


def test_a_deadline_is_a_504_that_clients_do_not_repeat(renderer: Renderer) -> None:
    with world(renderer) as made:
        made.engine.is_free = False
        ticking = threading.Event()

        def tick() -> None:
            while not ticking.wait(0.01):
                made.engine.allowed.release()
                if made.server.load.cancelled:
                    return

        made.engine._delay = lambda call: 10**9
        clock = threading.Thread(target=tick)
        clock.start()
        response = made.ask(neuromas={"deadline_s": 0.1})
        ticking.set()
        clock.join()
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (504, "timeout_error", "deadline_exceeded")
    assert response.headers["x-should-retry"] == "false"
    assert "0.1 s" in error["message"]


def test_a_deadline_inside_a_stream_is_an_error_the_client_raises(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world(renderer, ServerLimits(deadline_s=600)) as made:
        made.engine.is_free = False
        made.engine.allowed.release(STEPS + 4)
        client = openai.OpenAI(base_url=f"{made.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)
        stream = client.chat.completions.create(**body(stream=True))
        assert next(stream).choices[0].delta.role == "assistant"
        monkeypatch.setattr(graph_server, "monotonic", lambda: monotonic() + 600)
        made.engine.allowed.release(1)
        with pytest.raises(openai.APIError, match="no answer within 600 s"):
            list(stream)


def test_a_full_server_answers_429_and_when_to_come_back(renderer: Renderer) -> None:
    with world(renderer, ServerLimits(max_running=1, max_waiting=1)) as made, ThreadPoolExecutor(2) as pool:
        made.engine.is_free = False
        answers = [pool.submit(made.ask) for _ in range(2)]
        until(lambda: made.server.load.running + made.server.load.waiting == 2)
        refused = made.ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        with pytest.raises(openai.RateLimitError):
            openai.OpenAI(base_url=f"{made.url}/v1", api_key="x", max_retries=0).chat.completions.create(**body())
        made.engine.let_go()
        assert [answer.result().status_code for answer in answers] == [200, 200]


def test_swapping_all_the_time_fails_no_request_and_mixes_no_versions(renderer: Renderer) -> None:
    swaps, seen, is_over = 8, [], threading.Event()
    with world(renderer) as made, ThreadPoolExecutor(6) as pool:

        def client() -> None:
            while not is_over.is_set():
                response = made.ask(neuromas={"trace": True}, stream=False, temperature=0)
                assert response.status_code == 200, response.text
                document = response.json()
                trace = document["neuromas"]["trace"]
                versions = {entry["adapter"].rpartition("-v")[2] for entry in trace}
                seen.append((document["system_fingerprint"], versions, document["choices"][0]["message"]["content"]))

        clients = [pool.submit(client) for _ in range(6)]
        try:
            for swap in range(1, swaps + 1):
                made.put()
                until(lambda newest=f"g@{swap}": newest in {fingerprint for fingerprint, _, _ in [*seen]})
        finally:
            is_over.set()
        for one in clients:
            one.result()
    for fingerprint, versions, answer in seen:
        generation = fingerprint.removeprefix("g@")
        assert versions == {generation}
        assert answer == f"{int(generation) % 10} so 1 2 3"


def test_a_server_that_shuts_down_finishes_its_streams_and_refuses_new_requests(renderer: Renderer) -> None:
    with world(renderer) as made, ThreadPoolExecutor(2) as pool:
        made.engine.is_free = False
        answer = pool.submit(made.ask)
        until(lambda: made.server.load.running == 1)
        closing = pool.submit(made.server.close, WAIT_S)
        until(lambda: not made.server.is_alive)
        refused = made.ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopped")
        assert made.client.get(f"{made.url}/healthz").status_code == 503
        made.engine.let_go()
        assert answer.result().status_code == 200
        closing.result(WAIT_S)


def test_several_graphs_are_models_of_one_server(renderer: Renderer) -> None:
    with world(renderer) as made:
        made.put("h", version="v7")
        models = {
            model["id"]: model["neuromas"]["version"]
            for model in made.client.get(f"{made.url}/v1/models").json()["data"]
        }
        assert models == {"g": "", "h": "v7"}
        assert made.ask(model="h").json()["system_fingerprint"] == "h@0"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, None),
        (b"", 400, None),
        (b"[]", 400, None),
        (b'{"model": "g", "messages": [{"role": "user", "content": "\\ud83d"}]}', 400, None),
        (b" " * (MAX_BODY_BYTES + 1), 413, None),
        (json.dumps(body(model="other")).encode(), 404, "model_not_found"),
    ],
)
def test_bad_bodies_are_refused_in_openais_shape(shared: World, content: bytes, status: int, code: str | None) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{shared.url}/v1/chat/completions", content=content, headers=headers, timeout=WAIT_S)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


def test_the_openai_client_asks_streams_and_lists(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**body(max_tokens=3, temperature=0, user="me", stop=None, n=1))
    assert answer.choices[0].message.content == "0 so 1"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 6
    chunks = list(client.chat.completions.create(**body(stream=True, stream_options={"include_usage": True})))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "0 so 1 2 3"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 2) + ["stop"]
    assert chunks[-1].usage == client.chat.completions.create(**body()).usage
    assert [model.id for model in client.models.list()] == ["g"]
    assert client.models.retrieve("g").owned_by == "neuromas"


def test_the_openai_clients_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="g", messages=[{"role": "user", "content": "find"}]) as stream:
        completion = stream.get_final_completion()
    assert completion.choices[0].message.content == "0 so 1 2 3"


def test_the_openai_client_raises_its_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**body(model="other"))
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**body(logprobs=True, top_logprobs=6))
    assert refused.value.param == "top_logprobs"


def test_stop_texts_end_the_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**body(stop=["2", "9"]))
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("0 so 1 ", "stop")
    stream = client.chat.completions.create(**body(stop="2", stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "0 so 1 "


def test_extra_fields_reach_the_caller_of_the_openai_client(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**body(), extra_body={"neuromas": {"trace": True}})
    trace = answer.model_extra["neuromas"]["trace"] if answer.model_extra else []
    assert [(entry["node"], entry["adapter"]) for entry in trace] == [("n1", "g/n1-v0"), ("n2", "g/n2-v0")]


def test_langchain_asks_and_streams(shared: World) -> None:
    model = ChatOpenAI(model="g", base_url=f"{shared.url}/v1", api_key="none", max_retries=0, timeout=WAIT_S)
    assert model.invoke("find").content == "0 so 1 2 3"
    settled = ChatOpenAI(
        model="g",
        base_url=f"{shared.url}/v1",
        api_key="none",
        temperature=0.5,
        seed=3,
        max_completion_tokens=2,
        stop_sequences=["x"],
        stream_usage=True,
    )
    assert settled.invoke([("system", "be brief"), ("human", "find")]).content == "0 so"
    chunks = list(settled.stream("find"))
    assert "".join(str(chunk.content) for chunk in chunks) == "0 so"
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_token_details"]["reasoning"] == 6
