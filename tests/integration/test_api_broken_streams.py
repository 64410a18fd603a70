"""Streams whose endpoint is lost in the middle: whole events, then an end of the stream's own shape."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from api_server import ApiServer, checkpoint_of, error_of, queued_run, running_api
from graph_upstream import upstream

from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.settings import Settings

QUESTIONS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "f 1 2"}]},
    "/v1/completions": {"prompt": "f 1 2"},
    "/v1/responses": {"input": "f 1 2"},
}
NAMES = ("solver", "neuromas:{run}@best")
PATHS = list(QUESTIONS)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def streams(word_base: Path) -> dict[str, bytes]:
    """What a graph server streams, by path."""
    with upstream(word_base, "solver") as graph:
        return {
            path: httpx.post(
                graph.url + path, json={"model": "solver", "stream": True, **question}, timeout=60, trust_env=False
            ).content
            for path, question in QUESTIONS.items()
        }


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path / "data", port=0)) as server:
        yield server


@contextmanager
def endpoint(api: ApiServer, sent: bytes, *, says_end: bool) -> Iterator[str]:
    """Deploy an endpoint that sends these bytes of a stream and is gone; give the id of its run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                request, part = b"", b"?"
                while part and not request.endswith(b"}"):  # what is left unread of it would reset the connection
                    part = connection.recv(65536)
                    request += part
                part = b"%x\r\n%s\r\n" % (len(sent), sent) if sent else b""
                connection.sendall(HEAD + part + (b"0\r\n\r\n" if says_end else b""))

        thread = threading.Thread(target=answer)
        thread.start()
        run = queued_run(api)
        checkpoint = checkpoint_of(api, run, 3, 0.5)
        made = api.client.post("/v1/endpoints", json={"name": "solver", "checkpoint": checkpoint["id"]}).json()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        api.change(EndpointRecord, made["id"], state=EndpointState.READY, url=url)
        yield run["id"]
        thread.join()


def ask(api: ApiServer, path: str, model: str) -> httpx.Response:
    body = {"model": model, "stream": True, **QUESTIONS[path]}
    return api.client.post(path, json=body)


def documents(text: str) -> list[dict[str, Any]]:
    events = text.removesuffix("\n\n").split("\n\n")
    return [json.loads(event.partition("data: ")[2]) for event in events if not event.endswith("[DONE]")]


@pytest.mark.parametrize("says_end", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_breaks_off_ends_with_an_event_of_its_shape(
    api: ApiServer, streams: dict[str, bytes], path: str, name: str, says_end: bool
) -> None:
    whole = streams[path]
    cut = whole.index(b"\n\n") + 2 + 20  # in the middle of the second event; how many there are hangs on the machine
    with endpoint(api, whole[:cut], says_end=says_end) as run:
        answer = ask(api, path, name.format(run=run))  # httpx raises where the transfer itself breaks off
    told = documents(answer.text)
    sent = documents(whole[: cut - 20].decode())
    assert len(told) == len(sent) + 1
    assert [event.get("type") for event in told[:-1]] == [event.get("type") for event in sent]
    message = "endpoint solver broke off in the middle of its answer"
    if path != "/v1/responses":
        assert told[-1]["error"]["message"].startswith(message)
        assert {key: told[-1]["error"][key] for key in ("type", "code", "param")} == {
            "type": "server_error",
            "code": "endpoint_failed",
            "param": None,
        }
        return
    assert answer.text.rpartition("event: ")[2].startswith("response.failed\n")
    failed = told[-1]
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", len(sent))
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["error"]["message"].startswith(message)
    begun = told[0]["response"]
    assert failed["response"] == begun | {"status": "failed", "error": failed["response"]["error"]}


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_breaks_behind_its_end_is_whole(api: ApiServer, streams: dict[str, bytes], path: str) -> None:
    with endpoint(api, streams[path], says_end=False):
        assert ask(api, path, "solver").content == streams[path]


@pytest.mark.parametrize("says_end", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_a_stream_that_breaks_before_its_first_event_has_a_status(
    api: ApiServer, streams: dict[str, bytes], path: str, says_end: bool
) -> None:
    with endpoint(api, streams[path][:20], says_end=says_end):
        answer = ask(api, path, "solver")
    assert (answer.status_code, error_of(answer)["type"]) == (502 if says_end else 503, "server_error")


def test_the_stock_client_is_told_in_either_shape(api: ApiServer, streams: dict[str, bytes]) -> None:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=0, http_client=http_client) as stock:
        chat = streams["/v1/chat/completions"]
        with endpoint(api, chat[: len(chat) // 2], says_end=False), pytest.raises(openai.APIError) as raised:
            list(
                stock.chat.completions.create(model="solver", messages=[{"role": "user", "content": "f"}], stream=True)
            )
        assert raised.value.code == "endpoint_failed"
        api.client.delete("/v1/endpoints/solver")
        api.change(EndpointRecord, api.client.get("/v1/endpoints/solver").json()["id"], state=EndpointState.STOPPED)
        response = streams["/v1/responses"]
        with endpoint(api, response[: len(response) // 2], says_end=False):
            events = list(stock.responses.create(model="solver", input="f", stream=True))
        assert events[-1].type == "response.failed"
        assert events[-1].response.id == events[0].response.id  # type: ignore[union-attr]
