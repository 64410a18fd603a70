"""Chat completions and endpoints over HTTP: a real graph server behind the API, asked by OpenAI's own client."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from api_server import ApiServer, checkpoint_of, error_of, events_of, queued_run, running_api, settings_over
from graph_upstream import Upstream, upstream
from served_graph import STEPS, world
from waiting import until

from neuromas.rollout.renderer import Renderer
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.store.base import Document

QUESTION = [{"role": "user", "content": "f 1 2"}]


@pytest.fixture(scope="module")
def graph(word_base: Path) -> Iterator[Upstream]:
    with upstream(word_base, "solver", "other") as found:
        yield found


@pytest.fixture
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over("sqlite", request, tmp_path, serving_max_replicas=3)) as server:
        yield server


def deployed(api: ApiServer, name: str, url: str, **changes: Any) -> Document:
    """Deploy an endpoint and bring it to where the supervisor would."""
    run = queued_run(api)
    checkpoint = checkpoint_of(api, run, 3, 0.5)
    endpoint = api.client.post("/v1/endpoints", json={"name": name, "checkpoint": checkpoint["id"]}).json()
    return api.change(EndpointRecord, endpoint["id"], **({"state": EndpointState.READY, "url": url} | changes))


def client(api: ApiServer) -> openai.OpenAI:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, http_client=http_client)


def test_the_stock_client_asks_and_lists(api: ApiServer, graph: Upstream) -> None:
    deployed(api, "solver", graph.url)
    with client(api) as stock:
        assert [model.id for model in stock.models.list()] == ["solver"]
        assert stock.models.retrieve("solver").object == "model"
        answer = stock.chat.completions.create(model="solver", messages=QUESTION, seed=3)  # type: ignore[arg-type]
    direct = httpx.post(
        f"{graph.url}/v1/chat/completions",
        json={"model": "solver", "messages": QUESTION, "seed": 3},
        timeout=60,
        trust_env=False,
    ).json()
    assert answer.choices[0].message.content == direct["choices"][0]["message"]["content"] != ""
    assert answer.usage is not None
    assert answer.usage.total_tokens == direct["usage"]["total_tokens"] > 0
    assert answer.model == "solver"


def test_the_stock_client_streams(api: ApiServer, graph: Upstream) -> None:
    deployed(api, "solver", f"{graph.url}/v1")
    with client(api) as stock:
        whole = stock.chat.completions.create(model="solver", messages=QUESTION)  # type: ignore[arg-type]
        chunks = list(
            stock.chat.completions.create(
                model="solver",
                messages=QUESTION,
                stream=True,
                stream_options={"include_usage": True},  # type: ignore[arg-type]
            )
        )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    text = api.client.get("/metrics").text
    assert 'neuromas_endpoint_seconds_count{endpoint="solver"} 2.0' in text
    assert 'neuromas_endpoint_tokens_total{endpoint="solver",kind="completion_tokens"}' in text


def test_pieces_pass_through_while_the_answer_is_being_sampled(api: ApiServer, renderer: Renderer) -> None:
    with world(renderer) as made, client(api) as stock:
        deployed(api, "g", made.url)
        made.engine.is_free = False
        made.engine.allowed.release(STEPS + 4)  # of twice STEPS
        stream = stock.chat.completions.create(model="g", messages=QUESTION, stream=True)  # type: ignore[arg-type]
        texts = [next(stream).choices[0].delta.content for _ in range(2)]
        assert made.server.load.answered == 0
        made.engine.let_go()
        texts += [chunk.choices[0].delta.content for chunk in stream]
    assert texts[1]
    assert "".join(text or "" for text in texts) == "0 so 1 2 3"


def test_the_stock_client_completes_texts_and_gets_responses(api: ApiServer, graph: Upstream) -> None:
    deployed(api, "solver", graph.url)
    with client(api) as stock:
        chat = stock.chat.completions.create(model="solver", messages=QUESTION, logprobs=True)  # type: ignore[arg-type]
        text = chat.choices[0].message.content
        older = stock.completions.create(model="solver", prompt="f 1 2", logprobs=0)
        assert older.choices[0].text == text
        assert older.usage == chat.usage
        assert chat.choices[0].logprobs is not None
        assert chat.choices[0].logprobs.content is not None
        assert older.choices[0].logprobs is not None
        assert older.choices[0].logprobs.tokens == [token.token for token in chat.choices[0].logprobs.content] != []
        pieces = stock.completions.create(model="solver", prompt="f 1 2", stream=True)
        assert "".join(piece.choices[0].text for piece in pieces) == text
        response = stock.responses.create(model="solver", input="f 1 2")
        assert response.output_text == text
        assert response.usage is not None
        assert chat.usage is not None
        assert response.usage.total_tokens == chat.usage.total_tokens
        with stock.responses.stream(model="solver", input=QUESTION) as stream:  # type: ignore[arg-type]
            assert stream.get_final_response().output_text == text
        samples = stock.chat.completions.create(model="solver", messages=QUESTION, n=3)  # type: ignore[arg-type]
        assert [choice.index for choice in samples.choices] == [0, 1, 2]
    metrics = api.client.get("/metrics").text
    assert 'neuromas_endpoint_seconds_count{endpoint="solver"} 6.0' in metrics
    counted = (
        'neuromas_endpoint_tokens_total{endpoint="solver",kind="prompt_tokens"} ' + f"{7 * chat.usage.prompt_tokens}.0"
    )
    assert counted in metrics, "all but the stream without usage are counted, three samples three times"


@pytest.mark.parametrize(
    ("path", "question"),
    [
        ("/v1/chat/completions", {"messages": QUESTION}),
        ("/v1/completions", {"prompt": "f 1 2"}),
        ("/v1/responses", {"input": "f 1 2"}),
    ],
)
def test_every_answer_is_as_the_openapi_document_says(
    api: ApiServer, graph: Upstream, path: str, question: dict[str, Any]
) -> None:
    endpoint = deployed(api, "solver", graph.url)
    document = api.client.get("/openapi.json").json()
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    model = f"neuromas:{endpoint['run']}@best"
    more = {"include": ["message.output_text.logprobs"]} if "input" in question else {"logprobs": path.count("chat")}
    body = {"model": model, "neuromas": {"trace": True}, **question, **more}
    answer = api.client.post(path, json=body)
    assert (answer.status_code, answer.json()["model"]) == (200, model), answer.text
    schema = {**content["application/json"]["schema"], "components": document["components"]}
    jsonschema.validate(answer.json(), schema, cls=jsonschema.Draft202012Validator)
    stream = api.client.post(path, json=body | {"stream": True})
    names = [line.removeprefix("event: ") for line in stream.text.splitlines() if line.startswith("event: ")]
    events = events_of(stream.text.replace("data: [DONE]", ""))
    known = {
        item["properties"]["event"]["const"]: item["properties"]["data"]["contentSchema"]
        for item in content["text/event-stream"]["itemSchema"]["anyOf"]
        if "event" in item["properties"]
    }
    for name, event in zip(names or ["message"] * len(events), events, strict=True):
        jsonschema.validate(event, {**known[name], "components": document["components"]})
    assert {event.get("response", event).get("model", model) for event in events} == {model}


def test_a_checkpoint_can_be_asked_for_by_its_run(api: ApiServer, graph: Upstream) -> None:
    endpoint = deployed(api, "solver", graph.url)
    run = endpoint["run"]
    other = checkpoint_of(api, api.client.get(f"/v1/runs/{run}").json(), 9, 0.1)
    body = {"messages": QUESTION, "seed": 1}
    for model in (
        f"neuromas:{run}@best",
        f"neuromas:{run}@{endpoint['checkpoint']}",
        f"neuromas:{endpoint['checkpoint']}",
    ):
        answer = api.client.post("/v1/chat/completions", json=body | {"model": model})
        assert (answer.status_code, answer.json()["model"]) == (200, model)
        stream = api.client.post("/v1/chat/completions", json=body | {"model": model, "stream": True}).text
        chunks = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
        assert {chunk["model"] for chunk in chunks} == {model}
        assert stream.rstrip().endswith("data: [DONE]")
    for model in (f"neuromas:{run}@latest", f"neuromas:{other['id']}", "neuromas:run_x@best", "neuromas:", "nothing"):
        answer = api.client.post("/v1/chat/completions", json=body | {"model": model})
        assert (answer.status_code, error_of(answer)["param"]) == (404, "model"), model


def test_an_endpoint_that_does_not_answer_is_told_as_such(api: ApiServer, graph: Upstream) -> None:
    endpoint = deployed(api, "solver", "http://127.0.0.1:1", state=EndpointState.DEPLOYING)
    body = {"model": "solver", "messages": QUESTION}

    def ask() -> httpx.Response:
        return api.client.post("/v1/chat/completions", json=body)

    assert (ask().status_code, error_of(ask())["code"]) == (503, "endpoint_deploying")
    assert "retry-after" in ask().headers
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.READY)
    assert (ask().status_code, error_of(ask())["code"]) == (503, "endpoint_unavailable")
    api.change(EndpointRecord, endpoint["id"], url=f"{graph.url}/nowhere")
    # Whoever has the address does not know the route: a proxy says so while no replica is there.
    assert (ask().status_code, error_of(ask())["code"]) == (503, "endpoint_unavailable")
    stored = api.store(lambda store: store.get(EndpointRecord, endpoint["id"]))
    api.put(stored.model_copy(update={"url": graph.url, "name": "gone"}))
    body["model"] = "gone"
    assert (ask().status_code, error_of(ask())["param"]) == (404, "model")
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.STOPPED)
    assert (ask().status_code, error_of(ask())["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"messages": []}, 422),
        ({"foo": 1}, 422),
        ({"temperature": 9}, 422),
        ({"messages": [{"role": "user", "content": "x " * 500}]}, 400),
        ({"stream_options": {"include_usage": True}}, 422),
        ({"n": 17}, 422),
        ({"logprobs": True, "top_logprobs": 6}, 422),
        ({"top_logprobs": 1}, 422),
    ],
)
def test_questions_that_cannot_be_answered(
    api: ApiServer, graph: Upstream, change: dict[str, Any], status: int
) -> None:
    deployed(api, "solver", graph.url)
    answer = api.client.post("/v1/chat/completions", json={"model": "solver", "messages": QUESTION} | change)
    assert answer.status_code == status, answer.text
    assert error_of(answer)["message"]
    assert error_of(answer)["code"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_question_in_the_engine(api: ApiServer, word_base: Path, stream: bool) -> None:
    with upstream(word_base, "slow", delay=lambda _: 10**6) as slow:
        deployed(api, "slow", slow.url)
        body = json.dumps({"model": "slow", "messages": QUESTION, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", httpx.URL(api.url).port), timeout=60) as connection:
            head = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}".encode() + body)
            until(lambda: slow.server.load.running == 1)
        until(lambda: slow.server.load.cancelled == 1)


def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_it(api: ApiServer, word_base: Path) -> None:
    # Only the output node streams; its prompt is longer by what it reads. Its first word comes after a fifth of this.
    with upstream(word_base, "slow", delay=lambda call: 8000 if call.is_streamed else 2) as slow:
        deployed(api, "slow", slow.url)
        body = {"model": "slow", "messages": QUESTION, "stream": True}
        with httpx.stream("POST", f"{api.url}/v1/chat/completions", json=body, timeout=60, trust_env=False) as answer:
            lines = answer.iter_lines()  # whoever lets go of it lets go of the connection
            assert next(lines).startswith("data: ")
            until(lambda: slow.server.load.running == 1)
        until(lambda: slow.server.load.cancelled == 1)


def test_an_endpoint_is_deployed_swapped_and_stopped(api: ApiServer) -> None:
    run = queued_run(api)
    first, second = checkpoint_of(api, run, 3, 0.5), checkpoint_of(api, run, 5, 0.7)
    body = {"name": "solver", "checkpoint": first["id"]}
    answer = api.client.post("/v1/endpoints", json=body)
    endpoint = answer.json()
    assert (answer.status_code, endpoint["state"], endpoint["generation"], endpoint["replicas"]) == (
        202,
        "deploying",
        1,
        1,
    )
    again = api.client.post("/v1/endpoints", json=body)
    assert (again.status_code, again.json()) == (200, endpoint)
    taken = api.client.post("/v1/endpoints", json=body | {"checkpoint": second["id"]})
    assert (taken.status_code, error_of(taken)["code"]) == (409, "name_taken")
    path = f"/v1/endpoints/{endpoint['id']}"
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.READY, url="/engine")
    swapped = api.client.patch(path, json={"checkpoint": f"{run['id']}@best", "max_replicas": 2}).json()
    assert (swapped["checkpoint"], swapped["generation"], swapped["state"]) == (second["id"], 2, "ready")
    assert (swapped["replicas"], swapped["max_replicas"]) == (1, 2)
    assert api.client.patch(path, json={"checkpoint": second["id"]}).json() == swapped
    assert api.client.get("/v1/endpoints/solver").json() == swapped
    assert api.client.get("/v1/endpoints", params={"checkpoint": second["id"]}).json()["data"] == [swapped]
    assert api.client.delete(path).json()["wanted"] == "stop"
    assert api.client.delete(path).status_code == 200
    assert api.client.patch(path, json={"replicas": 2}).status_code == 409
    assert api.client.post("/v1/endpoints", json=body).status_code == 409
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.STOPPED)
    revived = api.client.post("/v1/endpoints", json=body)
    assert (revived.status_code, revived.json()["id"]) == (202, endpoint["id"])
    assert (revived.json()["generation"], revived.json()["state"], revived.json()["wanted"]) == (3, "deploying", "run")


@pytest.mark.parametrize(
    ("change", "status", "path"),
    [
        ({"name": "../x"}, 422, "name"),
        ({"name": "A"}, 422, "name"),
        ({"replicas": 0}, 422, "replicas"),
        ({"replicas": 4}, 422, "replicas"),
        ({"replicas": 3, "max_replicas": 2}, 422, "max_replicas"),
        ({"checkpoint": "ckpt_x"}, 404, "checkpoint"),
        ({"checkpoint": "../x"}, 422, "checkpoint"),
        ({"gpu": 1}, 422, "gpu"),
    ],
)
def test_endpoints_that_cannot_be_deployed(api: ApiServer, change: dict[str, Any], status: int, path: str) -> None:
    checkpoint = checkpoint_of(api, queued_run(api), 1)
    answer = api.client.post("/v1/endpoints", json={"name": "e", "checkpoint": checkpoint["id"]} | change)
    assert (answer.status_code, error_of(answer)["param"]) == (status, path), answer.text
    assert api.client.get("/v1/endpoints").json()["data"] == []
    assert api.client.patch("/v1/endpoints/none", json={"replicas": 1}).status_code == 404
