"""Runs in a browser: their reward, their tags, by which they are found, and their deletion."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from api_server import ApiServer, queued_run, running_api
from dashboard_world import aside, begun, opened, row, step
from playwright.sync_api import Browser, expect

from neuromas.cli.main import main
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream
from neuromas.services.settings import Settings

pytestmark = pytest.mark.browser


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("tags") / "data", port=0)) as server:
        queued_run(server, name="other")
        yield server


def test_runs_are_tagged_found_by_tag_and_deleted(browser: Browser, api: ApiServer) -> None:
    run = queued_run(api, name="tagged")
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        expect(page.get_by_role("button", name="Delete", exact=True)).to_have_count(0)
        page.get_by_role("button", name="Change tags").click()
        page.get_by_role("textbox", name="Tags").fill("base-line, no$word")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("textbox", name="Tags")).to_have_attribute("aria-invalid", "true")
        page.get_by_role("textbox", name="Tags").fill("base-line seed-1")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator(".tags .alias")).to_have_text(["base-line", "seed-1"])
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_label("Search").fill("seed-1")
        expect(row(page, "tagged")).to_be_visible()
        expect(page.locator(".run:visible")).to_have_count(1)
        aside(lambda: api.change(RunRecord, run["id"], state="failed"))
        row(page, "tagged").get_by_role("link", name="tagged", exact=True).click()
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
        assert api.client.get(f"/v1/runs/{run['id']}").status_code == 200
        page.get_by_role("button", name="Delete", exact=True).click()
        page.get_by_role("button", name="Delete the run").click()
        expect(page.get_by_role("heading", name="Runs")).to_be_focused()
        expect(row(page, "tagged")).to_have_count(0)
    assert api.client.get(f"/v1/runs/{run['id']}").status_code == 404


def test_the_reward_of_a_run_is_one_figure_wherever_it_is_shown(
    browser: Browser, api: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(api, "one-figure")
    aside(lambda: api.tell(events_stream(run["id"]), step(1, 0.1), step(2, 0.9)))
    aside(lambda: api.change(RunRecord, run["id"], reward=0.25, latest={"rollout/reward_mean": 0.9}))
    assert api.client.get(f"/v1/runs/{run['id']}").json()["reward"] == 0.25
    assert main(["runs", "list", "--server", api.url]) == 0
    assert "reward, last 5 steps 0.250" in capsys.readouterr().out
    with opened(browser, api.at("#/runs")) as page:
        expect(row(page, run["name"]).locator(".run-figures")).to_contain_text(
            re.compile(r"reward, last 5 steps\s*0\.25")
        )
        page.goto(api.at(f"#/runs/{run['id']}"))
        tile = page.locator(".tile").filter(has_text="Reward, last 5 steps")
        expect(tile).to_contain_text(re.compile(r"steps\s*0\.25"))
        expect(tile).to_contain_text(re.compile(r"first\s*0\.1"))
