"""The dashboard's forms in a browser: editor, submitting, asking an endpoint, the key; and who can read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ApiServer, checkpoint_of, queued_run, running_api
from dashboard_world import ROOT, answering, aside, deployed, opened
from playwright.sync_api import Browser, Page, expect

from neuromas.report.script import asset
from neuromas.services.keys import make_key
from neuromas.services.records.key import Scope
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document, Store

pytestmark = pytest.mark.browser
QUESTION = "f 1 2"
SECTIONS = {"training": {"steps": 3, "kl_weight": 0.5}, "adapter": {"rank": 2}, "sampling": {"max_tokens": 9}}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("forms") / "data", port=0)) as server:
        yield server


def the_run(api: ApiServer, name: str) -> Document:
    """Return the one run of a name."""
    (run,) = api.client.get("/v1/runs", params={"name": name}).json()["data"]
    found: Document = run
    return found


def graph_of(page: Page) -> list[str]:
    """Return the names of the nodes in the editor's drawing."""
    return page.locator(".editor-view .node text:first-of-type").all_text_contents()


def test_faults_of_a_graph_are_shown_at_their_place(browser: Browser, api: ApiServer) -> None:
    broken = '{\n "nodes": [\n  {"id": "a"},\n  {"id": "b", "temprature": 2}\n ],\n "edges": [["a", "c"]]\n}'
    with opened(browser, api.at("#/new")) as page:
        text, faults = page.get_by_label("Graph", exact=True), page.locator(".faults li")
        expect(page.get_by_text("Valid: 3 nodes, 2 edges, 2 layers deep")).to_be_visible()
        text.fill(broken)
        expect(faults.filter(has_text="nodes[1].temprature")).to_contain_text("line 4")
        expect(faults.filter(has_text="nodes[1].temprature")).to_contain_text("did you mean 'temperature'?")
        expect(page.locator(".gutter .wrong").first).to_have_text("4")
        expect(page.get_by_role("button", name="Submit the run")).to_be_disabled()
        faults.filter(has_text="temprature").get_by_role("button", name="line 4").click()
        expect(text).to_be_focused()
        assert (
            text.evaluate("(area) => area.value.slice(area.selectionStart, area.selectionEnd)")
            .strip()
            .startswith('{"id": "b"')
        )
        text.fill('{"nodes": [\n {"id": "a"},,')
        expect(faults).to_contain_text(["expected a value"])
        expect(faults.get_by_role("button")).to_have_text("line 2")
        text.fill("pyramid 3")
        expect(faults).to_contain_text("allowed are layers, chain, tree, star, dense, random")
        text.fill("# who reads whom\na, b -> c; c -> <out>")
        expect(faults).to_contain_text('got "<out>" as a node')
        text.fill("")
        expect(faults).to_contain_text("begin with an example")
        text.fill("a, b -> c\nb, c -> out")
        expect(page.get_by_text("Valid: 4 nodes, 4 edges, 3 layers deep")).to_be_visible()
        assert sorted(graph_of(page)) == ["a", "b", "c", "out"]
        expect(page.locator(".gutter .wrong")).to_have_count(0)


def test_shorthands_are_understood(browser: Browser, api: ApiServer) -> None:
    # Each has another number of nodes than the one before: what is seen is its own check.
    shorthands = {"chain 4": 4, "layers: 2, 2": 5, "tree 2": 3, "star 3": 4, "random 5 0.5 1": 5}
    with opened(browser, api.at("#/new")) as page:
        for text, nodes in shorthands.items():
            page.get_by_label("Graph", exact=True).fill(text)
            expect(page.get_by_text(re.compile(rf"^Valid: {nodes} nodes,"))).to_be_visible()
            expect(page.locator(".editor-view .node")).to_have_count(nodes)


def test_a_run_is_submitted_as_the_form_says(browser: Browser, api: ApiServer) -> None:
    with opened(browser, api.at("#/new")) as page:
        submit = page.get_by_role("button", name="Submit the run")
        page.get_by_label("Graph", exact=True).fill("a -> b")
        page.get_by_label("Task", exact=True).select_option("tree")
        page.get_by_label("Depth").fill("9")
        expect(page.get_by_label("Depth")).to_have_attribute("aria-invalid", "true")
        expect(page.locator(".field").filter(has=page.get_by_label("Depth"))).to_contain_text("got 9")
        page.get_by_label("Depth").fill("2")
        page.get_by_text("More settings", exact=True).click()
        extra = page.get_by_label("More settings, as JSON")
        extra.fill('{"sampling": {"max_tokens": 500}}')
        expect(page.locator(".field").filter(has=extra)).to_contain_text("sampling.max_tokens: got 500")
        extra.fill("{sampling}")
        expect(page.locator(".field").filter(has=extra)).to_contain_text("line 1: not JSON")
        extra.fill('{"sampling": {"max_tokens": 9}, "training": {"kl_weight": 0.5}}')
        page.get_by_label("Name").fill("Wrong Name")
        expect(page.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
        page.get_by_label("Name").fill("by-form")
        page.get_by_label("Steps").fill("3")
        page.get_by_label("Rank").fill("2")
        page.get_by_label("Engine").select_option("transformers")
        expect(page.get_by_text("Valid: 384 calls per step")).to_be_visible()
        submit.click()
        expect(page.get_by_role("heading", name="by-form")).to_be_focused()
        expect(page.locator(".state-line .state")).to_have_text("queued")
    spec = the_run(api, "by-form")["spec"]
    assert (spec["task"], spec["engine"]["type"]) == ({"type": "tree", "depth": 2}, "transformers")
    assert [node["id"] for node in spec["topology"]["nodes"]] == ["a", "b"]
    assert {name: {key: spec[name][key] for key in part} for name, part in SECTIONS.items()} == SECTIONS


def test_a_whole_spec_goes_to_the_form_and_a_run_can_be_changed(browser: Browser, api: ApiServer) -> None:
    whole = {"name": "whole", "topology": {"star": 3}, "task": {"type": "tree", "depth": 1}, **SECTIONS}
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Graph", exact=True).fill(json.dumps(whole))
        expect(page.get_by_label("Name")).to_have_value("whole")
        expect(page.get_by_text("Valid: 4 nodes, 3 edges")).to_be_visible()
        page.get_by_role("button", name="Submit the run").click()
        expect(page.get_by_role("heading", name="whole")).to_be_visible()
        first = the_run(api, "whole")
        page.get_by_role("link", name="Change and submit again").click()
        expect(page.get_by_role("heading", name="New run")).to_be_focused()
        expect(page.get_by_label("Steps")).to_have_value("3")
        page.get_by_label("Name").fill("again")
        expect(page.get_by_text(re.compile("^Valid: .* calls per step"))).to_be_visible()
        page.get_by_role("button", name="Submit the run").click()
        expect(page.get_by_role("heading", name="again")).to_be_visible()
    assert the_run(api, "again")["spec"] == first["spec"] | {"name": "again"}


def test_the_spec_of_the_readme_can_be_pasted(browser: Browser, api: ApiServer) -> None:
    text = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[0]
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Graph", exact=True).fill(text)
        expect(page.get_by_label("Name")).to_have_value("quickstart")
        expect(page.get_by_text("Valid: 5 nodes, 4 edges")).to_be_visible()
        expect(page.get_by_label("Steps")).to_have_value("60")
        page.get_by_label("Graph", exact=True).fill('name = "a"\nsteps = = 3')
        expect(page.get_by_role("button", name="line 2")).to_be_visible()


def test_a_file_of_examples_is_brought_along(browser: Browser, api: ApiServer, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1", "answer": "2"}\n')
    (tmp_path / "broken.jsonl").write_text("what?")
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Bring a file of examples").set_input_files(tmp_path / "mine.jsonl")
        expect(page.get_by_text(re.compile("^1 examples: .*/mine.jsonl"))).to_be_visible()
        page.get_by_label("Bring a file of examples").set_input_files(tmp_path / "broken.jsonl")
        expect(page.get_by_text("expected one JSON object a line")).to_be_visible()


def test_the_graph_that_is_submitted_is_the_one_that_stands_there(browser: Browser, api: ApiServer) -> None:
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Name").fill("at-once")
        page.get_by_label("Steps").fill("3")
        expect(page.get_by_text(re.compile("^Valid: .* calls per step"))).to_be_visible()
        page.evaluate(TYPE_AND_SUBMIT, "c -> d")
        expect(page.get_by_role("heading", name="at-once")).to_be_visible()
    assert [node["id"] for node in the_run(api, "at-once")["spec"]["topology"]["nodes"]] == ["c", "d"]


TYPE_AND_SUBMIT = """(graph) => {
  const area = document.getElementById('topology-text');
  area.value = graph;
  area.dispatchEvent(new Event('input'));
  document.querySelector('.submit-row button').click();
}"""


def test_what_was_typed_stays_while_one_looks_elsewhere(browser: Browser, api: ApiServer) -> None:
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Graph", exact=True).fill("dense 3")
        page.get_by_label("Seed").fill("17")
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_role("navigation").get_by_role("link", name="New run").click()
        expect(page.get_by_label("Graph", exact=True)).to_have_value("dense 3")
        expect(page.get_by_label("Seed")).to_have_value("17")


def test_an_answer_streams_and_every_node_is_heard(browser: Browser, api: ApiServer, word_base: Path) -> None:
    topology = {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "out"}], "edges": [["a", "out"], ["b", "out"]]}
    with answering(word_base, topology, "solver") as url, opened(browser, api.at("#/endpoints")) as page:
        deployed(api, "solver", url)
        page.reload()
        page.get_by_role("link", name="solver").click()
        page.get_by_label("Question").fill(QUESTION)
        page.get_by_label("Seed").fill("5")
        page.get_by_label("Question").press("Control+Enter")
        answer = page.get_by_role("article")
        expect(answer.locator(".answer-text")).to_have_attribute("aria-busy", "false")
        said = answer.locator(".messages code")
        expect(said).to_have_count(3)
        assert answer.locator(".answer-text").inner_text() == said.last.inner_text() != ""
        expect(answer).to_contain_text("seed 5")
        expect(answer.locator(".graph .label")).to_have_count(2)
        expect(answer.locator(".graph .node.output")).to_contain_text("out")
        answer.locator('.graph [data-node="a"]').press("Enter")
        expect(answer.get_by_role("listitem").filter(has_text="to out").first).to_have_class("touched")
        expect(page.locator("#announcer")).to_have_text(f"Answer: {said.last.inner_text()}")


def test_a_message_is_changed_and_what_depends_on_it_is_asked_again(
    browser: Browser, api: ApiServer, word_base: Path
) -> None:
    nodes = [{"id": name} for name in ("a", "b", "mid", "out")]
    topology = {"nodes": nodes, "edges": [["a", "mid"], ["mid", "out"], ["b", "out"]]}
    with answering(word_base, topology, "what-if") as url, opened(browser, api.at("#/endpoints")) as page:
        deployed(api, "what-if", url)
        page.goto(api.at("#/endpoints/what-if"))
        page.get_by_label("Question").fill(QUESTION)
        page.get_by_label("Seed").fill("7")
        page.get_by_role("button", name="Ask", exact=True).click()
        expect(page.get_by_role("article").locator(".messages code")).to_have_count(4)
        said = dict(zip("abm", page.get_by_role("article").locator(".messages code").all_inner_texts(), strict=False))
        expect(page.get_by_role("button", name="Change the message of out")).to_have_count(0)
        page.get_by_role("button", name="Change the message of a", exact=True).click()
        page.get_by_role("textbox", name="Message of a").fill("A= 5")
        with page.expect_request("**/v1/chat/completions") as sent:
            page.get_by_role("button", name="Ask on").click()
        asked = json.loads(sent.value.post_data or "")
        assert (asked["seed"], asked["neuromas"]["messages"]) == (7, {"a": "A= 5", "b": said["b"]})
        newest = page.get_by_role("article").first
        expect(newest).to_contain_text("With another message of a")
        expect(newest.locator(".messages code").first).to_have_text("A= 5")
        expect(newest.locator(".messages code")).to_have_count(4)
        expect(page.get_by_role("article")).to_have_count(2)


def test_an_answer_that_fails_or_is_stopped_says_so(browser: Browser, api: ApiServer, word_base: Path) -> None:
    topology = {"nodes": [{"id": "only"}], "edges": []}
    with answering(word_base, topology, "other") as url, opened(browser, api.at("#/endpoints/gone")) as page:
        expect(page.get_by_role("alert")).to_contain_text("gone")
        deployed(api, "nobody", url)
        page.goto(api.at("#/endpoints/nobody"))
        page.get_by_label("Question").fill(QUESTION)
        page.get_by_role("button", name="Ask").click()
        expect(page.get_by_role("article").get_by_role("alert")).to_contain_text("does not exist")
        page.route("**/v1/chat/completions", lambda route: None)  # answered never
        with page.expect_request("**/v1/chat/completions"):
            page.get_by_role("button", name="Ask").click()
        page.get_by_role("button", name="Stop", exact=True).click()
        expect(page.get_by_role("article").first).to_contain_text("stopped before the answer began")
        expect(page.get_by_role("button", name="Ask")).to_be_enabled()


def test_an_endpoint_is_swapped_and_stopped(browser: Browser, api: ApiServer) -> None:
    endpoint = deployed(api, "changes", "http://127.0.0.1:9")
    run = api.client.get(f"/v1/runs/{endpoint['run']}").json()
    newer = aside(lambda: checkpoint_of(api, run, 7, 0.75))
    with opened(browser, api.at("#/endpoints/changes")) as page:
        page.get_by_role("button", name="Swap checkpoint").click()
        page.get_by_label("Checkpoint of the same run").select_option(newer["id"])
        page.get_by_role("dialog").get_by_role("button", name="Swap").click()
        expect(page.locator(".page-head .about")).to_contain_text(newer["id"])
        page.get_by_role("button", name="Stop endpoint").click()
        page.get_by_role("button", name="Stop it").click()
        expect(page.locator(".state-line .state")).to_have_text("stopping")
        expect(page.get_by_role("button", name="Swap checkpoint")).to_have_count(0)
    changed = api.client.get("/v1/endpoints/changes").json()
    assert (changed["checkpoint"], changed["generation"], changed["wanted"]) == (newer["id"], 2, "stop")


def test_a_key_is_asked_for_and_kept_in_the_tab_only(browser: Browser, tmp_path: Path) -> None:
    async def make(store: Store) -> tuple[str, str]:
        _, reader = await make_key(store, "reader", [Scope.READ])
        _, trainer = await make_key(store, "trainer", [Scope.READ, Scope.TRAIN])
        return reader, trainer

    with running_api(Settings(data_dir=tmp_path / "data", port=0, auth="keys")) as api:
        reader, trainer = aside(lambda: api.store(make))
        with opened(browser, api.at("#/new")) as page:
            expect(page.get_by_role("heading", name="API key")).to_be_visible()
            page.get_by_label("API key", exact=True).fill("nmk_wrong")
            page.get_by_role("button", name="Use this key").click()
            field = page.get_by_label("API key", exact=True)
            expect(field).to_have_accessible_description(re.compile("key is not valid"))
            page.get_by_label("API key", exact=True).fill(reader)
            page.get_by_role("button", name="Use this key").click()
            expect(page.get_by_role("heading", name="New run")).to_be_visible()
            expect(page.get_by_text("calls per step")).to_be_visible()
            page.get_by_role("button", name="Submit the run").click()
            expect(page.get_by_role("alert")).to_contain_text("lacks the scope train")
            page.get_by_role("link", name="use another").click()
            page.get_by_label("API key", exact=True).fill(trainer)
            page.get_by_role("button", name="Use this key").click()
            expect(page.get_by_text("No runs yet")).to_be_visible()
            page.reload()
            expect(page.get_by_text("No runs yet")).to_be_visible()
            assert page.evaluate("localStorage.length") == 0
            assert page.context.cookies() == []
            assert trainer not in page.content()
            page.get_by_role("link", name="Key set").click()
            page.get_by_role("button", name="Forget it").click()
            assert page.evaluate("sessionStorage.length") == 0
            page.get_by_role("link", name="Runs", exact=True).click()
            expect(page.get_by_role("heading", name="API key")).to_be_visible()


def test_a_server_that_is_away_is_told_and_what_was_seen_stays(browser: Browser, api: ApiServer) -> None:
    run = queued_run(api, name="seen-before")
    with opened(browser, api.at("#/runs")) as page:
        expect(page.get_by_role("link", name=run["name"])).to_be_visible()
        page.route("**/v1/**", lambda route: route.abort())
        expect(page.locator("#offline")).to_contain_text("The server cannot be reached")
        expect(page.get_by_role("link", name=run["name"])).to_be_visible()
        page.unroute_all()
        expect(page.locator("#offline")).to_be_hidden()
        page.goto(api.at("#/runs/run_0000000000000000"))
        expect(page.get_by_role("alert")).to_contain_text("run_0000000000000000")


def test_an_empty_list_says_what_to_do(browser: Browser, tmp_path: Path) -> None:
    with running_api(Settings(data_dir=tmp_path / "data", port=0)) as empty, opened(browser, empty.url) as page:
        expect(page.get_by_text("No runs yet")).to_be_visible()
        page.get_by_role("link", name="Endpoints").click()
        expect(page.get_by_text("No endpoints yet")).to_be_visible()
        page.get_by_role("link", name="Go to the runs").click()
        page.get_by_role("link", name="Make the first run").click()
        expect(page.get_by_role("heading", name="New run")).to_be_focused()


def test_the_keyboard_reaches_the_content_first(browser: Browser, api: ApiServer) -> None:
    with opened(browser, api.at("#/runs")) as page:
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(scheme: str) -> None:
    style = asset("palette.css")
    light, dark = re.split(r"@media \(prefers-color-scheme: dark\)", style, maxsplit=1)
    colors = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", light))
    if scheme == "dark":
        colors |= dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", dark))
    texts = ("ink", "soft", "accent", "good", "bad", "greedy", "sampled", *(f"node-{rank}" for rank in range(8)))
    poor = {
        f"{text} on {ground}": round(contrast(colors[text], colors[ground]), 2)
        for text in texts
        for ground in ("page", "card")
        if contrast(colors[text], colors[ground]) < 4.5
    }
    assert poor == {}
    assert contrast(colors["warn"], colors["card"]) >= 4.5
    assert contrast(colors["on-accent"], colors["accent"]) >= 4.5
    assert contrast(colors["control"], colors["card"]) >= 3


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 measures it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
