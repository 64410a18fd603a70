"""What the dashboard is looked at with: a browser, and runs that happened, put into a store as drivers would."""

from __future__ import annotations

import json
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from api_server import ApiServer, checkpoint_of, queued_run
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from served_app import served

from neuromas.engines.scripted import ScriptedEngine
from neuromas.journal import lines as journal
from neuromas.journal.folder import EVENTS_FILE, METRICS_FILE, RESULT_FILE, SPEC_FILE
from neuromas.rollout.prompt import make_renderer
from neuromas.run.run import run as train
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.run import RunRecord, RunState
from neuromas.services.records.streams import events_stream
from neuromas.services.runs.checkpoints import CheckpointRegistrar
from neuromas.services.runs.forward import Forwarder
from neuromas.services.runs.state import tell_state
from neuromas.services.store.base import Document, Store
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.graph_table import ServableGraph
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.topology.document import topology_from_document

T = TypeVar("T")
WAIT_MS = 60_000
"""Longest wait for something to be seen; the machine may have much else to do."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Commands of the machine's own browser: .ci/run installs the first. Playwright brings none, and none is downloaded."""
ROOT = Path(__file__).parents[2]
LOG = "attempt-1.log.jsonl"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

SPEC = """
name = "small"
topology = { layers = [2] }
task = { type = "chain", hops = 2 }
training = { steps = 4, prompts_per_step = 2, group_size = 4, kl_weight = 0.01 }
evaluation = { examples = 8 }
engine = { type = "transformers" }
runtime = { type = "local" }
checkpoint = { every = 2 }
tracking = { rollouts_every = 1, rollouts_per_sample = 1 }
"""


def aside(work: Callable[[], T]) -> T:
    """Do something in another thread: Playwright's event loop is in this one, and the store wants one of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def trained_run(folder: Path) -> Path:
    """Train the small run and return its folder."""
    return train(parse_run_spec(tomllib.loads(SPEC)), folder).folder


def adopt(api: ApiServer, folder: Path, *, ended: bool = True, **changes: Any) -> Document:
    """Put a run that has happened into the store: its record, events, rollouts, log and checkpoints.

    Args:
        api: of the store.
        folder: of the run.
        ended: whether it has succeeded; False leaves it running.
        **changes: of the record.
    """
    spec = json.loads((folder / SPEC_FILE).read_text())
    answer = api.client.post("/v1/runs", json=spec)
    assert answer.status_code == 202, answer.text
    run: Document = answer.json()
    place = api.settings.data_dir / "runs" / run["id"] / run["name"]
    shutil.copytree(folder, place, dirs_exist_ok=True)
    line = {
        "time": "2026-01-01T10:00:00.000Z",
        "level": "INFO",
        "logger": "neuromas.services.runs.driver",
        "message": "driving",
    }
    (place.parent / LOG).write_text(json.dumps(line | {"attempt": 1}) + "\n")

    async def tell(store: Store) -> None:
        await tell_state(store, run["id"], RunState.RUNNING, 1)
        await Forwarder(store, run["id"], place, place.parent / LOG).forward()
        await CheckpointRegistrar(store, run["id"], place, api.settings.data_dir).register()
        if ended:
            await tell_state(store, run["id"], RunState.SUCCEEDED, 1)

    api.store(tell)
    return api.change(RunRecord, run["id"], **(_record(place, ended) | changes))


def _record(folder: Path, ended: bool) -> Document:
    """Return what a driver's record says of a run that has gone as far as its folder tells."""
    steps = list(journal.read(folder / METRICS_FILE))
    events = list(journal.read(folder / EVENTS_FILE))
    stage = [event for event in events if event["type"] == "stage_started"][-1]
    last = steps[-1]
    progress = {
        "stage": stage["stage"],
        "stage_name": stage["name"],
        "step": last["step"],
        "steps": stage["steps"],
        "nodes": len(stage["topology"]["nodes"]),
        "level": stage["level"],
        "eta_s": 0.0 if ended else 42.0,
    }
    latest = {name: value for name, value in last.items() if "/" in name}
    record: Document = {"state": RunState.RUNNING, "attempt": 1, "progress": progress, "latest": latest}
    record |= {"started": steps[0]["time_s"] - 5, "heartbeat": time.time()}
    if ended:
        result = json.loads((folder / RESULT_FILE).read_text())
        accuracy = result["accuracy"]["greedy"]["value"]
        record |= {"state": RunState.SUCCEEDED, "result": result, "accuracy": accuracy, "ended": events[-1]["time_s"]}
    return record


def row(page: Page, name: str) -> Locator:
    """Return the run of a name in the list."""
    return page.locator(".run").filter(has=page.get_by_role("link", name=name, exact=True))


def step(number: int, reward: float, **metrics: float) -> Document:
    """Return the event of a step."""
    known = {"rollout/reward_mean": reward, "time/step_s": 0.5, "rollout/tokens": 100.0} | metrics
    return {"type": "step", "stage": 0, "step": number, "time_s": 1000.0 + number, "metrics": known}


def begun(api: ApiServer, name: str) -> Document:
    """Return a run that has just begun to train a graph of two nodes."""
    run = queued_run(api, name=name)
    stage = {"type": "stage_started", "stage": 0, "name": "stage-0", "topology": run["spec"]["topology"], "level": None}
    stage |= {"steps": 9, "trainable_parameters": 10, "first_step": 0, "time_s": 1000.0}
    aside(lambda: api.tell(events_stream(run["id"]), stage))
    progress = {"stage": 0, "stage_name": "stage-0", "step": 0, "steps": 9, "nodes": 2, "level": None, "eta_s": None}
    return aside(lambda: api.change(RunRecord, run["id"], state=RunState.RUNNING, attempt=1, progress=progress))


def deployed(api: ApiServer, name: str, url: str) -> Document:
    """Deploy a checkpoint of a new run as the supervisor would."""
    run = queued_run(api, name=f"run-of-{name}")
    checkpoint = aside(lambda: checkpoint_of(api, run, 3, 0.5))
    endpoint = api.client.post("/v1/endpoints", json={"name": name, "checkpoint": checkpoint["id"]}).json()
    return aside(lambda: api.change(EndpointRecord, endpoint["id"], state="ready", url=url))


@contextmanager
def browsing() -> Iterator[Browser]:
    """Give a headless Chromium: the one that is installed on the machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found is not None, (
        f"no Chromium: none of {', '.join(BROWSERS)} is on the path (Debian: apt install chromium)"
    )
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    """Give a page that must not break: an error of a script, or one that the page's policy refuses, fails the test."""
    opened_context = browser.new_context(viewport=context.pop("viewport", DESKTOP), **context)
    page = opened_context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))

    def note(message: ConsoleMessage) -> None:
        # A refused request is told by the browser too; what the page makes of it is what tests look at.
        if message.type == "error" and "Failed to load resource" not in message.text:
            errors.append(message.text)

    page.on("console", note)
    page.set_default_timeout(WAIT_MS)
    try:
        page.goto(url)
        yield page
    finally:
        opened_context.close()
    assert errors == []


@contextmanager
def answering(base: Path, topology: Document, name: str, delay: int = 3) -> Iterator[str]:
    """Serve a graph of nodes that say "A= 3" in their own words; gives the address.

    Args:
        base: folder of a base whose tokens the nodes speak.
        topology: document of the graph.
        name: what it is asked for as.
        delay: engine steps that a message takes.
    """
    graph = topology_from_document(topology)
    server = GraphServer(lambda: ScriptedEngine(lambda call: [10, 11, 12, 13], lambda call: delay, max_model_len=128))
    try:
        renderer = make_renderer(PromptSpec(), base)
        server.put(
            ServableGraph(name, graph, dict.fromkeys(graph.adapters), SamplingSpec(max_tokens=8), renderer)
        ).result(30)
        with served(make_app(server)) as url:
            yield url
    finally:
        server.close()
