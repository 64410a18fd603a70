"""The three journeys, done through the page on a service that really runs: train a graph, grow it, serve it.

The first file of its folder: the service has no run yet.
"""

from __future__ import annotations

import json
import re

import pytest
from dashboard_world import PHONE, opened
from playwright.sync_api import Browser, Page, expect
from service_process import Document, ServiceProcess

pytestmark = [pytest.mark.browser, pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(900)]
LONG_MS = 240_000
"""Longest wait for a run to end or an endpoint to be there: processes are started for it."""
MORE = {"evaluation": {"examples": 8}, "checkpoint": {"every": 2}, "training": {"kl_weight": 0.01, "warmup_steps": 0}}
MORE |= {"tracking": {"rollouts_every": 1, "rollouts_per_sample": 1}}
QUESTION = "0: 3 1: 6 2: 7 3: 5 4: 0 5: 1 6: 2 7: 4 start 7 find B="


def test_a_graph_is_trained_grown_and_served_through_the_page(browser: Browser, service: ServiceProcess) -> None:
    with opened(browser, service.url) as page:
        page.get_by_role("link", name="Make the first run").click()
        train(page)
        watch(page)
        grow(page)
        deploy(page)
        ask(page)
        page.get_by_role("link", name="Runs", exact=True).click()
        for name, steps in (("journey", 4), ("grown", 2)):
            row = page.locator(".run").filter(has=page.get_by_role("link", name=name, exact=True))
            expect(row.locator(".state")).to_have_text("succeeded")
            expect(row.get_by_role("img", name=f"reward over {steps} steps")).to_be_visible()
    grown = run_of(service, "grown")
    assert grown["parent"]["run"] == run_of(service, "journey")["id"]
    assert [len(one["spec"]["topology"]["nodes"]) for one in (run_of(service, "journey"), grown)] == [2, 3]
    with opened(browser, f"{service.url}/#/endpoints", viewport=PHONE) as page:
        page.get_by_role("link", name="walked").press("Enter")
        ask(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def run_of(service: ServiceProcess, name: str) -> Document:
    (found,) = service.get("/v1/runs", name=name)["data"]
    run: Document = found
    return run


def train(page: Page) -> None:
    """Describe a graph of two nodes and submit a run of four steps."""
    page.get_by_label("Graph", exact=True).fill("first -> last")
    page.get_by_label("Name").fill("journey")
    page.get_by_label("Hops").fill("2")
    page.get_by_label("Steps").fill("4")
    page.get_by_label("Examples per step").fill("4")
    page.get_by_label("Rollouts per example").fill("4")
    page.get_by_label("Engine").select_option("transformers")
    page.get_by_text("More settings", exact=True).click()
    page.get_by_label("More settings, as JSON").fill(json.dumps(MORE))
    expect(page.get_by_text("Valid: 32 calls per step")).to_be_visible()
    page.get_by_role("button", name="Submit the run").press("Enter")
    expect(page.get_by_role("heading", name="journey")).to_be_focused()


def watch(page: Page) -> None:
    """See the run go on until it has succeeded: curves, the text on the edge, the health of the nodes."""
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    until_it_is(page, "succeeded")
    nodes = "first .* at 4; last .* at 4"
    for curve in ("Reward: .*each step .* at 4", f"Entropy: {nodes}", "KL to the base: first .* at 4"):
        expect(page.get_by_role("img", name=re.compile(curve))).to_be_visible()
    page.get_by_role("button", name="Rollout before").click()  # a chosen one stays, while the latest may change
    graph = page.get_by_role("group", name="graph of 2 nodes, output last")
    said = page.locator(".messages li").filter(has=page.get_by_role("button", name="first", exact=True)).locator("code")
    expect(graph.locator(".label text")).to_have_text(said.inner_text())
    expect(page.get_by_role("group", name="Health of the nodes").get_by_role("row")).to_have_count(3)


def grow(page: Page) -> None:
    """Append a node to the last checkpoint's graph and train on."""
    page.get_by_role("link", name="Grow checkpoint of step 4").click()
    expect(page.get_by_role("heading", name="journey")).to_be_focused()
    page.get_by_label("Layers").fill("1")
    page.get_by_label("Steps", exact=True).fill("2")
    page.get_by_label("Name of the new run").fill("grown")
    page.get_by_role("button", name="Grow", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="grown")).to_be_focused()
    until_it_is(page, "succeeded")
    expect(page.locator(".family [aria-current]")).to_have_text("grown")
    expect(page.locator(".family").get_by_role("link", name="journey")).to_be_visible()


def deploy(page: Page) -> None:
    """Deploy the grown graph as a model."""
    page.get_by_role("button", name="Deploy checkpoint of step 2").click()
    page.get_by_label("Name").fill("walked")
    page.get_by_role("dialog").get_by_role("button", name="Deploy").press("Enter")
    expect(page.get_by_role("heading", name="walked")).to_be_focused()
    until_it_is(page, "ready")


def ask(page: Page) -> None:
    """Ask the model; the answer is what the last of its three nodes said, and the trace shows all."""
    page.get_by_label("Question").fill(QUESTION)
    page.get_by_label("Question").press("Control+Enter")
    answer = page.get_by_role("article")
    expect(answer.get_by_role("group", name="trace of 3 nodes")).to_be_visible()
    said = answer.locator(".messages code")
    expect(said).to_have_count(3)
    expect(answer.locator(".answer-text")).to_have_text(said.last.inner_text())
    expect(answer.locator(".graph .label")).to_have_count(2)


def until_it_is(page: Page, state: str) -> None:
    """Wait until what the page shows is in a state; one that has failed says why at once."""
    expect(page.locator(".state-line .state")).to_have_text(re.compile(f"^({state}|failed)$"), timeout=LONG_MS)
    assert page.locator(".problem").all_inner_texts() == []
    expect(page.locator(".state-line .state")).to_have_text(state)
