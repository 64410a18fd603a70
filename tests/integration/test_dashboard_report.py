"""A report in a browser, as a file: what is drawn, what can be asked of it, and what is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from dashboard_world import PHONE, opened
from playwright.sync_api import Browser, Locator, Page, expect

from neuromas.base.resolve import resolve_base
from neuromas.journal.events import (
    Evaluated,
    Event,
    QuestionsAsked,
    RolloutsSampled,
    StageEnded,
    StageStarted,
    StepDone,
)
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.report.page import write_report
from neuromas.rollout.prompt import make_renderer
from neuromas.rollout.record import NodeCall, Provenance, Rollout
from neuromas.spec.parts import PromptSpec
from neuromas.tasks.chain import ChainTask
from neuromas.topology.builders import tree

STEPS = 100
GRAPH = tree(6)
REWARD = re.compile(r"^Reward: ")


def rollout(split: Literal["train", "test"], index: int, step: int, text: str, reward: float) -> Rollout:
    example = ChainTask(hops=2).example(split, index)
    renderer = make_renderer(PromptSpec(), resolve_base("tiny"))
    prompts = {node: renderer.render(GRAPH, node, example, ()) for node in ("n1", "n2")}
    calls = tuple(
        NodeCall(node, None, prompt, (2,), (-0.1,), "stop", f"{text} by {node}") for node, prompt in prompts.items()
    )
    return Rollout("hash", Provenance("run", 0, step), example, 0, 0, calls, text, reward)


def asked(step: int) -> tuple[Rollout, ...]:
    """Two questions: the first is answered right in the end."""
    return tuple(rollout("test", at, step, f"at {step}", float(step == STEPS and at == 0)) for at in range(2))


def sampled(step: int) -> Rollout:
    return rollout("train", step, step, f"said {step}", float(step > 50))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the report of a run of 100 steps of a large graph."""
    folder = tmp_path_factory.mktemp("report") / "run"
    RunFolder(folder).create({"name": "drawn", "seed": 7, "base": "tiny", "task": {"type": "chain", "hops": 3}})
    topology = GRAPH.to_document()
    events: list[Event] = [
        StageStarted(stage=0, name="only", topology=topology, level=2, steps=STEPS, trainable_parameters=10)
    ]
    events += [QuestionsAsked(stage=0, step=step, rollouts=asked(step)) for step in (0, 20, STEPS)]
    events += [RolloutsSampled(stage=0, step=step, rollouts=(sampled(step),)) for step in range(1, STEPS, 4)]
    for step in range(1, STEPS + 1):
        metrics = {"rollout/reward_mean": step / STEPS, "stage/chance": 0.125, "train/entropy/n1": 1.0}
        events.append(StepDone(stage=0, step=step, metrics=metrics))
    events += [
        Evaluated(stage=0, step=50, level=2, mode="greedy", correct=48, examples=64),
        StageEnded(stage=0, name="only", steps=STEPS, reason="budget"),
    ]
    writer = RunWriter(folder)
    for event in events:
        writer(event)
    writer.close()
    return write_report(folder).as_uri()


@pytest.fixture
def page(browser: Browser, report: str) -> Iterator[Page]:
    with opened(browser, report) as page:
        yield page


def ticks_of(page: Page) -> Locator:
    return page.get_by_role("img", name=REWARD).locator(".tick.middle")


def test_values_are_read_under_the_pointer(page: Page) -> None:
    chart = page.get_by_role("img", name=REWARD)
    expect(chart).to_have_attribute("aria-label", re.compile("chance 12.5 % at 100"))
    expect(chart).to_have_attribute("aria-label", re.compile("reward of each step 100.0 % at 100"))
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 13, box["y"] + 100)
    expect(page.locator(".readout").first).to_have_text(re.compile(r"^step 100: .*reward of each step 100.0 %"))


def test_lines_are_hidden_and_shown(page: Page) -> None:
    name = page.get_by_role("button", name="reward of each step")
    line = page.get_by_role("img", name=REWARD).locator("polyline.faint")
    expect(line).to_have_count(1)
    name.click()
    expect(line).to_have_count(0)
    expect(name).to_be_focused()
    expect(name).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Enter")
    expect(line).to_have_count(1)


def test_without_smoothing_the_mean_is_the_reward(page: Page) -> None:
    chart = page.get_by_role("img", name=REWARD)
    smooth = chart.locator("polyline.line").get_attribute("points")
    assert smooth != chart.locator("polyline.faint").get_attribute("points")
    page.get_by_label("Smoothing").select_option("none")
    raw = chart.locator("polyline.faint").get_attribute("points") or ""
    expect(chart.locator("polyline.line")).to_have_attribute("points", raw)


def test_a_stretch_of_the_steps_is_enlarged(page: Page) -> None:
    expect(ticks_of(page).filter(has_text="100")).to_have_count(0)  # its place is the axis' name
    page.get_by_role("button", name="Zoom in").click()
    expect(ticks_of(page).first).to_have_text("30")
    page.get_by_role("button", name="Later steps").click()
    expect(ticks_of(page).first).not_to_have_text("30")
    expect(page.get_by_role("button", name="Later steps")).to_be_disabled()
    page.get_by_role("button", name="Zoom out").click()
    expect(page.get_by_role("button", name="Zoom out")).to_be_disabled()
    box = page.get_by_role("img", name=REWARD).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 120)
    page.mouse.up()
    expect(page.get_by_role("button", name="Zoom out")).to_be_enabled()
    expect(ticks_of(page).first).to_have_text(re.compile("^(5[1-9]|[67][0-9])$"))
    expect(ticks_of(page).last).to_have_text(re.compile("^([67][0-9]|8[0-4])$"))


def test_what_is_drawn_is_saved_as_csv(page: Page) -> None:
    page.get_by_role("button", name="moving mean").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the lines shown as CSV").click()
    lines = saved.value.path().read_text().splitlines()
    assert lines[0] == 'step,chance,reward of each step,"validation accuracy, greedy"'
    assert lines[1] == "1,0.125,0.01,"
    assert lines[50] == "50,0.125,0.5,0.75"
    assert len(lines) == 1 + STEPS


def test_a_large_graph_fits_and_is_enlarged_by_the_keyboard(page: Page) -> None:
    pane = page.get_by_role("region", name=re.compile("^graph of 63 nodes"))
    drawing = pane.locator("svg")
    expect(drawing).to_have_attribute("style", re.compile("width"))  # fitted, with the first frame
    assert pane.evaluate("one => [one.scrollWidth <= one.clientWidth, one.scrollHeight <= one.clientHeight]") == [
        True,
        True,
    ]
    fitted = drawing.evaluate("one => one.getBoundingClientRect().width")
    pane.focus()
    page.keyboard.press("+")
    assert drawing.evaluate("one => one.getBoundingClientRect().width") == pytest.approx(1.4 * fitted, rel=0.01)
    page.keyboard.press("0")
    assert drawing.evaluate("one => one.getBoundingClientRect().width") == pytest.approx(fitted, rel=0.01)
    page.get_by_role("button", name="Make the graph larger").click()
    page.get_by_role("button", name="Fit the graph").click()
    assert drawing.evaluate("one => one.getBoundingClientRect().width") == pytest.approx(fitted, rel=0.01)


def test_the_same_questions_are_shown_over_time(page: Page) -> None:
    table = page.get_by_role("region", name="Answers over time")
    assert table.get_by_role("columnheader").all_inner_texts() == [
        "question",
        "expected",
        "step 0",
        "step 20",
        "step 100",
    ]
    expect(table.get_by_role("rowheader").first).to_have_text(ChainTask(hops=2).example("test", 0).prompt)
    first = table.get_by_role("row").nth(1).get_by_role("button")
    assert first.all_inner_texts() == ["at 0\nwrong", "at 20\nwrong", "at 100\nright"]
    first.last.click()
    expect(first.last).to_have_attribute("aria-pressed", "true")
    said = page.locator("section", has=table).locator(".rollout")
    expect(said.locator(".messages code")).to_have_text(["at 100 by n1", "at 100 by n2"])
    first.last.press("Enter")
    expect(said).to_have_count(0)


def test_all_rollouts_are_searched_page_by_page(page: Page) -> None:
    part = page.locator("section", has=page.get_by_role("heading", name="What the nodes say"))
    answers = part.locator(".rollout > .expected code:first-of-type")
    expect(answers).to_have_text([f"said {step}" for step in range(1, 41, 4)])
    part.get_by_role("button", name="Later").click()
    expect(answers).to_have_text([f"said {step}" for step in range(41, 81, 4)])
    part.get_by_role("button", name="Earlier").click()
    expect(answers.first).to_have_text("said 1")
    part.get_by_label("Result").select_option("right")
    expect(answers.first).to_have_text("said 53")
    part.get_by_label("To step").fill("60")
    part.get_by_label("To step").press("Enter")
    expect(answers).to_have_text(["said 53", "said 57"])
    part.get_by_label("Node").fill("n2")
    part.get_by_label("Contains").fill("57 BY N2")
    part.get_by_label("Contains").press("Enter")
    expect(answers).to_have_text(["said 57"])
    part.get_by_label("Node").fill("n1")
    part.get_by_label("Node").press("Enter")
    expect(part.get_by_role("status")).to_have_text("None is as asked for.")


def test_what_a_node_read_is_unfolded_and_stays_open(page: Page) -> None:
    part = page.locator("section", has=page.get_by_role("heading", name="What the nodes say"))
    first = part.locator(".rollout").first
    read = first.locator("details", has_text="What n2 read").locator("pre")
    expect(read).to_be_hidden()
    first.get_by_text("What n2 read").click()
    expect(read).to_have_text(f"<bos> {ChainTask(hops=2).example('train', 1).prompt} @ L1 N2 >")
    first.get_by_role("button", name="n1", exact=True).click()
    expect(read).to_be_visible()
    table = page.get_by_role("region", name="Answers over time")
    table.get_by_role("button").first.click()
    asked = page.locator("section", has=table).locator(".rollout")
    asked.get_by_text("What n1 read").press("Enter")
    expect(asked.locator("pre").first).to_have_text(f"<bos> {ChainTask(hops=2).example('test', 0).prompt} @ L1 N1 >")


def test_a_report_asks_for_nothing_and_opens_without_a_network(browser: Browser, report: str) -> None:
    requests: list[str] = []
    with opened(browser, "about:blank", offline=True) as page:
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report)
        expect(page.get_by_role("img", name=REWARD)).to_be_visible()
        expect(page.locator(".rollout").first).to_be_visible()
        page.get_by_role("region", name="Answers over time").get_by_role("button").first.click()
        page.wait_for_load_state("networkidle")
    assert requests == [report]


def test_paper_keeps_colours_and_shows_no_buttons(page: Page) -> None:
    page.emulate_media(media="print")
    assert page.locator(".chart-tools").is_hidden()
    assert page.locator(".zoom-tools").is_hidden()
    adjusted = "one => getComputedStyle(one).printColorAdjust || getComputedStyle(one).webkitPrintColorAdjust"
    assert page.locator("section").first.evaluate(adjusted) == "exact"
    kept = "one => getComputedStyle(one).breakInside"
    assert {page.locator(name).first.evaluate(kept) for name in (".chart-figure", ".zoom-pane", "tr")} == {"avoid"}


def test_a_phone_scrolls_down_only(browser: Browser, report: str) -> None:
    with opened(browser, report, viewport=PHONE) as page:
        expect(page.get_by_role("img", name=REWARD)).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
