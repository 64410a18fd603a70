"""The dashboard in a browser, over the real API and a store that holds a run which really happened."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ApiServer, checkpoint_of, queued_run, running_api
from dashboard_world import DESKTOP, PHONE, adopt, aside, begun, opened, row, step, trained_run
from playwright.sync_api import Browser, Locator, Page, Route, expect

from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream, logs_stream, rollouts_stream
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>"
PLACES = ("runs", "runs/{run}", "runs/{run}/grow", "new", "endpoints", "endpoints/solver", "adapters", "key", "no")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("dashboard") / "data", port=0)) as server:
        yield server


@pytest.fixture(scope="module")
def run(api: ApiServer, folder: Path) -> Document:
    """A run that has succeeded."""
    run = aside(lambda: adopt(api, folder))
    answer = api.client.post("/v1/endpoints", json={"name": "solver", "checkpoint": f"{run['id']}@best"})
    assert answer.status_code == 202, answer.text
    return run


def latest(page: Page) -> Locator:
    """Return the rollout that the graph shows."""
    return page.locator(".card", has=page.get_by_role("heading", name="The graph", exact=True)).locator(".rollout")


def test_the_list_shows_what_each_run_has_come_to(browser: Browser, api: ApiServer, run: Document) -> None:
    waiting = queued_run(api, name="waiting-its-turn")
    with opened(browser, api.at("#/runs")) as page:
        ended = row(page, run["name"])
        expect(ended.locator(".state")).to_have_text("succeeded")
        expect(ended.get_by_role("img", name=re.compile("reward over 4 steps"))).to_be_visible()
        expect(ended).to_contain_text(re.compile(r"accuracy\s*\d"))
        expect(row(page, waiting["name"])).to_contain_text("waits for its turn")
        page.get_by_label("State").select_option("succeeded")
        expect(row(page, waiting["name"])).to_have_count(0)
        expect(ended).to_be_visible()
        aside(lambda: api.change(RunRecord, waiting["id"], state="succeeded"))
        page.reload()
        expect(page.get_by_label("State")).to_have_value("succeeded")
        expect(row(page, waiting["name"])).to_be_visible()


def test_a_run_is_shown_as_it_goes_on(browser: Browser, api: ApiServer) -> None:
    run = begun(api, "goes-on")
    stream = events_stream(run["id"])
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        aside(lambda: api.tell(stream, step(1, 0.1, **{"train/entropy/n1": 0.7}), step(2, 0.3)))
        curve = page.get_by_role("img", name=re.compile(r"^Reward: "))
        expect(curve).to_have_attribute("aria-label", re.compile("each step 30.0 % at 2"))
        expect(page.get_by_role("img", name=re.compile(r"^Entropy: n1 0\.7 at 1"))).to_be_visible()
        expect(page.get_by_role("img", name=re.compile(r"^KL"))).to_have_count(0)
        aside(lambda: api.tell(stream, step(3, 0.9)))
        expect(curve).to_have_attribute("aria-label", re.compile("each step 90.0 % at 3"))
        expect(page.locator(".tile").filter(has_text=re.compile("^Steps"))).to_contain_text("3 / 9")
        evaluated = {"type": "evaluated", "stage": 0, "step": 3, "mode": "greedy", "correct": 6, "examples": 8}
        aside(lambda: api.tell(stream, evaluated | {"time_s": 1004.0, "level": None, "purpose": "evaluation"}))
        expect(curve).to_have_attribute("aria-label", re.compile("validation accuracy, greedy 75.0 % at 3"))
        aside(lambda: api.change(RunRecord, run["id"], state="succeeded"))
        aside(lambda: api.tell(stream, {"type": "state", "state": "succeeded", "attempt": 1, "time_s": 1005.0}))
        expect(page.locator(".state-line .state")).to_have_text("succeeded")
        expect(page.locator("#announcer")).to_have_text("Run goes-on is succeeded")
        expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@pytest.mark.parametrize("refusal", ["broken", "crowded"])
def test_a_stream_that_fails_loses_nothing_and_tells_nothing_twice(
    browser: Browser, api: ApiServer, refusal: str
) -> None:
    run = begun(api, f"refused-{refusal}")
    stream = events_stream(run["id"])
    aside(lambda: api.tell(stream, step(1, 0.1)))
    asked: list[str | None] = []

    def refuse(route: Route) -> None:
        if "text/event-stream" not in route.request.headers.get("accept", ""):
            route.continue_()
            return
        asked.append(route.request.headers.get("last-event-id"))
        if refusal == "crowded":
            body = {"error": {"code": "too_many_followers", "message": "no place", "param": None, "type": "x"}}
            route.fulfill(status=429, content_type="application/json", body=json.dumps(body))
        elif len(asked) == 1:  # the first connection breaks off behind its first events
            events = api.client.get(f"/v1/runs/{run['id']}/events").json()["data"]
            text = "".join(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n" for event in events)
            route.fulfill(status=200, content_type="text/event-stream", body=text)
        elif len(asked) == 2:
            route.abort()
        else:
            route.continue_()

    with opened(browser, "about:blank") as page:
        page.route("**/v1/runs/*/events*", refuse)
        page.goto(api.at(f"#/runs/{run['id']}"))
        curve = page.get_by_role("img", name=re.compile(r"^Reward: "))
        expect(curve).to_have_attribute("aria-label", re.compile("each step 10.0 % at 1"))
        aside(lambda: api.tell(stream, *(step(number, number / 10) for number in range(2, 9))))
        expect(curve).to_have_attribute("aria-label", re.compile("each step 80.0 % at 8"))
        word = "live, by polling" if refusal == "crowded" else "live"
        expect(page.get_by_text(word, exact=True)).to_be_visible()
        line = page.locator(".chart polyline.faint").first
        expect(line).to_have_attribute("points", re.compile(r"^\S+( \S+){7}$"))
    if refusal == "broken":
        assert asked[0] is None
        assert asked[1] == asked[2] is not None


def test_runs_are_searched_and_their_metrics_saved_as_csv(browser: Browser, api: ApiServer) -> None:
    for name in ("needle", "straw"):
        run = begun(api, name)
        aside(lambda id=run["id"]: api.tell(events_stream(id), step(1, 0.25), step(2, 0.5)))  # type: ignore[misc]
    with opened(browser, api.at("#/runs")) as page:
        expect(row(page, "straw")).to_be_visible()
        with page.expect_request(re.compile(r"/v1/runs\?limit=500\b")):
            page.get_by_label("Search").fill("need")
        expect(row(page, "straw")).to_be_hidden()
        expect(row(page, "needle")).to_be_visible()
        row(page, "needle").get_by_role("link", name="needle", exact=True).click()
        expect(page.get_by_text("2 / 9")).to_be_visible()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Metrics as CSV").click()
        lines = saved.value.path().read_text().splitlines()
    assert saved.value.suggested_filename == "needle-metrics.csv"
    assert lines[0] == "stage,step,rollout/reward_mean,rollout/tokens,time/step_s"
    assert lines[1:] == ["0,1,0.25,100,0.5", "0,2,0.5,100,0.5"]


def test_what_came_out_and_what_was_said_is_on_the_runs_page(browser: Browser, api: ApiServer, run: Document) -> None:
    asked = api.client.get(f"/v1/runs/{run['id']}/questions", params={"limit": 100}).json()["data"]
    kept = api.client.get(f"/v1/runs/{run['id']}/rollouts", params={"limit": 100}).json()["data"]
    assert sorted({entry["step"] for entry in asked}) == [0, 2, 4]
    verdict = api.client.get(f"/v1/runs/{run['id']}").json()["verdict"]
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        expect(page.locator(".outcome")).to_have_text(verdict)
        table = page.get_by_role("region", name="Answers over time")
        expect(table.get_by_role("columnheader")).to_have_text(["question", "expected", "step 0", "step 2", "step 4"])
        last = table.get_by_role("row").nth(1).get_by_role("button").last
        last.click()
        said = [message["text"] or "(empty)" for message in asked[-3]["messages"]]
        expect(page.locator(".card", has=table).locator(".messages code")).to_have_text(said)
        page.get_by_text("Search them").click()
        part = page.locator(".card", has=page.get_by_role("heading", name="All rollouts"))
        expect(part.locator(".rollout")).to_have_count(len(kept))
        part.get_by_label("From step").fill("3")
        part.get_by_label("From step").press("Enter")
        expect(part.locator(".question")).to_have_text([one["question"] for one in kept if one["step"] >= 3])


def test_a_run_is_paused_resumed_and_cancelled(browser: Browser, api: ApiServer) -> None:
    run = queued_run(api, name="moved")
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        state = page.locator(".state-line .state")
        page.get_by_role("button", name="Pause").click()
        expect(state).to_have_text("paused")
        expect(page.get_by_role("button", name="Resume")).to_be_focused()
        page.get_by_role("button", name="Resume").click()
        expect(state).to_have_text("queued")
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert api.client.get(f"/v1/runs/{run['id']}").json()["state"] == "queued"
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Cancel the run").click()
        expect(state).to_have_text("cancelled")
    assert api.client.get(f"/v1/runs/{run['id']}").json()["state"] == "cancelled"


def test_the_graph_shows_the_text_on_every_edge(browser: Browser, api: ApiServer, run: Document) -> None:
    rollouts = api.client.get(f"/v1/runs/{run['id']}/rollouts").json()["data"]
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        graph = page.get_by_role("group", name="graph of 3 nodes, output n3")
        expect(graph.get_by_role("button")).to_have_count(3)
        for shown, name in ((rollouts[-1], ""), (rollouts[0], str(rollouts[0]["id"]))):
            page.get_by_label("Rollout", exact=True).select_option(name)
            said = {message["node"]: message["text"] for message in shown["messages"]}
            for source in ("n1", "n2"):
                expect(graph.locator(".label").filter(has_text=said[source] or "(empty)").first).to_be_visible()
                item = (
                    latest(page).locator(".messages li").filter(has=page.get_by_role("button", name=source, exact=True))
                )
                expect(item).to_contain_text(f"to n3{said[source] or '(empty)'}")
            expect(latest(page).locator(".question")).to_have_text(shown["question"])
        page.get_by_role("button", name="Next rollout").click()
        expect(latest(page).locator(".question")).to_have_text(rollouts[1]["question"])
        node = graph.get_by_role("button").first
        node.focus()
        page.keyboard.press("Enter")
        expect(graph.locator('[data-node="n1"]')).to_have_attribute("aria-pressed", "true")
        expect(graph.locator('[data-node="n1"]')).to_be_focused()
        expect(graph.locator(".edge.chosen")).to_have_count(1)


def test_what_a_node_read_is_asked_for_where_it_is_unfolded(browser: Browser, api: ApiServer, folder: Path) -> None:
    run = aside(lambda: adopt(api, folder))
    rollouts = api.client.get(f"/v1/runs/{run['id']}/rollouts").json()["data"]
    last = rollouts[-1]
    said = {message["node"]: message for message in last["messages"]}
    heard = " ".join(f"| L1 N{place} : {said[node]['text']}" for place, node in ((1, "n1"), (2, "n2")))
    asked: list[str] = []
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        page.on("request", lambda request: asked.append(request.url) if "/prompt?" in request.url else None)
        expect(latest(page).locator("details")).to_have_count(3)
        assert asked == []
        read = latest(page).locator("details", has_text="What n3 read").locator("pre")
        latest(page).get_by_text("What n3 read").click()
        expect(read).to_have_text(" ".join(f"<bos> {last['question']} @ L2 N1 {heard} >".split()))
        assert len(read.inner_text().split()) == said["n3"]["prompt_tokens"]
        page.get_by_role("group", name="graph of 3 nodes, output n3").get_by_role("button").first.click()
        expect(read).to_be_visible()
        assert len(asked) == 1
        shutil.rmtree(api.settings.data_dir / "runs" / run["id"])
        page.get_by_label("Rollout", exact=True).select_option(str(rollouts[0]["id"]))
        latest(page).get_by_text("What n1 read").click()
        expect(latest(page).locator("pre").first).to_contain_text("files of run")


def test_the_health_of_nodes_is_told(browser: Browser, api: ApiServer) -> None:
    run = begun(api, "unhealthy")
    message = {"adapter": "x", "prompt_tokens": 4, "completion_tokens": 8, "logprob": -1.0, "finish_reason": "stop"}
    said = [message | {"node": "n1", "text": "on", "finish_reason": "length"}, message | {"node": "n2", "text": "done"}]
    rollout = {"stage": 0, "step": 1, "example": "e", "index": 0, "question": "?", "expected": "x", "answer": "done"}
    rollout |= {"reward": 0.0, "failure": None, "level": None, "messages": said}
    kept = said[0] | {"prompt_tokens": 0, "finish_reason": "stop"}  # not sampled, so no sign of health
    replay = rollout | {"index": 1, "replayed": "n2", "messages": [kept, said[1]]}
    aside(lambda: api.tell(rollouts_stream(run["id"]), rollout, replay))
    figures = {"train/grad_norm/n1": 0.2, "rollout/length_mean/n1": 8.0, "rollout/length_mean/n2": 3.0}
    aside(lambda: api.tell(events_stream(run["id"]), step(1, 0.0, **figures)))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        table = page.get_by_role("group", name="Health of the nodes")
        expect(table.get_by_role("row", name=re.compile("^n1"))).to_contain_text(
            re.compile(r"cut off.*0\.2.*8 tokens.*100.0 %")
        )
        expect(table.get_by_role("row", name=re.compile("^n2"))).to_contain_text(re.compile(r"still.*3 tokens.*0.0 %"))
        expect(page.locator('.graph .node.bad[data-node="n1"]')).to_have_count(1)
        expect(latest(page)).to_contain_text("wrong; n2 asked anew")


def test_text_of_the_server_is_never_markup(browser: Browser, api: ApiServer) -> None:
    run = begun(api, "hostile")
    message = {"adapter": "x", "prompt_tokens": 4, "completion_tokens": 8, "logprob": -1.0, "finish_reason": "stop"}
    rollout = {"stage": 0, "step": 1, "example": "e", "index": 0, "question": HOSTILE, "expected": HOSTILE}
    rollout |= {"answer": HOSTILE, "reward": 0.0, "failure": None, "level": None}
    rollout["messages"] = [message | {"node": node, "text": HOSTILE} for node in ("n1", "n2")]
    aside(lambda: api.tell(rollouts_stream(run["id"]), rollout))
    aside(lambda: api.tell(logs_stream(run["id"]), {"level": "ERROR", "message": HOSTILE, "exception": HOSTILE}))
    notice = {"type": "notice", "message": HOSTILE, "severity": "warning", "time_s": 1.0}
    aside(lambda: api.tell(events_stream(run["id"]), notice, step(1, 0.0)))
    error = {"code": "x", "message": HOSTILE, "param": HOSTILE}
    aside(lambda: api.change(RunRecord, run["id"], state="failed", error=error))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        expect(latest(page).locator(".question")).to_have_text(HOSTILE)
        expect(page.locator(".problem")).to_contain_text(HOSTILE)
        expect(page.locator(".events")).to_contain_text(HOSTILE)
        page.get_by_text("Log lines of the driver").click()
        expect(page.locator(".log")).to_contain_text(HOSTILE)
        assert page.locator("main b", has_text="bold").count() == 0
        assert page.locator("img[src='x']").count() == 0
        assert page.title() == "hostile · NeuroMAS"


def test_checkpoints_are_deployed_evaluated_exported_and_deleted(
    browser: Browser, api: ApiServer, run: Document
) -> None:
    newest, older = sorted(
        api.client.get(f"/v1/runs/{run['id']}/checkpoints").json()["data"], key=lambda one: -one["step"]
    )
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        expect(page.get_by_role("row", name=re.compile("step 4latest"))).to_be_visible()
        page.get_by_role("button", name="Evaluate checkpoint of step 4").click()
        page.get_by_label("Held-out examples").fill("")
        page.get_by_label("Compare: untrained").check()
        page.get_by_role("dialog").get_by_role("button", name="Evaluate").click()
        expect(page.get_by_role("group", name="Evaluations")).to_contain_text("queued")
        with page.expect_download() as download:
            page.get_by_role("button", name="Export checkpoint of step 4").click()
        assert download.value.suggested_filename == f"{newest['id']}.tar"
        assert download.value.path().stat().st_size > 1000
        page.get_by_role("button", name="Delete checkpoint of step 2").click()
        page.get_by_role("button", name="Delete it").click()
        expect(page.get_by_role("button", name="Delete checkpoint of step 2")).to_have_count(0)
        page.get_by_role("button", name="Deploy checkpoint of step 4").click()
        page.get_by_label("Name").fill("Not A Name")
        page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
        expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Name").fill("by-page")
        page.get_by_role("dialog").get_by_role("button", name="Deploy").click()
        expect(page.get_by_role("heading", name="by-page")).to_be_visible()
        expect(page.locator(".state-line .state")).to_have_text("deploying")
        expect(page.get_by_role("button", name="Ask")).to_be_disabled()
        endpoint = aside(lambda: api.client.get("/v1/endpoints/by-page").json())
        ready = {"state": "ready", "url": "/engine", "generation": 2}
        aside(lambda: api.change(EndpointRecord, endpoint["id"], **ready, served=1))
        expect(page.locator(".state-line .state")).to_have_text("swapping")
        expect(page.get_by_role("button", name="Ask")).to_be_enabled()
        aside(lambda: api.change(EndpointRecord, endpoint["id"], served=2))
        expect(page.locator(".state-line .state")).to_have_text("ready")
    assert api.client.get(f"/v1/checkpoints/{older['id']}").status_code == 404
    assert api.client.get("/v1/endpoints/by-page").json()["checkpoint"] == newest["id"]
    (evaluation,) = api.client.get("/v1/evaluations", params={"run": run["id"]}).json()["data"]
    assert (evaluation["checkpoint"], evaluation["baselines"]) == (newest["id"], ["untrained"])


def test_a_run_is_grown_and_its_family_shown(browser: Browser, api: ApiServer) -> None:
    parent = queued_run(api, name="parent")
    aside(lambda: api.change(RunRecord, parent["id"], state="succeeded"))
    checkpoint = aside(lambda: checkpoint_of(api, parent, 2, 0.5))
    with opened(browser, api.at(f"#/runs/{parent['id']}")) as page:
        page.get_by_role("link", name="Grow checkpoint of step 2").click()
        becomes = page.get_by_role("group", name="What it becomes")
        expect(becomes).to_contain_text("4 nodes, 2 of them new")
        page.get_by_label("Layers").fill("1, 2")
        expect(becomes).to_contain_text("Not valid yet")
        expect(page.get_by_role("group", name="Edit 1")).to_contain_text("got layers [1, 2]; each must be at least 1")
        page.get_by_label("Steps", exact=True).fill("7")
        page.get_by_label("Hops").fill("4")
        page.get_by_role("button", name="Grow", exact=True).click()
        expect(page.get_by_role("group", name="Edit 1")).to_contain_text("got layers [1, 2]; each must be at least 1")
        page.route("**/grow:validate", lambda route: route.abort())
        page.get_by_label("Layers").fill("2, 2, 1")
        expect(becomes).to_contain_text("The server cannot be reached")
        page.unroute_all()
        page.get_by_label("Layers").fill("2, 1")
        expect(becomes).to_contain_text("5 nodes, 3 of them new")
        expect(becomes.locator(".node.new")).to_have_count(3)
        expect(page.get_by_role("group", name="Edit 1")).not_to_contain_text("each must be")
        page.get_by_label("Name of the new run").fill("child")
        page.get_by_role("button", name="Grow", exact=True).click()
        expect(page.get_by_role("heading", name="child")).to_be_visible()
        family = page.locator(".family")
        expect(family.locator("[aria-current]")).to_have_text("child")
        expect(family).to_contain_text("layers 2, 1 appended")
        family.get_by_role("link", name="parent").click()
        expect(page.get_by_role("heading", name="parent")).to_be_focused()
        expect(page.locator(".family ul")).to_contain_text("child")
    (child,) = api.client.get("/v1/runs", params={"parent": parent["id"]}).json()["data"]
    assert child["parent"]["checkpoint"] == checkpoint["id"]
    assert (child["spec"]["training"]["steps"], child["spec"]["task"]["hops"]) == (7, 4)
    assert len(child["spec"]["topology"]["nodes"]) == 5


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_fit_their_screen_and_name_what_is_on_them(
    browser: Browser, api: ApiServer, run: Document, size: dict[str, int]
) -> None:
    with opened(browser, "about:blank", viewport=size) as page:
        for place in PLACES:
            page.goto("about:blank")
            page.goto(api.at(f"#/{place.format(run=run['id'])}"))
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            expect(page.get_by_text("loading …")).to_have_count(0)
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], place
            assert page.evaluate(UNNAMED) == [], place
            assert page.evaluate(TWICE) == [], place


UNNAMED = """() => [...document.querySelectorAll('input, select, textarea, button, a')]
  .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || (one.labels && one.labels.length)))
  .map((one) => one.outerHTML)"""
TWICE = """() => [...document.querySelectorAll('[id]')].map((one) => one.id)
  .filter((id, place, all) => all.indexOf(id) !== place)"""


def test_nothing_jumps_while_a_run_is_loaded(browser: Browser, api: ApiServer, run: Document) -> None:
    watch = """new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
    }).observe({type: 'layout-shift', buffered: true}); window.shifted = 0;"""
    with opened(browser, "about:blank") as page:
        page.add_init_script(watch)
        page.goto(api.at(f"#/runs/{run['id']}"))
        expect(page.get_by_role("img", name=re.compile("^Reward: "))).to_be_visible()
        expect(latest(page)).to_be_visible()
        assert page.evaluate("window.shifted") < 0.1
