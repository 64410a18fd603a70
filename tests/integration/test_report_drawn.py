"""A report in a browser: its curves are drawn, read, switched and smoothed by the script in it, without a network."""

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from neuromas.journal.events import Evaluated, StageEnded, StageStarted, StepDone
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.report.page import write_report
from neuromas.topology.builders import chain


def report(folder: Path) -> Path:
    RunFolder(folder).create({"name": "drawn", "seed": 7, "base": "tiny", "task": {"type": "chain", "hops": 3}})
    writer = RunWriter(folder)
    for stage, nodes in enumerate((2, 3)):
        document = chain(nodes).to_document()
        name = f"stage-{stage}"
        writer(StageStarted(stage=stage, name=name, topology=document, level=nodes, steps=4, trainable_parameters=1))
        for step in range(1, 5):
            metrics = {"rollout/reward_mean": step / 5, "train/entropy/n1": 1.0, "stage/chance": 0.125}
            writer(StepDone(stage=stage, step=step, metrics=metrics))
        writer(Evaluated(stage=stage, step=4, level=nodes, mode="greedy", correct=48, examples=64))
        writer(StageEnded(stage=stage, name=name, steps=4, reason="budget"))
    writer.close()
    return write_report(folder)


def test_curves_are_drawn_read_switched_and_smoothed(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(report(tmp_path / "run").as_uri())
    curve = page.get_by_role("img", name=re.compile("^Reward: "))
    expect(curve).to_have_attribute("aria-label", re.compile(r"chance 12.5 %|chance 13 %"))
    expect(curve.locator("polyline.level")).to_have_count(1)
    expect(curve.locator("polyline.line")).to_have_count(2)  # the moving mean of each stage by itself
    expect(curve.locator(".mark-label")).to_have_text(["2 nodes, level 2", "3 nodes, level 3"])

    box = curve.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 40)
    expect(page.locator(".readout").first).to_contain_text("step 8: reward of each step 80 %, moving mean")

    means = curve.locator("polyline.line").first
    before = means.get_attribute("points")
    page.get_by_label("smoothing").first.fill("0")
    raw = curve.locator("polyline.faint").get_attribute("points") or ""
    expect(means).to_have_attribute("points", raw.split(" ", 4)[0] + " " + " ".join(raw.split(" ")[1:4]))
    assert before != means.get_attribute("points")

    switch = page.get_by_role("button", name="moving mean")
    switch.click()
    expect(curve.locator("polyline.line")).to_have_count(0)
    expect(switch).to_have_attribute("aria-pressed", "false")
    switch.press("Enter")
    expect(curve.locator("polyline.line")).to_have_count(2)
    assert faults == []
    context.close()
