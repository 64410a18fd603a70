"""What is put into a form wrongly is told beside its field; put right, it goes through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from api_server import ApiServer, checkpoint_of, queued_run, running_api
from dashboard_world import aside, opened
from playwright.sync_api import Browser, Page, expect

from neuromas.adapters.export import CONFIG, WEIGHTS, write_peft_folder
from neuromas.adapters.ref import PlainLora
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.records.run import RunRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("faults") / "data", port=0)) as server:
        yield server


def expect_fault(page: Page, label: str, text: str) -> None:
    """A field is marked, says what is wrong with it, also to who hears the page, and has the focus."""
    field = page.get_by_label(label, exact=True)
    expect(field).to_have_accessible_description(re.compile(f"{re.escape(text)}$"))
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    expect(page.locator(".problem")).to_have_count(0)


def type_into(page: Page, label: str, text: str) -> None:
    """Put a text into a field key by key: one of numbers is given none at once that is no number."""
    page.get_by_label(label, exact=True).fill("")
    page.get_by_label(label, exact=True).press_sequentially(text)


def run_with_checkpoint(api: ApiServer, name: str) -> tuple[Document, Document]:
    run = queued_run(api, name=name)
    return run, checkpoint_of(api, run, 2, 0.5)


def test_an_evaluation_that_was_refused_is_put_right(browser: Browser, api: ApiServer) -> None:
    run, _ = aside(lambda: run_with_checkpoint(api, "measured"))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        page.get_by_role("button", name="Evaluate checkpoint of step 2").click()
        evaluate = page.get_by_role("dialog").get_by_role("button", name="Evaluate")
        for typed, fault in (("0", "got 0; allowed is at least 1"), ("1e", "got 'no number'; expected an integer")):
            type_into(page, "Held-out examples", typed)
            evaluate.click()
            expect_fault(page, "Held-out examples", fault)
        type_into(page, "Held-out examples", "16")
        evaluate.click()
        expect(page.get_by_role("group", name="Evaluations")).to_contain_text("queued")
    (evaluation,) = api.client.get("/v1/evaluations", params={"run": run["id"]}).json()["data"]
    assert evaluation["examples"] == 16


def test_a_deployment_and_tags_are_put_right(browser: Browser, api: ApiServer) -> None:
    run, _ = aside(lambda: run_with_checkpoint(api, "deployed"))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        page.get_by_role("button", name="Change tags").click()
        type_into(page, "Tags", "fine no$word")
        page.get_by_role("button", name="Save", exact=True).click()
        expect_fault(page, "Tags", "got 'no$word'; allowed is text that matches ^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}$")
        page.get_by_role("button", name="Back").click()
        page.get_by_role("button", name="Deploy checkpoint of step 2").click()
        deploy = page.get_by_role("dialog").get_by_role("button", name="Deploy")
        type_into(page, "Name", "Not A Name")
        deploy.click()
        expect_fault(page, "Name", "got 'Not A Name'; allowed is text that matches ^[a-z0-9][a-z0-9._-]{0,62}$")
        type_into(page, "Name", "a-name")
        type_into(page, "Replicas", "1000")
        deploy.click()
        expect_fault(page, "Replicas", "got 1000; this service has at most 4")
        expect(page.get_by_label("Name", exact=True)).to_have_attribute("aria-invalid", "false")
        type_into(page, "Replicas", "2")
        deploy.click()
        expect(page.get_by_role("heading", name="a-name")).to_be_visible()
        page.get_by_role("button", name="Swap checkpoint").click()
        type_into(page, "Or of another", "gone")
        page.get_by_role("dialog").get_by_role("button", name="Swap").click()
        expect_fault(page, "Or of another", "there is no checkpoint 'gone'; give its id, <run>@latest or <run>@best")


def test_a_question_is_put_right(browser: Browser, api: ApiServer) -> None:
    _, checkpoint = aside(lambda: run_with_checkpoint(api, "asked"))
    endpoint = api.client.post("/v1/endpoints", json={"name": "asked", "checkpoint": checkpoint["id"]}).json()
    aside(lambda: api.change(EndpointRecord, endpoint["id"], state="ready", url="http://127.0.0.1:9"))
    with opened(browser, api.at("#/endpoints/asked")) as page:
        ask = page.get_by_role("button", name="Ask", exact=True)
        ask.click()
        expect_fault(page, "Question", "Write a question first.")
        type_into(page, "Question", "f 1 2")
        for label, usual, typed, fault in (
            ("Temperature", "0", "9", "got 9; allowed is at most 2.0"),
            ("Temperature", "0", "1e", "got 'no number'; expected a number"),
            ("Seed", "", "1.5", "got 1.5; expected an integer"),
        ):
            type_into(page, label, typed)
            ask.click()
            expect_fault(page, label, fault)
            type_into(page, label, usual)
        expect(page.get_by_role("article")).to_have_count(0)
        expect(page.get_by_label("Question")).to_have_attribute("aria-invalid", "false")


def test_numbers_of_a_run_that_are_none_are_not_the_usual_ones(
    browser: Browser, api: ApiServer, tmp_path: Path
) -> None:
    examples = tmp_path / "no name.jsonl"
    examples.write_text('{"question": "1 + 1 =", "answer": "2"}\n')
    with opened(browser, api.at("#/new")) as page:
        type_into(page, "Steps", "1e")
        expect_fault(page, "Steps", "got 'no number'; expected an integer")
        expect(page.get_by_text("Not valid yet")).to_be_visible()
        page.get_by_label("Bring a file of examples").set_input_files(examples)
        expect(page.get_by_label("Bring a file of examples")).to_have_accessible_description(
            re.compile("^got 'no name.jsonl'; allowed is text that matches ")
        )
        aside(lambda: run_with_checkpoint(api, "grows"))
        (run,) = api.client.get("/v1/runs", params={"name": "grows"}).json()["data"]
        page.goto(api.at(f"#/runs/{run['id']}/grow"))
        type_into(page, "Task level", "0")
        expect_fault(page, "Task level", "got 0; allowed is at least 1")


def test_nodes_begin_with_adapters_that_are_chosen_as_files(browser: Browser, api: ApiServer, tmp_path: Path) -> None:
    pairs = {"model.q_proj": (np.zeros((2, 8), np.float32), np.zeros((8, 2), np.float32))}
    write_peft_folder(PlainLora(2, pairs), "tiny", tmp_path / "made")
    files = [tmp_path / "made" / file for file in (CONFIG, WEIGHTS)]
    (tmp_path / "adapter_model.bin").write_bytes(b"PK")
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Graph", exact=True).fill("a, b -> out")
        page.get_by_label("Name").fill("brought")
        expect(page.get_by_text("Valid: 3 nodes")).to_be_visible()
        page.get_by_text("Begin with adapters made elsewhere").click()
        submit = page.get_by_role("button", name="Submit the run")
        page.get_by_label("Adapter of a", exact=True).set_input_files(tmp_path / "adapter_model.bin")
        submit.click()
        expect(page.get_by_label("Adapter of a", exact=True)).to_have_accessible_description(
            re.compile("got 'adapter_model.bin'; allowed are adapter_config.json and adapter_model.safetensors")
        )
        page.get_by_label("Adapter of a", exact=True).set_input_files(files[:1])
        submit.click()
        expect_fault(page, "Adapter of a", f"'brought.a' lacks {WEIGHTS} (PUT /v1/adapters/brought.a/{WEIGHTS})")
        page.get_by_label("Adapter of a", exact=True).set_input_files(files)
        type_into(page, "Largest error", "3")
        submit.click()
        expect_fault(page, "Largest error", "got 3; allowed is at most 1.0")
        type_into(page, "Largest error", "0.2")
        submit.click()
        expect(page.get_by_role("heading", name="brought")).to_be_focused()
        table = page.get_by_role("group", name="Imported adapters")
        expect(table.get_by_role("row").nth(1)).to_contain_text("not read yet")
        (run,) = api.client.get("/v1/runs", params={"name": "brought"}).json()["data"]
        assert run["imports"] == {"adapters": {"a": "brought.a"}, "max_error": 0.2, "train": False}
        made = {"method": "LORA", "rank": 2, "error": 0.0123, "worst_layer": "model.layers.1.mlp.up_proj"}
        imported = {"adapters": {"a": made}, "fresh": ["b", "out"]}
        aside(lambda: api.change(RunRecord, run["id"], imported=imported, state="succeeded"))
        expect(table.get_by_role("row").nth(1)).to_contain_text(re.compile("abrought.aLORA20.0123model.layers.1"))
        expect(page.get_by_text("b, out: 2 adapters not given, as the base.")).to_be_visible()


def test_rollouts_are_not_searched_for_a_step_that_is_none(browser: Browser, api: ApiServer) -> None:
    run = queued_run(api, name="searched")
    asked: list[str] = []
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        page.get_by_text("Search them").click()
        expect(page.get_by_text("None is as asked for.")).to_be_visible()
        page.on("request", lambda request: asked.append(request.url) if "from_step" in request.url else None)
        type_into(page, "From step", "1.5")
        page.get_by_label("To step", exact=True).focus()
        expect(page.get_by_label("From step", exact=True)).to_have_accessible_description(re.compile("1 and 2"))
        expect(page.get_by_label("From step", exact=True)).to_have_attribute("aria-invalid", "true")
        with page.expect_request(re.compile("from_step=2")):
            type_into(page, "From step", "2")
            page.get_by_label("From step", exact=True).press("Enter")
    assert len(asked) == 1
