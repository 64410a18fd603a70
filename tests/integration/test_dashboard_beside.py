"""What the dashboard puts side by side: lines beside a run's reward, answers of an endpoint below each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ApiServer, running_api
from dashboard_world import answering, aside, begun, deployed, opened, step
from playwright.sync_api import Browser, expect

from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream
from neuromas.services.settings import Settings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("beside") / "data", port=0)) as server:
        yield server


def test_another_run_a_guess_and_the_bare_base_are_drawn_beside_the_reward(browser: Browser, api: ApiServer) -> None:
    run, other = begun(api, "in-question"), begun(api, "to-compare")
    for one, rewards in ((run, (0.25, 0.5)), (other, (0.75, 0.875, 1.0))):
        steps = [step(number, reward, **{"stage/chance": 0.125}) for number, reward in enumerate(rewards, 1)]
        aside(lambda one=one, steps=steps: api.tell(events_stream(one["id"]), *steps))  # type: ignore[misc]
    figure = {"correct": 6, "examples": 8, "value": 0.75, "low": 0.4, "high": 0.9}
    bare = figure | {"value": 0.0625}
    result = {"accuracy": {"greedy": figure, "sampled": figure, "untrained": bare, "untrained_sampled": bare}}
    aside(lambda: api.change(RunRecord, run["id"], state="succeeded", result=result))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        curve = page.get_by_role("img", name=re.compile(r"^Reward: "))
        untrained = (f"untrained, {mode}, 6.3 % 6.3 % at 2" for mode in ("greedy", "sampled"))
        for line in ("chance 12.5 % at 2", *untrained):
            expect(curve).to_have_attribute("aria-label", re.compile(re.escape(line)))
        expect(curve.locator("polyline.level")).to_have_count(3)
        title = f"to-compare, {other['id']}"
        expect(page.get_by_role("button", name=title)).to_have_count(0)
        page.get_by_label("Beside").focus()
        page.get_by_label("Beside").select_option(title)
        # Their moving mean: (.64 * .75 + .8 * .875 + 1) / (.64 + .8 + 1) = .893.
        expect(curve).to_have_attribute("aria-label", re.compile(rf"{title} 89.3 % at 3"))
        expect(curve).to_have_attribute("aria-label", re.compile("each step 50.0 % at 2"))
        page.get_by_label("Beside").select_option("no other run")
        expect(page.get_by_role("button", name=title)).to_have_count(0)
        expect(curve).not_to_have_attribute("aria-label", re.compile("to-compare"))


def test_the_accuracy_says_of_which_questions_it_is(browser: Browser, api: ApiServer) -> None:
    run = begun(api, "two-accuracies")
    stream = events_stream(run["id"])
    evaluated = {"type": "evaluated", "stage": 0, "step": 1, "mode": "sampled", "correct": 5, "examples": 8}
    evaluated |= {"time_s": 1002.0, "level": None, "purpose": "evaluation"}
    aside(lambda: api.tell(stream, step(1, 0.5), evaluated))
    aside(lambda: api.change(RunRecord, run["id"], accuracy=0.75))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        tile = page.locator(".tile").filter(has_text="accuracy")
        expect(tile).to_have_text("Validation accuracy75.0 %greedy; sampled 62.5 %")
        figure = {"correct": 31, "examples": 32, "value": 0.96875, "low": 0.84, "high": 0.99}
        result = {"accuracy": {"greedy": figure | {"value": 1.0}, "sampled": figure}}
        aside(lambda: api.change(RunRecord, run["id"], state="succeeded", result=result, accuracy=1.0))
        aside(lambda: api.tell(stream, {"type": "state", "state": "succeeded", "attempt": 1, "time_s": 1005.0}))
        expect(tile).to_have_text("Test accuracy100.0 %greedy; sampled 96.9 %")


def test_every_answer_is_a_landmark_of_its_own(browser: Browser, api: ApiServer, word_base: Path) -> None:
    topology = {"nodes": [{"id": "a"}, {"id": "out"}], "edges": [["a", "out"]]}
    with answering(word_base, topology, "twice") as url, opened(browser, api.at("#/endpoints")) as page:
        deployed(api, "twice", url)
        page.goto(api.at("#/endpoints/twice"))
        page.get_by_label("Question").fill("f 1 2")
        for answers in (1, 2):
            page.get_by_role("button", name="Ask", exact=True).click()
            expect(page.get_by_role("article")).to_have_count(answers)
            expect(page.get_by_role("article").first.locator(".messages code")).to_have_count(2)
        drawings = page.get_by_role("article").get_by_role("region")
        expect(drawings).to_have_count(2)
        names = [f"What every node said, drawn: answer {number}" for number in (1, 2)]
        for name in names:
            expect(page.get_by_role("region", name=name, exact=True)).to_have_count(1)
        # No two landmarks of one role have one name (axe: landmark-unique).
        lines = (line.strip(" -:") for line in page.locator("body").aria_snapshot().splitlines())
        landmarks = [line for line in lines if re.match(r"(region|navigation|main|form|search|banner)\b", line)]
        assert len(landmarks) >= 4
        assert len(set(landmarks)) == len(landmarks)
