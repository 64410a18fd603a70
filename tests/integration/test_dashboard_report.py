"""A report in a browser, as a file: what is drawn, what can be asked of it, and what is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from dashboard_world import PHONE, opened
from playwright.sync_api import Browser, Page, expect

from neuromas.journal.events import Evaluated, Event, StageEnded, StageStarted, StepDone
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.report.page import write_report
from neuromas.topology.builders import tree

STEPS = 100
REWARD = re.compile(r"^Reward: ")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the report of a run of 100 steps of a large graph."""
    folder = tmp_path_factory.mktemp("report") / "run"
    RunFolder(folder).create({"name": "drawn", "seed": 7, "base": "tiny", "task": {"type": "chain", "hops": 3}})
    topology = tree(6).to_document()
    events: list[Event] = [
        StageStarted(stage=0, name="only", topology=topology, level=2, steps=STEPS, trainable_parameters=10)
    ]
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


def ticks_of(page: Page) -> list[str]:
    return page.get_by_role("img", name=REWARD).locator(".tick.middle").all_text_contents()


def test_values_are_read_under_the_pointer(page: Page) -> None:
    chart = page.get_by_role("img", name=REWARD)
    expect(chart).to_have_attribute("aria-label", re.compile("chance 13 % at 100"))
    expect(chart).to_have_attribute("aria-label", re.compile("reward of each step 100 % at 100"))
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 13, box["y"] + 100)
    expect(page.locator(".readout").first).to_have_text(re.compile(r"^step 100: .*reward of each step 100 %"))


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
    assert "100" not in ticks_of(page)  # its place is the axis' name
    page.get_by_role("button", name="Zoom in").click()
    expect(page.get_by_role("img", name=REWARD).locator(".tick.middle").first).to_have_text("30")
    page.get_by_role("button", name="Later steps").click()
    expect(page.get_by_role("img", name=REWARD).locator(".tick.middle").first).not_to_have_text("30")
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
    shown = [int(text) for text in ticks_of(page)]
    assert 50 < min(shown) <= max(shown) < 85


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
