"""The page of adapters in a browser: what was brought along, what it lacks, and its deletion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from api_server import ApiServer, running_api
from dashboard_world import opened
from playwright.sync_api import Browser, expect
from safetensors.numpy import save

from neuromas.adapters.export import CONFIG, WEIGHTS
from neuromas.services.settings import Settings

pytestmark = pytest.mark.browser
FILES = {
    CONFIG: json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}).encode(),
    WEIGHTS: save({"base_model.model.q.lora_A.weight": np.zeros((1, 64), np.float32)}),
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path / "data", port=0)) as server:
        yield server


def bring(api: ApiServer, name: str, *files: str) -> None:
    for file in files:
        assert api.client.put(f"/v1/adapters/{name}/{file}", content=FILES[file]).status_code == 200


def test_adapters_are_listed_and_deleted(browser: Browser, api: ApiServer) -> None:
    bring(api, "whole", CONFIG, WEIGHTS)
    bring(api, "half", CONFIG)
    with opened(browser, api.at("#/runs")) as page:
        page.get_by_role("link", name="Adapters", exact=True).click()
        expect(page.get_by_role("heading", name="Adapters", level=1)).to_be_focused()
        rows = page.get_by_role("row")
        expect(rows.filter(has_text="whole")).to_contain_text("LORA")
        expect(rows.filter(has_text="whole").locator("[data-column=tensors]")).to_have_text("1")
        expect(rows.filter(has_text="half")).to_contain_text(f"lacks {WEIGHTS}")
        page.get_by_role("button", name="Delete whole").click()
        page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
        expect(rows.filter(has_text="whole")).to_be_visible()
        for name in ("whole", "half"):
            page.get_by_role("button", name=f"Delete {name}").click()
            page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
            expect(rows.filter(has_text=name)).to_have_count(0)
            expect(page.locator("#announcer")).to_have_text(f"Adapter {name} deleted")
        expect(page.get_by_text("No adapters yet")).to_be_visible()
    assert api.client.get("/v1/adapters").json()["data"] == []


def test_a_deletion_that_is_refused_is_told(browser: Browser, api: ApiServer) -> None:
    bring(api, "whole", CONFIG, WEIGHTS)
    with opened(browser, api.at("#/adapters")) as page:
        delete = page.get_by_role("button", name="Delete whole")
        expect(delete).to_be_visible()
        assert api.client.delete("/v1/adapters/whole").status_code == 200
        delete.click()
        page.get_by_role("dialog").get_by_role("button", name="Delete it").click()
        expect(page.get_by_role("alert")).to_contain_text("whole")
        expect(page.get_by_text("No adapters yet")).to_be_visible()
