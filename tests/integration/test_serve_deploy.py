"""Engine groups on Ray Serve: a real cluster with tokens, real replicas, requests through Serve's own proxy.

The tests follow one deployment through its life, in this order; that is why they are one test.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest
from serve_door import START_S, TOKEN, DoorProcess, serve_door
from waiting import until

from neuromas.run.outcome import RunResult
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task

pytestmark = pytest.mark.ray
WAIT_S = 120.0
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorProcess]:
    with serve_door(tmp_path_factory.mktemp("cluster")) as door:
        yield door


def is_ready(status: dict, name: str, **generations: int) -> bool:
    graphs = status.get(name, {"graphs": {}})["graphs"]
    return all(graph in graphs and graphs[graph]["is_ready"] for graph in generations) and all(
        graphs[graph]["served"] == generation for graph, generation in generations.items()
    )


def without_weights(checkpoint: Path) -> Path:
    """Copy a checkpoint whose weights cannot be read although its manifest says that they are whole."""
    folder = checkpoint.with_name("broken")
    shutil.copytree(checkpoint, folder)
    (folder / "adapters.safetensors").write_bytes(b"no weights")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["adapters.safetensors"] = hashlib.sha256(b"no weights").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.timeout(1800)
def test_the_life_of_a_deployment(door: DoorProcess, trained_run: RunResult) -> None:
    older, newer = sorted((trained_run.folder / "checkpoints").glob("*/manifest.json"))
    checkpoints = [str(older.parent), str(newer.parent)]
    text = make_task(parse_run_spec({"topology": {"chain": 1}, "task": {"type": "chain", "hops": 2}}).task, 0).example(
        "test", 0
    )

    def place(name: str, generation: int = 0, checkpoint: str | None = None) -> dict:
        folder = checkpoints[min(generation, 1)] if checkpoint is None else checkpoint
        return {"name": name, "checkpoint": folder, "version": f"v{generation}", "generation": generation}

    # -- deployed: an answer through Serve's proxy, from the stock client
    (group,) = door.do("deploy", graphs=[place("g")])["groups"]
    name, url = group["name"], f"{door.url}{group['route']}"
    status = door.until(lambda status: is_ready(status, name, g=0))
    assert (status[name]["state"], status[name]["replicas"]) == ("running", 1)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=TOKEN, timeout=WAIT_S, max_retries=0)
    question = {"messages": [{"role": "user", "content": text.prompt}]}
    whole = client.chat.completions.create(model="g", **question)
    assert whole.system_fingerprint == "g@0"

    # -- streamed through the proxy: who answers, pieces that are together the answer, and why it ended
    chunks = list(client.chat.completions.create(model="g", stream=True, **question))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert len(chunks) >= 3

    # -- errors keep their status and headers
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", **question)

    # -- a second graph joins the engine, the first is swapped under load: no failure, no mixed versions
    (pid,) = door.do("replicas")["pids"]
    stop = threading.Event()

    def ask_on() -> list[tuple[str, set[str]]]:
        seen = []
        with httpx.Client(timeout=WAIT_S, headers=BEARER) as http:
            while not stop.is_set():
                body = {"model": "g", "neuromas": {"trace": True}, **question}
                response = http.post(f"{url}/v1/chat/completions", json=body)
                assert response.status_code == 200, response.text
                document = response.json()
                versions = {entry["adapter"].rpartition("-v")[2] for entry in document["neuromas"]["trace"]}
                seen.append((document["system_fingerprint"], versions))
        return seen

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(ask_on) for _ in range(3)]
        door.do("deploy", graphs=[place("g"), place("h")])
        door.until(lambda status: is_ready(status, name, g=0, h=0))
        door.do("deploy", graphs=[place("g", 1), place("h")])
        door.until(lambda status: is_ready(status, name, g=1, h=0))
        stop.set()
        seen = [entry for one in clients for entry in one.result(WAIT_S)]
    assert {fingerprint for fingerprint, _ in seen} >= {"g@0"}
    assert all(versions == {fingerprint.removeprefix("g@")} for fingerprint, versions in seen)
    assert client.chat.completions.create(model="g", **question).system_fingerprint == "g@1"
    assert {model.id for model in client.models.list()} == {"g", "h"}
    assert door.do("replicas")["pids"] == [pid], "the replica was replaced instead of changed"

    # -- a checkpoint that cannot be read is reported, and what is served stays
    broken = without_weights(newer.parent)
    door.do("deploy", graphs=[place("g", 1), place("h", 2, str(broken))])
    status = door.until(lambda status: bool(status[name]["graphs"].get("h", {}).get("error")))
    assert "adapters.safetensors" in status[name]["graphs"]["h"]["error"]
    assert (status[name]["graphs"]["h"]["served"], status[name]["graphs"]["g"]["is_ready"]) == (0, True)
    assert client.chat.completions.create(model="h", **question).choices[0].message.content is not None

    # -- clients that go away, early or late, take their requests out of the replica's engine
    long = {"model": "g", "max_tokens": 90, "temperature": 2.0, **question}
    patience = itertools.cycle((0.1, 0.2, 0.4, 0.8))
    for stream in (False, True):
        before = door.do("status")[name]["load"]["cancelled"]

        def has_left(status: dict, stream: bool = stream, before: int = before) -> bool:
            timeout = httpx.Timeout(WAIT_S, read=WAIT_S if stream else next(patience))
            with (
                suppress(httpx.ReadTimeout),
                httpx.stream(
                    "POST",
                    f"{url}/v1/chat/completions",
                    json=long | {"stream": stream},
                    timeout=timeout,
                    headers=BEARER,
                ) as answer,
            ):
                next(answer.iter_lines())
            return bool(status[name]["load"]["cancelled"] > before)

        door.until(has_left)

    # -- a graph is taken away, the other stays
    door.do("deploy", graphs=[place("g", 1)])
    door.until(lambda status: set(status[name]["graphs"]) == {"g"})
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="h", **question)

    # -- a killed replica is replaced by itself and serves what is wanted
    (pid,) = door.do("replicas")["pids"]
    os.kill(pid, signal.SIGKILL)
    door.until(lambda status: is_ready(status, name, g=1) and door.do("replicas")["pids"] not in ([pid], []))
    assert client.with_options(max_retries=5).chat.completions.create(model="g", **question).choices

    # -- stopped
    door.do("stop", name=name)
    door.until(lambda status: name not in status)
    until(lambda: httpx.get(f"{url}/v1/models", timeout=START_S, headers=BEARER).status_code == 404, within_s=START_S)
