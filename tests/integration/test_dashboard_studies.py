"""An analysis and a diagnosis in a browser: asked for, given up and read on a run's page, and read in its report."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ApiServer, checkpoint_of, queued_run, running_api
from dashboard_world import PHONE, adopt, aside, opened, trained_run
from playwright.sync_api import Browser, Locator, Page, expect

from neuromas.journal.folder import RunFolder
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document
from neuromas.workflows.analyze import analyze
from neuromas.workflows.diagnose import diagnose

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was analysed and diagnosed."""
    folder = trained_run(tmp_path_factory.mktemp("studied"))
    analyze(folder, examples=4)
    diagnose(folder, questions=4, calls=6)
    return folder


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("dashboard") / "data", port=0)) as server:
        yield server


def found_in(folder: Path) -> dict[str, Document]:
    return {kind: RunFolder(folder).read_json(f"{kind}.json") for kind in ("analysis", "diagnosis")}


def expect_findings(place: Page | Locator, folder: Path) -> None:
    """Everything that the two documents say of nodes, edges and adapters stands in the tables."""
    found = found_in(folder)
    worth = place.get_by_role("group", name="What each message is worth")
    changes = sum(len(node["changes"]) for node in found["analysis"]["nodes"]) + len(found["analysis"]["edges"])
    expect(worth.locator("tbody tr")).to_have_count(changes + 1)  # and the exchange
    edge = found["analysis"]["edges"][0]
    points = f"{100 * edge['effect']['gain']:+.1f}"
    expect(worth.get_by_role("row").filter(has_text=edge["change"])).to_contain_text(points)
    adapters = place.get_by_role("group", name="Adapters", exact=True)
    for adapter in found["diagnosis"]["adapters"]:
        row = adapters.get_by_role("row").filter(has_text=re.compile(f"^{adapter['adapter']}"))
        expect(row).to_contain_text(f"of {adapter['calls']}")
        expect(row).to_contain_text(", ".join(adapter["targets"]) or "no signal")
    expect(place.get_by_role("img", name="Spectrum of each kernel")).to_be_visible()
    expect(place.get_by_text("questions have both better and worse answers")).to_be_visible()


@pytest.mark.parametrize("size", [None, PHONE])
def test_a_report_tells_what_was_found(browser: Browser, folder: Path, size: dict[str, int] | None) -> None:
    with opened(browser, (folder / "report.html").as_uri(), **({"viewport": size} if size else {})) as page:
        expect_findings(page, folder)
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1]


def test_a_runs_page_tells_what_was_found(browser: Browser, api: ApiServer, folder: Path) -> None:
    run = aside(lambda: adopt(api, folder))
    for kind, result in found_in(folder).items():
        wish = {"checkpoint": f"{run['id']}@latest", "kind": kind}
        id = api.client.post("/v1/evaluations", json=wish).json()["id"]
        aside(lambda id=id, result=result: api.change(EvaluationRecord, id, state="succeeded", result=result))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        page.locator("summary", has_text="Analysis").click()
        page.locator("summary", has_text="Diagnosis").click()
        expect_findings(page.locator("main"), folder)
        # A look at what has come since leaves open what is open.
        api.client.post("/v1/evaluations", json={"checkpoint": f"{run['id']}@latest", "examples": 7})
        page.reload()
        page.locator("summary", has_text="Diagnosis").click()
        page.get_by_role("button", name=re.compile("Cancel the accuracy")).click()
        expect(page.get_by_role("group", name="Evaluations")).to_contain_text("cancelled")
        expect(page.get_by_role("img", name="Spectrum of each kernel")).to_be_visible()


def test_an_analysis_and_a_diagnosis_are_asked_for_and_given_up(browser: Browser, api: ApiServer) -> None:
    run = queued_run(api, name="asked")
    checkpoint = aside(lambda: checkpoint_of(api, run, 2, 0.5))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        for kind, examples in (("analysis", "9"), ("diagnosis", "")):
            page.get_by_role("button", name="Evaluate checkpoint of step 2").click()
            page.get_by_label("What to find out").select_option(kind)
            expect(page.get_by_label("Sampled answers too")).to_be_hidden()
            page.get_by_label("Held-out examples").fill(examples)
            if kind == "diagnosis":
                page.get_by_label("Messages of each adapter").fill("0")
                page.get_by_role("dialog").get_by_role("button", name="Evaluate").click()
                expect(page.get_by_label("Messages of each adapter")).to_have_attribute("aria-invalid", "true")
                page.get_by_label("Messages of each adapter").fill("12")
            page.get_by_role("dialog").get_by_role("button", name="Evaluate").click()
            expect(page.locator(".evaluation").filter(has_text=kind.capitalize())).to_contain_text("queued")
        page.get_by_role("button", name=re.compile("Cancel the diagnosis")).click()
        expect(page.locator(".evaluation").filter(has_text="Diagnosis")).to_contain_text("cancelled")
    found = {one["kind"]: one for one in api.client.get("/v1/evaluations", params={"run": run["id"]}).json()["data"]}
    assert {kind: one["state"] for kind, one in found.items()} == {"analysis": "queued", "diagnosis": "cancelled"}
    assert (found["analysis"]["examples"], found["diagnosis"]["examples"], found["diagnosis"]["calls"]) == (9, None, 12)
    assert {one["checkpoint"] for one in found.values()} == {checkpoint["id"]}
